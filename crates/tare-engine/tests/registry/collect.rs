//! Collections, beside a running server.

use crate::{MANIFEST, Registry, digest, files, manifest};
use std::time::Duration;
use tare_engine::registry::{CollectOptions, Collected, collect};

fn run(root: &std::path::Path, dry_run: bool, untagged: bool, grace: Duration) -> Collected {
    collect(root, &CollectOptions { dry_run, untagged, grace }).unwrap()
}

#[test]
fn only_what_nothing_refers_to_goes() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let (config, layer, lost) = (registry.push("a", b"{}"), registry.push("a", b"layer"), registry.push("a", b"lost"));
    let kept = registry.push_manifest("a", "latest", &[&config, &layer], "");
    registry.push("b/c", b"only here");
    let before = files(root.path());
    // Young: its manifest may be on its way.
    let young = run(root.path(), false, false, Duration::from_secs(600));
    assert!(young.blobs.is_empty() && young.content.is_empty(), "{young:?}");
    let told = run(root.path(), true, false, Duration::ZERO);
    assert_eq!(files(root.path()), before);
    let done = run(root.path(), false, false, Duration::ZERO);
    assert_eq!((&told.blobs, &told.content), (&done.blobs, &done.content));
    let names: Vec<&str> = done.blobs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b/c"]);
    let mut content: Vec<_> = done.content.iter().map(|(digest, _)| digest.clone()).collect();
    content.sort();
    let mut expected = vec![lost.clone(), digest(b"only here")];
    expected.sort();
    assert_eq!(content, expected);
    assert!(!root.path().join("repositories/b").exists());
    assert_eq!(registry.status(&format!("/v2/a/blobs/{lost}")), 404);
    assert_eq!(registry.status(&format!("/v2/a/blobs/{layer}")), 200);
    assert_eq!(registry.status(&format!("/v2/a/manifests/{kept}")), 200);
    // What was collected can be pushed again, also into a repository that was removed.
    registry.push("b/c", b"only here");
    let again = run(root.path(), false, false, Duration::from_secs(600));
    assert!(again.content.is_empty() && again.problems.is_empty(), "{again:?}");
}

#[test]
fn untagged_manifests_go_when_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let (config, old) = (registry.push("a", b"{}"), registry.push("a", b"old"));
    let untagged = registry.push_manifest("a", "t", &[&config, &old], "");
    let tagged = registry.push_manifest("a", "t", &[&config], "");
    // A signature stays as long as what it signs.
    let subject =
        |of: &tare_spec::Digest| format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{of}","size":1}}"#);
    let sign = |of| {
        let document = manifest(&[&config], &subject(of));
        assert_eq!(registry.put("a", digest(document.as_bytes()).as_str(), MANIFEST, &document).status, 201);
        digest(document.as_bytes())
    };
    let (kept, gone) = (sign(&tagged), sign(&untagged));
    assert!(run(root.path(), false, false, Duration::ZERO).manifests.is_empty());
    let done = run(root.path(), false, true, Duration::ZERO);
    let mut removed: Vec<_> = done.manifests.iter().map(|(_, digest)| digest.clone()).collect();
    removed.sort();
    let mut expected = vec![untagged.clone(), gone];
    expected.sort();
    assert_eq!(removed, expected);
    assert_eq!(registry.status(&format!("/v2/a/blobs/{old}")), 404);
    assert_eq!(registry.status(&format!("/v2/a/manifests/{kept}")), 200);
    assert_eq!(registry.get(&format!("/v2/a/referrers/{untagged}")).json()["manifests"], serde_json::json!([]));
}

#[test]
fn pushes_and_collections_at_once_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..3)
            .map(|worker| {
                let registry = &registry;
                scope.spawn(move || {
                    for turn in 0..15 {
                        let (name, bytes) = (format!("r{worker}"), format!("layer {worker} {turn}"));
                        // A collection without any grace may take a blob before its manifest comes: then it is said so, and pushed again.
                        loop {
                            let (config, layer) = (registry.push(&name, b"{}"), registry.push(&name, bytes.as_bytes()));
                            let document = manifest(&[&config, &layer], "");
                            let answer = registry.put(&name, &format!("t{turn}"), MANIFEST, &document);
                            match answer.status {
                                201 => break,
                                _ => assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN"),
                            }
                        }
                    }
                })
            })
            .collect();
        while !pushing.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let collected = run(root.path(), false, false, Duration::ZERO);
            assert!(collected.problems.is_empty(), "{:?}", collected.problems);
        }
    });
    for worker in 0..3 {
        for turn in 0..15 {
            let manifest = registry.get(&format!("/v2/r{worker}/manifests/t{turn}")).json();
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            let body = registry.get(&format!("/v2/r{worker}/blobs/{layer}")).body;
            assert_eq!(String::from_utf8(body).unwrap(), format!("layer {worker} {turn}"));
        }
    }
    assert!(registry.troubles().is_empty(), "{:?}", registry.troubles());
}

#[test]
fn a_damaged_repository_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let config = registry.push("a", b"{}");
    let manifest = registry.push_manifest("a", "t", &[&config], "");
    let lost = registry.push("a", b"lost");
    std::fs::remove_file(root.path().join(format!("blobs/sha256/{}", manifest.hex()))).unwrap();
    let done = run(root.path(), false, true, Duration::ZERO);
    assert!(done.problems[0].to_string().contains(manifest.hex()), "{:?}", done.problems);
    assert_eq!(registry.status(&format!("/v2/a/blobs/{lost}")), 200);
    assert!(
        collect(
            &root.path().join("nowhere"),
            &CollectOptions { dry_run: false, untagged: false, grace: Duration::ZERO }
        )
        .is_err()
    );
}
