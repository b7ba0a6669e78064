//! Steps that were built elsewhere.

use super::local::{build, built, context, path, shown, with_busybox};
use super::{has, says, steps};
use crate::host::{Host, Registry};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const DOCKERFILE: &str = "FROM busybox:1 AS tools\nRUN cat /proc/sys/kernel/random/uuid > /chance\nFROM busybox:1\n\
    RUN cat /proc/sys/kernel/random/uuid > /own\nCOPY file /file\nCOPY --from=tools /chance /chance\n";

/// The steps that make it.
const OWN_STEP: &str = "RUN cat /proc/sys/kernel/random/uuid > /own";
const TOOLS_STEP: &str = "RUN cat /proc/sys/kernel/random/uuid > /chance";

/// What only the machine that built it can know.
const OWN: [&str; 3] = ["cat", "/own", "/chance"];

fn files(host: &Host) -> String {
    context(host, "context", &[("Dockerfile", DOCKERFILE), ("file", "1\n")])
}

/// Forgets everything but the base image, as another machine would never have known it.
fn elsewhere(host: &Host) {
    let images = host.tare(&["images", "-aq", "--no-trunc"]).ok();
    let base = host.tare(&["image", "inspect", "-f", "{{.Id}}", "busybox:1"]).ok();
    for image in images.lines().filter(|image| *image != base) {
        host.tare(&["rmi", "-f", image]).ok();
    }
    host.tare(&["builder", "prune", "-af"]).ok();
}

#[test]
fn a_registry_has_the_steps_of_all_stages() {
    let Some(host) = with_busybox() else { return };
    let _registry = Registry::start(&host, &host.folder().join("storage"), false);
    let context = files(&host);
    let cache = "127.0.0.1:5000/cache:main";
    let to = format!("type=registry,ref={cache},mode=max");
    let output = built(&host, &["-t", "web", "--cache-to", &to, &context]);
    says(&output, &[&format!("exporting cache to {cache}")]);
    let own = shown(&host, "web", &OWN);

    elsewhere(&host);
    let (ran, _) = steps(&built(&host, &["-t", "other", &context]).stderr);
    assert!(has(&ran, OWN_STEP) && has(&ran, TOOLS_STEP), "{ran:?}");
    assert_ne!(shown(&host, "other", &OWN), own);

    elsewhere(&host);
    let output = built(&host, &["-t", "web", "--cache-from", cache, &context]);
    let (ran, cached) = steps(&output.stderr);
    assert!(
        has(&cached, OWN_STEP) && has(&cached, "COPY file /file") && has(&cached, "COPY --from=tools /chance /chance"),
        "{ran:?}"
    );
    assert_eq!(shown(&host, "web", &OWN), own);

    // They came in the form in which the registry has them, and go there again as they came.
    host.tare(&["tag", "web", "127.0.0.1:5000/web"]).ok();
    let pushed = host.tare(&["push", "127.0.0.1:5000/web"]).output();
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    host.tare(&["system", "check"]).ok();

    // What changed is built, what comes before it is not.
    elsewhere(&host);
    fs::write(PathBuf::from(&context).join("file"), "2\n").unwrap();
    let from = format!("type=registry,ref={cache}");
    let (ran, cached) = steps(&built(&host, &["-t", "web", "--cache-from", &from, &context]).stderr);
    assert!(has(&cached, OWN_STEP) && has(&ran, "COPY file /file"), "{ran:?} {cached:?}");
}

#[test]
fn a_folder_has_the_steps_of_the_result_and_does_not_grow() {
    let Some(host) = with_busybox() else { return };
    let context = files(&host);
    let folder = path(&host, "cache");
    let (to, from) = (format!("type=local,dest={folder}"), format!("type=local,src={folder}"));
    let blobs = || fs::read_dir(host.folder().join("cache/blobs/sha256")).unwrap().count();
    built(&host, &["-t", "web", "--cache-to", &to, &context]);
    let (own, before) = (shown(&host, "web", &OWN[..2]), blobs());
    // What was compressed once is not compressed again, and stays as long as the step.
    let kept = || {
        let files = fs::read_dir(host.root().join("blobs/sha256")).unwrap().map(|file| file.unwrap());
        let mut kept: Vec<_> = files
            .filter(|file| fs::read(file.path()).unwrap().starts_with(b"\x1f\x8b"))
            .map(|file| (file.file_name(), file.metadata().unwrap().ino()))
            .collect();
        kept.sort();
        kept
    };
    let compressed = kept();
    host.tare(&["image", "prune", "-f"]).ok();
    built(&host, &["-t", "web", "--cache-to", &to, &context]);
    assert_eq!(kept(), compressed);
    assert!(compressed.len() > 2, "the base's and two of ours: {compressed:?}");

    elsewhere(&host);
    let output = built(&host, &["-t", "web", "--cache-from", &from, "--cache-to", &to, &context]);
    let (ran, cached) = steps(&output.stderr);
    assert!(has(&cached, OWN_STEP) && has(&ran, TOOLS_STEP), "{ran:?} {cached:?}");
    assert_eq!(shown(&host, "web", &OWN[..2]), own);
    assert_eq!(blobs(), before);
    let listed = host.command("skopeo", &["inspect", "--raw", &format!("oci:{folder}:latest")]).ok();
    assert!(listed.contains("application/vnd.tare.buildcache.config.v1+json"), "{listed}");
}

#[test]
fn the_steps_of_a_squashed_result_are_told() {
    let Some(host) = with_busybox() else { return };
    let context = files(&host);
    let folder = path(&host, "cache");
    built(&host, &["--squash", "--cache-to", &format!("type=local,dest={folder}"), &context]);
    elsewhere(&host);
    let (ran, cached) = steps(&built(&host, &["--cache-from", &format!("type=local,src={folder}"), &context]).stderr);
    assert!(has(&cached, OWN_STEP) && has(&ran, TOOLS_STEP), "{ran:?} {cached:?}");
}

#[test]
fn an_image_tells_of_its_own_steps() {
    let Some(host) = with_busybox() else { return };
    let _registry = Registry::start(&host, &host.folder().join("storage"), false);
    let context = files(&host);
    let image = "127.0.0.1:5000/web:1";
    built(&host, &["-t", image, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "--push", &context]);
    let own = shown(&host, image, &OWN[..2]);
    elsewhere(&host);
    let output = built(&host, &["-t", image, "--cache-to", "type=inline", "--cache-from", image, &context]);
    let (ran, cached) = steps(&output.stderr);
    assert!(has(&cached, OWN_STEP) && has(&ran, TOOLS_STEP), "{ran:?} {cached:?}");
    assert_eq!(shown(&host, image, &OWN[..2]), own);
}

#[test]
fn a_cache_that_cannot_be_used_is_told_and_does_not_end_the_build() {
    let Some(host) = with_busybox() else { return };
    let _registry = Registry::start(&host, &host.folder().join("storage"), false);
    let context = files(&host);
    let gone = path(&host, "gone");
    let from = format!("type=local,src={gone}");
    let output = built(&host, &["--cache-from", "127.0.0.1:5000/none", "--cache-from", &from, &context]);
    says(
        &output,
        &[
            "importing cache from 127.0.0.1:5000/none:latest",
            "ERROR: manifest for 127.0.0.1:5000/none:latest not found",
            &format!("ERROR: read {gone}/index.json: No such file or directory"),
        ],
    );

    // A layer that is gone, or is something else, is built.
    let folder = path(&host, "cache");
    built(&host, &["--cache-to", &format!("type=local,dest={folder}"), &context]);
    elsewhere(&host);
    for blob in fs::read_dir(host.folder().join("cache/blobs/sha256")).unwrap() {
        let blob = blob.unwrap().path();
        let bytes = fs::read(&blob).unwrap();
        if bytes.starts_with(b"\x1f\x8b") {
            fs::write(&blob, [&bytes[..bytes.len() - 1], b"x"].concat()).unwrap();
        }
    }
    let output = built(&host, &["-t", "web", "--cache-from", &format!("type=local,src={folder}"), &context]);
    let (ran, _) = steps(&output.stderr);
    assert!(has(&ran, OWN_STEP), "{}", output.stderr);
    says(&output, &["the cached result cannot be used: "]);
    assert_ne!(shown(&host, "web", &OWN), "");
    host.tare(&["system", "check"]).ok();

    let refused = build(&host, &["--cache-to", "type=gha", &context]).fails(1);
    says(&refused, &["cache type \"gha\" is not supported: only registry, local and inline are"]);
}
