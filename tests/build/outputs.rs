//! Where results go.

use super::{Context, build, id, run, says};
use crate::host::{Host, Registry};
use serde_json::Value;
use std::fs;

const DOCKERFILE: &str = "FROM BASE AS build\nRUN mkdir -p /out/sub && echo made > /out/sub/made && chmod 750 /out/sub\nFROM scratch\nCOPY --from=build /out /\n";

fn at(host: &Host, name: &str) -> String {
    host.folder().join(name).display().to_string()
}

#[test]
fn ids_and_metadata() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, DOCKERFILE);
    let (iidfile, metadata) = (at(&host, "iid"), at(&host, "metadata.json"));
    let path = context.path();
    let quiet =
        host.tare(&["build", "-q", "-t", "web", "--iidfile", &iidfile, "--metadata-file", &metadata, &path]).output();
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert_eq!(quiet.stdout, format!("{}\n", id(&host, "web")));
    assert_eq!(fs::read_to_string(&iidfile).unwrap(), id(&host, "web"));
    let value: Value = serde_json::from_str(&fs::read_to_string(&metadata).unwrap()).unwrap();
    assert_eq!(value["containerimage.config.digest"], id(&host, "web"));
    assert_eq!(value["image.name"], "docker.io/library/web:latest");
    assert!(value["containerimage.digest"].as_str().unwrap().starts_with("sha256:"), "{value}");
    // A build that fails leaves no id of another one.
    context.write("Dockerfile", "FROM scratch\nNONSENSE\n");
    build(&host, &context, &["--iidfile", &iidfile]).fails(1);
    assert!(!host.folder().join("iid").exists());
}

#[test]
fn files_instead_of_images() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, DOCKERFILE);
    let (out, tar) = (at(&host, "out"), at(&host, "out.tar"));
    build(&host, &context, &["-o", &out]).ok();
    assert_eq!(fs::read_to_string(host.folder().join("out/sub/made")).unwrap(), "made\n");
    assert_eq!(host.command("stat", &["-c", "%a", &format!("{out}/sub")]).ok(), "750");
    build(&host, &context, &["-o", &format!("type=tar,dest={tar}")]).ok();
    let listed = host.command("tar", &["-tf", &tar]).ok();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["sub/", "sub/made"]);
    let program = crate::host::program().display().to_string();
    let (root, run_root, path) =
        (host.root().display().to_string(), host.run_root().display().to_string(), context.path());
    let piped = format!("{program} --root {root} --run-root {run_root} build -o - {path} | tar -xOf - sub/made");
    assert_eq!(host.command("sh", &["-c", &piped]).ok(), "made");
    // What it started from was pulled; of the results nothing is kept.
    assert_eq!(host.tare(&["images", "-aq"]).ok().lines().count(), 1);
    let is_file = build(&host, &context, &["-o", &tar]).fails(1);
    says(&is_file, &[&format!("ERROR: destination directory {tar} is a file")]);
}

#[test]
fn layouts_that_others_read() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUN echo made > /made\nCMD [\"cat\", \"/made\"]\n");
    let (oci, docker) = (at(&host, "oci.tar"), at(&host, "docker.tar"));
    let outputs = [&format!("type=oci,dest={oci}"), &format!("type=docker,dest={docker}")];
    build(&host, &context, &["-t", "web:1", "-o", outputs[0], "-o", outputs[1]]).ok();
    assert_eq!(host.tare(&["images", "-q"]).ok().lines().count(), 1);
    let inspected = |from: &str| host.command("skopeo", &["inspect", "--config", from]).ok();
    let one: Value = serde_json::from_str(&inspected(&format!("oci-archive:{oci}"))).unwrap();
    let other: Value = serde_json::from_str(&inspected(&format!("docker-archive:{docker}"))).unwrap();
    assert_eq!(one["config"]["Cmd"], serde_json::json!(["cat", "/made"]));
    assert_eq!(one["rootfs"], other["rootfs"]);
    for archive in [&oci, &docker] {
        assert_eq!(host.tare(&["load", "-i", archive]).ok(), "Loaded image: web:1");
        assert_eq!(run(&host, "web:1", &[]), "made");
        host.tare(&["rmi", "web:1"]).ok();
    }
    build(&host, &context, &["-t", "web:2", "--load", "-o", outputs[0]]).ok();
    assert_eq!(run(&host, "web:2", &[]), "made");
}

#[test]
fn what_is_built_can_be_pushed() {
    let Some(host) = Host::new() else { return };
    let registry = Registry::start(&host, &host.folder().join("own"), false);
    registry.push(&host.network_namespace(), &crate::host::layout("busybox"), "busybox");
    let context = Context::of_dockerfile(&host, "FROM 127.0.0.1:5000/busybox\nRUN echo made > /made\n");
    let name = "127.0.0.1:5000/team/web:1";
    let output = build(&host, &context, &["-t", name, "--push"]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    says(&output, &["The push refers to repository [127.0.0.1:5000/team/web]", "1: digest: sha256:"]);
    let built = id(&host, name);
    host.tare(&["rmi", name]).ok();
    host.tare(&["pull", "-q", name]).ok();
    assert_eq!(id(&host, name), built);
    says(&build(&host, &context, &["--push"]).fails(1), &["ERROR: tag is needed when pushing to registry"]);
}

#[test]
fn a_squashed_image_has_one_layer_over_its_base() {
    let Some(host) = Host::new() else { return };
    let dockerfile = "FROM BASE\nRUN mkdir -p /kept/sub /gone && touch /kept/a /kept/sub/b /gone/c && ln /kept/a /kept/hard\n\
        RUN rm -r /gone /kept/sub /etc/passwd && ln -s kept /gone && echo new > /kept/a\n\
        RUN rm -r /bin/vi /home && mkdir /home && echo mine > /home/only && rmdir /root && mkdir /root\nENV A=1\n";
    let context = Context::of_dockerfile(&host, dockerfile);
    build(&host, &context, &["-t", "plain"]).ok();
    let script = "find / -mindepth 1 -xdev -not -path '/proc*' -not -path '/dev*' -not -path '/sys*' -exec stat -c '%n %f %u %g %Y' {} + | grep -v /etc/ | sort; cat /kept/a /home/only";
    let tree = |image: &str| run(&host, image, &["sh", "-c", script]);
    let layers = |image: &str| crate::build::inspect(&host, image, "/RootFS/Layers").as_array().unwrap().len();
    let expected = tree("plain");
    build(&host, &context, &["-t", "squashed", "--squash"]).ok();
    assert_eq!(tree("squashed"), expected);
    assert_eq!((layers("plain"), layers("squashed")), (4, 2));
    let history = host.tare(&["history", "--no-trunc", "squashed"]).ok();
    assert!(history.contains("ENV A=1") && history.contains("squashed"), "{history}");
    let first = id(&host, "squashed");
    build(&host, &context, &["-t", "again", "--squash", "--no-cache"]).ok();
    assert_eq!(id(&host, "again"), first, "the same each time");
}

#[test]
fn a_file_that_a_folder_followed_hides_what_the_base_has() {
    let Some(host) = Host::new() else { return };
    let base =
        Context::of_dockerfile(&host, "FROM BASE\nRUN mkdir -p /d/sub /e && touch /d/old /d/sub/old /e/old /e/gone\n");
    build(&host, &base, &["-t", "base"]).ok();
    // The archive's folders say nothing of what was there before.
    let dockerfile = "FROM base\nRUN rm -r /d /e/gone && touch /d\nRUN rm /d\nADD d.tar /\nRUN rm -r /e && ln -s d /e\nADD e.tar /\n";
    base.write("Dockerfile", dockerfile);
    let context = base;
    for name in ["d", "e"] {
        let script = format!("mkdir -p {name}/sub && touch {name}/sub/new && tar -cf $0 {name} && rm -r {name}");
        host.command("sh", &["-c", &script, &format!("{}/{name}.tar", context.path())]).ok();
    }
    build(&host, &context, &["-t", "plain"]).ok();
    build(&host, &context, &["-t", "squashed", "--squash"]).ok();
    let tree = |image: &str| run(&host, image, &["sh", "-c", "find /d /e | sort"]);
    assert_eq!(tree("squashed"), tree("plain"));

    // Whiteouts come before what else is in their folder, and others understand them.
    let (layout, bundle) = (at(&host, "layout"), at(&host, "bundle"));
    build(&host, &context, &["--squash", "-o", &format!("type=oci,dest={layout},tar=false,name=squashed:1")]).ok();
    host.command("umoci", &["raw", "unpack", "--image", &format!("{layout}:1"), &bundle]).ok();
    let unpacked = host.command("sh", &["-c", &format!("cd {bundle} && find d e | sort")]).ok();
    assert_eq!(unpacked, tree("plain").lines().map(|line| &line[1..]).collect::<Vec<_>>().join("\n"));
}
