//! Pulling, manifests, lists and referrers.

use crate::{INDEX, MANIFEST, Registry, digest, manifest, sha512};

#[test]
fn parts_of_blobs() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let body: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let path = format!("/v2/a/blobs/{}", registry.push("a", &body));
    let range = |range: &str| registry.call("GET", &path).header("range", range).send();
    let answer = registry.get(&path);
    assert_eq!((answer.status, answer.header("accept-ranges"), &answer.body), (200, Some("bytes"), &body));
    let answer = range("bytes=10-500009");
    assert_eq!((answer.status, answer.header("content-range")), (206, Some("bytes 10-500009/700000")));
    assert_eq!(answer.body, body[10..=500_009]);
    assert_eq!(range("bytes=-5").body, body[699_995..]);
    let answer = range("bytes=700000-");
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */700000")));
    let etag = answer_tag(&registry, &path);
    let unchanged = registry.call("GET", &path).header("if-none-match", &etag).send();
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let other = registry.call("GET", &path).header("range", "bytes=0-0").header("if-range", "\"x\"").send();
    assert_eq!((other.status, other.body.len()), (200, body.len()));
    let head = registry.call("HEAD", &path).send();
    assert_eq!((head.header("content-length"), head.body.len()), (Some("700000"), 0));
}

fn answer_tag(registry: &Registry, path: &str) -> String {
    registry.get(path).header("etag").unwrap().to_owned()
}

#[test]
fn manifests_need_what_they_name() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let (config, layer) = (registry.push("a", b"{}"), digest(b"layer"));
    let document = manifest(&[&config, &layer], "");
    let answer = registry.put("a", "latest", MANIFEST, &document);
    assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert!(String::from_utf8_lossy(&answer.body).contains(layer.as_str()), "{answer:?}");
    // Elsewhere is not here.
    registry.push("b", b"layer");
    assert_eq!(registry.put("a", "latest", MANIFEST, &document).code(), "MANIFEST_BLOB_UNKNOWN");
    registry.push("a", b"layer");
    let answer = registry.put("a", "latest", MANIFEST, &document);
    assert_eq!(
        (answer.status, answer.header("docker-content-digest")),
        (201, Some(digest(document.as_bytes()).as_str()))
    );
    for id in ["latest", digest(document.as_bytes()).as_str()] {
        let answer = registry.get(&format!("/v2/a/manifests/{id}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(MANIFEST)));
        assert_eq!(answer.body, document.as_bytes());
    }
    // By its other digest it is another manifest, and only by what was pushed.
    let other = sha512(document.as_bytes());
    assert_eq!(registry.status(&format!("/v2/a/manifests/{other}")), 404);
    assert_eq!(registry.put("a", other.as_str(), MANIFEST, &document).status, 201);
    assert_eq!(registry.status(&format!("/v2/a/manifests/{other}")), 200);
    // An index needs its manifests.
    let index = |digest: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{digest}","size":1}}]}}"#
        )
    };
    assert_eq!(registry.put("a", "i", INDEX, &index(layer.as_str())).code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(registry.put("a", "i", INDEX, &index(other.as_str())).status, 201);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let config = registry.push("a", b"{}");
    let good = manifest(&[&config], "");
    let both = manifest(&[&config], r#","manifests":[]"#);
    for (kind, document) in [
        (MANIFEST, "not json"),
        (MANIFEST, "{}"),
        (MANIFEST, "[]"),
        (INDEX, &good),
        (MANIFEST, &both), // CVE-2021-41190
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1,"fsLayers":[]}"#),
        (MANIFEST, &manifest(&[&config], r#","subject":{"digest":"../../x"}"#)),
    ] {
        let answer = registry.put("a", "x", kind, document);
        assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"), "{kind} {document}");
    }
    let answer = registry.put("a", digest(b"other").as_str(), MANIFEST, &good);
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(registry.put("a", "-x", MANIFEST, &good).status, 400);
    assert_eq!(registry.get("/v2/a/tags/list").json()["tags"], serde_json::json!([]));
}

#[test]
fn tags_and_repositories_are_listed_in_pages() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    assert_eq!(registry.get("/v2/a/b/tags/list").code(), "NAME_UNKNOWN");
    let config = registry.push("a/b", b"{}");
    for tag in ["v2", "v10", "latest"] {
        registry.push_manifest("a/b", tag, &[&config], "");
    }
    let answer = registry.get("/v2/a/b/tags/list?n=2");
    assert_eq!(answer.json(), serde_json::json!({ "name": "a/b", "tags": ["latest", "v10"] }));
    assert_eq!(answer.header("link"), Some("</v2/a/b/tags/list?n=2&last=v10>; rel=\"next\""));
    let answer = registry.get("/v2/a/b/tags/list?n=2&last=v10");
    assert_eq!((answer.json()["tags"].clone(), answer.header("link")), (serde_json::json!(["v2"]), None));
    // Several tags at once.
    let document = manifest(&[&config], r#","annotations":{"a":"b"}"#);
    let id = format!("{}?tag=x&tag=y", digest(document.as_bytes()));
    let answer = registry.put("a/b", &id, MANIFEST, &document);
    assert_eq!((answer.status, answer.header("oci-tag")), (201, Some("x, y")));
    assert_eq!(registry.status("/v2/a/b/manifests/y"), 200);
    let other = registry.push("a/b/c", b"{}");
    assert_eq!(registry.get("/v2/_catalog").json()["repositories"], serde_json::json!(["a/b"]));
    registry.push_manifest("a/b/c", "t", &[&other], "");
    let answer = registry.get("/v2/_catalog?n=1");
    assert_eq!(answer.json()["repositories"], serde_json::json!(["a/b"]));
    assert_eq!(answer.header("link"), Some("</v2/_catalog?n=1&last=a%2Fb>; rel=\"next\""));
    // A tag goes alone, a manifest with its tags.
    assert_eq!(registry.call("DELETE", "/v2/a/b/manifests/x").send().status, 202);
    assert_eq!((registry.status("/v2/a/b/manifests/x"), registry.status("/v2/a/b/manifests/y")), (404, 200));
    let path = format!("/v2/a/b/manifests/{}", digest(document.as_bytes()));
    assert_eq!(registry.call("DELETE", &path).send().status, 202);
    assert_eq!(registry.call("DELETE", &path).send().code(), "MANIFEST_UNKNOWN");
    assert_eq!(registry.status("/v2/a/b/manifests/y"), 404);
    assert_eq!(registry.get("/v2/a/b/tags/list").json()["tags"], serde_json::json!(["latest", "v10", "v2"]));
}

#[test]
fn referrers_are_found_by_their_subject() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let config = registry.push("a", b"{}");
    let subject = digest(manifest(&[&config], "").as_bytes());
    let list = |query: &str| registry.get(&format!("/v2/a/referrers/{subject}{query}"));
    assert_eq!((list("").status, list("").json()["manifests"].clone()), (200, serde_json::json!([])));
    // Before its subject, as clients may.
    let refers = format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":1}}"#);
    let typed = manifest(&[&config], &format!(r#"{refers},"artifactType":"text/sbom","annotations":{{"k":"v"}}"#));
    let answer = registry.put("a", digest(typed.as_bytes()).as_str(), MANIFEST, &typed);
    assert_eq!((answer.status, answer.header("oci-subject")), (201, Some(subject.as_str())));
    let plain = registry.push_manifest("a", "sig", &[&config], &refers);
    registry.push_manifest("a", "latest", &[&config], "");
    let answer = list("");
    assert_eq!(answer.header("content-type"), Some(INDEX));
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 2);
    let answer = list("?artifactType=text%2Fsbom");
    assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
    let expected = serde_json::json!([{
        "mediaType": MANIFEST, "digest": digest(typed.as_bytes()).as_str(), "size": typed.len(),
        "artifactType": "text/sbom", "annotations": { "k": "v" },
    }]);
    assert_eq!(answer.json()["manifests"], expected);
    // Without a type of its own it has its configuration's.
    let answer = list("?artifactType=application%2Fvnd.oci.image.config.v1%2Bjson");
    assert_eq!(answer.json()["manifests"][0]["digest"], plain.as_str());
    registry.call("DELETE", &format!("/v2/a/manifests/{plain}")).send();
    assert_eq!(list("").json()["manifests"], expected);
    assert_eq!(registry.get("/v2/a/referrers/sha256:x").code(), "DIGEST_INVALID");
}

#[test]
fn other_paths_and_methods() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let answer = registry.get("/v2/");
    assert_eq!((answer.status, answer.header("docker-distribution-api-version")), (200, Some("registry/2.0")));
    assert_eq!(registry.get("/").status, 404);
    assert_eq!(registry.get("/v2/a/..%2f..%2fetc/manifests/passwd").code(), "NAME_INVALID");
    let answer = registry.call("POST", "/v2/a/manifests/x").send();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, PUT, DELETE")));
    assert_eq!(registry.call("BREW", "/v2/").send().status, 405);
}
