//! A registry in front of another one.

use crate::{MANIFEST, Registry, digest, eventually, files, options};
use std::path::Path;
use tare_engine::registry::{ServerOptions, upstream};

fn cache(root: &Path, origin: &Registry) -> Registry {
    let proxy = upstream(&format!("http://{}", origin.address)).unwrap();
    Registry::with(root, ServerOptions { proxy: Some(proxy), ..options() })
}

/// How often a registry answered requests for such a path.
fn asked(registry: &Registry, method: &str, part: &str) -> usize {
    let events = registry.events.lock().unwrap();
    let accesses = events.iter().filter_map(|event| match event {
        tare_engine::registry::Event::Access(access) => Some(access),
        tare_engine::registry::Event::Trouble(_) => None,
    });
    accesses.filter(|access| access.method == method && access.target.contains(part)).count()
}

#[test]
fn content_is_fetched_once_and_outlives_its_origin() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Registry::start(one.path());
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    let (config, layer) = (origin.push("a/b", b"{}"), origin.push("a/b", &body));
    let manifest = origin.push_manifest("a/b", "latest", &[&config, &layer], "");
    let cache = cache(other.path(), &origin);
    let answer = cache.get("/v2/a/b/manifests/latest");
    assert_eq!((answer.status, answer.header("docker-content-digest")), (200, Some(manifest.as_str())));
    let path = format!("/v2/a/b/blobs/{layer}");
    let head = cache.call("HEAD", &path).send();
    assert_eq!((head.status, head.header("content-length")), (200, Some("3000000")));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(cache.get(&path).body, body));
        }
    });
    assert_eq!(
        cache.call("GET", &path).header("range", "bytes=1000000-1999999").send().body,
        body[1_000_000..2_000_000]
    );
    assert_eq!(asked(&origin, "GET", layer.as_str()), 1);
    // A tag is looked up each time, the manifest is not fetched again.
    let fetched = asked(&origin, "GET", "/manifests/");
    cache.get("/v2/a/b/manifests/latest");
    assert_eq!(asked(&origin, "GET", "/manifests/"), fetched);
    let newer = origin.push_manifest("a/b", "latest", &[&config], "");
    assert_eq!(cache.get("/v2/a/b/manifests/latest").header("docker-content-digest"), Some(newer.as_str()));
    assert_eq!(cache.get("/v2/a/b/tags/list").json()["tags"], serde_json::json!(["latest"]));
    assert_eq!(cache.get("/v2/a/b/manifests/nope").code(), "MANIFEST_UNKNOWN");
    assert_eq!(cache.get(&format!("/v2/a/b/blobs/{}", digest(b"nope"))).code(), "BLOB_UNKNOWN");
    assert_eq!(cache.put("a/b", "t", MANIFEST, "{}").code(), "UNSUPPORTED");
    // Gone there, gone here.
    origin.push_manifest("a/b", "old", &[&config], "");
    assert_eq!(cache.status("/v2/a/b/manifests/old"), 200);
    origin.call("DELETE", "/v2/a/b/manifests/old").send();
    assert_eq!(cache.status("/v2/a/b/manifests/old"), 404);
    origin.end();
    let answer = cache.get("/v2/a/b/manifests/latest");
    assert_eq!((answer.status, answer.header("warning").is_some()), (200, true));
    assert_eq!(cache.get(&path).body, body);
    assert_eq!(cache.status(&format!("/v2/a/b/manifests/{manifest}")), 200);
    assert_eq!(cache.get("/v2/a/b/manifests/unseen").status, 502);
}

/// The origin's disk is damaged: nobody gets a whole blob of that, and nothing of it is kept.
#[test]
fn what_does_not_match_its_digest_is_not_kept() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Registry::start(one.path());
    let body = vec![5; 1 << 20];
    let blob = origin.push("a", &body);
    let path = one.path().join(format!("blobs/sha256/{}", blob.hex()));
    let mut damaged = body.clone();
    damaged[1000] = 6;
    std::fs::write(&path, damaged).unwrap();
    let cache = cache(other.path(), &origin);
    let answer = cache.get(&format!("/v2/a/blobs/{blob}"));
    // Broken off within the bytes, or refused when the damage was known before the first of them.
    assert!((!answer.whole || answer.status != 200) && answer.body.len() < body.len(), "{}", answer.status);
    eventually("the download has ended", || !cache.troubles().is_empty());
    assert!(cache.troubles()[0].contains("expected"), "{:?}", cache.troubles());
    assert!(files(other.path()).is_empty(), "{:?}", files(other.path()));
    // Mended there, it can be had here.
    std::fs::write(&path, &body).unwrap();
    eventually("it is whole", || cache.get(&format!("/v2/a/blobs/{blob}")).body == body);
}

/// Neither is what is shorter or longer than the same bytes would be.
#[test]
fn what_has_not_the_size_of_its_digest_is_not_kept() {
    let body = vec![5; 1 << 20];
    for (what, damaged) in [("shorter", body[1..].to_vec()), ("longer", [&body[..], b"x"].concat())] {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let origin = Registry::start(one.path());
        let blob = origin.push("a", &body);
        std::fs::write(one.path().join(format!("blobs/sha256/{}", blob.hex())), damaged).unwrap();
        let cache = cache(other.path(), &origin);
        let answer = cache.get(&format!("/v2/a/blobs/{blob}"));
        assert!(!answer.whole || answer.status != 200, "{what}: {}", answer.status);
        eventually("the download has ended", || !cache.troubles().is_empty());
        assert!(files(other.path()).is_empty(), "{what}: {:?}", files(other.path()));
    }
}
