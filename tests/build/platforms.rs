//! Images for several platforms.

use super::local::{build, built, context, path, with_busybox};
use super::{has, says, steps};
use crate::host::{Host, Registry};
use serde_json::Value;

const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY file-$TARGETARCH /file\nLABEL arch=$TARGETARCH\n";

const NAME: &str = "127.0.0.1:5000/web:1";

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

fn files(host: &Host) -> String {
    let files = [("Dockerfile", DOCKERFILE), ("file-amd64", "amd64\n"), ("file-arm64", "arm64\n")];
    context(host, "context", &files)
}

fn raw(host: &Host, name: &str) -> Value {
    let raw = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")];
    serde_json::from_str(&host.command("skopeo", &raw).ok()).unwrap()
}

fn label(host: &Host, architecture: &str, image: &str) -> String {
    let arguments = ["--override-arch", architecture, "inspect", "--config", "--tls-verify=false", image];
    let config: Value = serde_json::from_str(&host.command("skopeo", &arguments).ok()).unwrap();
    assert_eq!(config["architecture"], architecture);
    config["config"]["Labels"]["arch"].as_str().unwrap().to_owned()
}

#[test]
fn one_name_stands_for_all_of_them() {
    let Some(host) = with_busybox() else { return };
    let _registry = Registry::start(&host, &host.folder().join("storage"), false);
    let context = files(&host);
    let metadata = path(&host, "metadata.json");
    let arguments = [&BOTH[..], &["-t", NAME, "--metadata-file", &metadata, &context]].concat();
    let (ran, _) = steps(&built(&host, &arguments).stderr);
    assert!(has(&ran, "COPY file-amd64 /file") && has(&ran, "COPY file-arm64 /file"), "{ran:?}");
    let listed = host.tare(&["images", "-q"]).ok();
    assert_eq!(listed.lines().count(), 2, "the base and one for both: {listed}");

    // The other one is part of it: it does not go by itself, and goes with it.
    host.tare(&["image", "prune", "-f"]).ok();
    host.tare(&["push", "-q", NAME]).ok();
    let index = raw(&host, NAME);
    let architectures: Vec<&str> = index["manifests"].as_array().unwrap().iter().map(architecture).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    for architecture in architectures {
        assert_eq!(label(&host, architecture, &format!("docker://{NAME}")), architecture);
    }

    let archive = path(&host, "web.tar");
    host.tare(&["save", "-o", &archive, NAME]).ok();
    let removed = host.tare(&["rmi", NAME]).ok();
    assert_eq!(removed.matches("Deleted: ").count(), 2, "both, and their layers stay in the cache: {removed}");
    assert_eq!(label(&host, "arm64", &format!("oci-archive:{archive}:1")), "arm64");

    // Loaded, it is the same again.
    host.tare(&["load", "-q", "-i", &archive]).ok();
    host.tare(&["tag", NAME, "127.0.0.1:5000/again:1"]).ok();
    host.tare(&["push", "-q", "127.0.0.1:5000/again:1"]).ok();
    assert_eq!(raw(&host, "127.0.0.1:5000/again:1"), index);

    // One of them only.
    host.tare(&["rmi", NAME, "127.0.0.1:5000/again:1"]).ok();
    host.tare(&["load", "-q", "--platform", "linux/amd64", "-i", &archive]).ok();
    assert_eq!(host.tare(&["images", "-aq"]).ok().lines().count(), 2);
    host.tare(&["system", "check"]).ok();
}

fn architecture(entry: &Value) -> &str {
    entry["platform"]["architecture"].as_str().unwrap()
}

#[test]
fn outputs_have_all_of_them() {
    let Some(host) = with_busybox() else { return };
    let context = files(&host);
    let (archive, folder) = (path(&host, "web.tar"), path(&host, "out"));
    let oci = format!("type=oci,dest={archive}");
    built(&host, &[&BOTH[..], &["-t", "web:1", "-o", &oci, "-o", &folder, &context]].concat());
    for architecture in ["amd64", "arm64"] {
        assert_eq!(label(&host, architecture, &format!("oci-archive:{archive}:1")), architecture);
        let file = host.folder().join(format!("out/linux_{architecture}/file"));
        assert_eq!(std::fs::read_to_string(file).unwrap().trim(), architecture);
    }
    assert_eq!(host.tare(&["images", "-aq"]).ok().lines().count(), 1, "the base only");
    let tar = format!("type=tar,dest={archive}");
    let refused = build(&host, &[&BOTH[..], &["-o", &tar, &context]].concat()).fails(1);
    says(
        &refused,
        &["folders for platforms in an archive of files are not supported: -o FOLDER writes a folder for each"],
    );
    let (digest, again) = (path(&host, "one"), path(&host, "two"));
    for metadata in [&digest, &again] {
        built(&host, &[&BOTH[..], &["-t", "web:1", "--metadata-file", metadata, &context]].concat());
    }
    assert_eq!(std::fs::read(digest).unwrap(), std::fs::read(again).unwrap(), "the same index each time");
}

/// The architectures that a name stands for in a registry.
fn pushed(host: &Host, name: &str) -> Vec<String> {
    host.tare(&["push", "-q", name]).ok();
    let document = raw(host, name);
    let Some(manifests) = document["manifests"].as_array() else { return Vec::new() };
    manifests.iter().map(|entry| architecture(entry).to_owned()).collect()
}

#[test]
fn names_share_images_and_keep_what_they_stand_for() {
    let Some(host) = with_busybox() else { return };
    let _registry = Registry::start(&host, &host.folder().join("storage"), false);
    let context = files(&host);
    let [one, two, single] = ["one", "two", "single"].map(|tag| format!("127.0.0.1:5000/web:{tag}"));
    let both = |name: &str| built(&host, &[&BOTH[..], &["-t", name, &context]].concat());
    both(&one);
    // The same image by itself, and one that shares a platform with it.
    built(&host, &["--platform", "linux/amd64", "-t", &single, &context]);
    std::fs::write(host.folder().join("context/file-amd64"), "other\n").unwrap();
    both(&two);
    host.tare(&["image", "prune", "-f"]).ok();
    assert_eq!(pushed(&host, &single), [""; 0]);
    assert_eq!(pushed(&host, &two), ["amd64", "arm64"]);
    host.tare(&["rmi", &two]).ok();
    assert_eq!(pushed(&host, &one), ["amd64", "arm64"]);
    host.tare(&["rmi", &single]).ok();
    assert_eq!(pushed(&host, &one), ["amd64", "arm64"]);

    // A part does not go by its id while a name stands for it.
    let id = |platform: &str| host.tare(&["image", "inspect", "--platform", platform, "-f", "{{.Id}}", &one]).ok();
    let (amd, arm) = (id("linux/amd64"), id("linux/arm64"));
    assert_ne!(amd, arm);
    let refused = host.tare(&["rmi", "-f", &arm]).fails(1);
    says(&refused, &["a name stands for it together with images for other platforms"]);

    // By its platform, wherever one is asked for.
    host.tare(&["create", "--pull", "never", "--name", "arm", "--platform", "linux/arm64", &one, "/x"]).ok();
    assert_eq!(host.inspect("arm", "/Image"), arm);
    let none = host.tare(&["create", "--pull", "never", "--platform", "linux/s390x", &one, "/x"]).fails(1);
    says(&none, &["linux/s390x"]);
    // What a container has stays, and is nobody's afterwards.
    host.tare(&["rmi", "-f", &one]).ok();
    host.tare(&["rm", "arm"]).ok();
    host.tare(&["image", "prune", "-f"]).ok();
    assert_eq!(host.tare(&["images", "-aq"]).ok().lines().count(), 1, "the base");
    host.tare(&["system", "check"]).ok();
}

#[test]
fn the_index_is_a_word_for_its_image() {
    let Some(host) = with_busybox() else { return };
    let context = files(&host);
    let index = host.tare(&[&["build", "-q"], &BOTH[..], &[&context]].concat()).ok();
    host.tare(&["tag", &index, "web:1"]).ok();
    let archive = path(&host, "web.tar");
    host.tare(&["save", "-o", &archive, "web:1"]).ok();
    for architecture in ["amd64", "arm64"] {
        assert_eq!(label(&host, architecture, &format!("oci-archive:{archive}:1")), architecture);
    }
    host.tare(&["image", "prune", "-f"]).ok();
    host.tare(&["rmi", "web:1"]).ok();
    assert_eq!(host.tare(&["images", "-aq"]).ok().lines().count(), 1, "the base");
}
