//! `pull` and what may go wrong on its way.

use crate::host::{Host, Registry};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn run_pulls_what_is_missing() {
    let Some(host) = Host::new() else { return };
    let image = host.image("busybox");
    let first = host.tare(&["run", "--rm", &image, "echo", "there"]).output();
    assert_eq!((first.code, first.stdout.as_str()), (0, "there\n"), "{}", first.stderr);
    assert!(first.stderr.contains("Unable to find image '127.0.0.1:5000/busybox:latest' locally"), "{}", first.stderr);
    let second = host.tare(&["run", "--rm", &image, "echo", "there"]).output();
    assert_eq!(second.stderr, "");
    let again = host.tare(&["pull", &image]).ok();
    assert!(again.contains("Status: Image is up to date for 127.0.0.1:5000/busybox:latest"), "{again}");
}

#[test]
fn a_pull_by_digest_gets_exactly_that() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let digests = host.inspect(&image, "/RepoDigests");
    let by_digest = digests[0].as_str().unwrap().to_owned();
    assert!(by_digest.starts_with("127.0.0.1:5000/busybox@sha256:"), "{by_digest}");
    host.tare(&["rmi", "-f", &image]).ok();
    host.tare(&["pull", "-q", &by_digest]).ok();
    assert_eq!(host.tare(&["run", "--rm", &by_digest, "echo", "exact"]).ok(), "exact");
    let other = format!("127.0.0.1:5000/busybox@sha256:{}", "0".repeat(64));
    host.tare(&["pull", &other]).fails(1);
}

#[test]
fn unknown_images_and_registries_that_are_down() {
    let Some(host) = Host::new() else { return };
    host.image("busybox");
    let unknown = host.tare(&["run", "--rm", "127.0.0.1:5000/nothing", "true"]).fails(125);
    assert!(unknown.stderr.contains("127.0.0.1:5000/nothing"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("not found"), "{}", unknown.stderr);
    let tag = host.tare(&["pull", "127.0.0.1:5000/busybox:no-such-tag"]).fails(1);
    assert!(tag.stderr.contains("manifest for 127.0.0.1:5000/busybox:no-such-tag not found"), "{}", tag.stderr);
    let down = host.tare(&["pull", "127.0.0.1:5999/busybox"]).fails(1);
    assert!(down.stderr.contains("connection refused") && down.stderr.contains("127.0.0.1:5999"), "{}", down.stderr);
    let grammar = host.tare(&["pull", "Not/A:Reference!"]).fails(1);
    assert!(grammar.stderr.contains("invalid reference format"), "{}", grammar.stderr);
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    assert_store_is_empty(&host);
}

#[test]
fn a_corrupt_layer_is_refused_and_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    let storage = host.folder().join("registry");
    let registry = Registry::start(&host, &storage, false);
    registry.push(&host.network_namespace(), &crate::host::layout("busybox"), "busybox");
    // The largest blob is the layer: one bit of it changes on the registry's disk.
    let layer = blobs(&storage).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let wrong = host.tare(&["pull", "127.0.0.1:5000/busybox"]).fails(1);
    assert!(wrong.stderr.contains("sha256:"), "{}", wrong.stderr);
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    assert_store_is_empty(&host);
}

#[test]
fn a_layer_that_ends_early_is_refused_and_pulled_later() {
    let Some(host) = Host::new() else { return };
    let storage = host.folder().join("registry");
    let registry = Registry::start(&host, &storage, false);
    registry.push(&host.network_namespace(), &crate::host::layout("busybox"), "busybox");
    let layer = blobs(&storage).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, &whole[..whole.len() / 2]).unwrap();
    host.tare(&["pull", "127.0.0.1:5000/busybox"]).fails(1);
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    fs::write(&layer, whole).unwrap();
    host.tare(&["pull", "127.0.0.1:5000/busybox"]).ok();
    host.tare(&["run", "--rm", "--network", "none", "127.0.0.1:5000/busybox", "true"]).ok();
    host.tare(&["rmi", "127.0.0.1:5000/busybox"]).ok();
    assert_store_is_empty(&host);
}

#[test]
fn layers_are_kept_as_asked_for() {
    let Some(host) = Host::new() else { return };
    let image = host.image("busybox");
    for (driver, has, has_not) in [("dir", "fs", "data.tar"), ("erofs", "data.tar", "fs")] {
        let info = host.tare(&["--storage-driver", driver, "info"]).ok();
        assert!(info.contains(&format!(" Storage Driver: {driver}\n")), "{info}");
        host.tare(&["pull", "-q", &image]).env("TARE_STORAGE_DRIVER", driver).ok();
        let layers: Vec<_> = fs::read_dir(host.root().join("layers/sha256")).unwrap().map(|e| e.unwrap()).collect();
        assert_eq!(layers.len(), 1);
        assert!(layers[0].path().join(has).exists() && !layers[0].path().join(has_not).exists(), "{driver}");
        // What is there is used as it is, whatever new layers would be.
        let run = ["--storage-driver", "dir", "run", "--rm", "--network", "none", &image, "cat", "/data/plain"];
        assert_eq!(host.tare(&run).ok(), "not a program");
        host.tare(&["rmi", &image]).ok();
        assert_store_is_empty(&host);
    }
    let unknown = host.tare(&["--storage-driver", "zfs", "info"]).fails(125);
    assert!(unknown.stderr.contains("storage driver \"zfs\" is not supported\nhint: "), "{}", unknown.stderr);
}

/// No layer, no blob and no temporary file of any.
fn assert_store_is_empty(host: &Host) {
    let mut files = Vec::new();
    walk(&host.root().join("layers"), &mut files);
    walk(&host.root().join("blobs"), &mut files);
    files.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
    assert!(files.is_empty(), "{files:?}");
}

fn blobs(storage: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(&storage.join("docker/registry/v2/blobs"), &mut files);
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}
