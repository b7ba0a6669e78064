//! Uploads: in pieces, out of order, again after a restart, by two at once.

use crate::http::Call;
use crate::{Registry, digest, files, sha512};
use std::io::Write;

const BLOB: &[u8] = b"0123456789abcdefghij";

#[test]
fn chunks_come_in_order_and_survive_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let upload = registry.begin("a/b");
    let chunk = |registry: &Registry, range: &str, bytes: &[u8]| {
        registry.call("PATCH", &upload).header("content-range", range).body(bytes).send()
    };
    let answer = chunk(&registry, "0-9", &BLOB[..10]);
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-9")));
    for (range, bytes) in [("0-9", &BLOB[..10]), ("11-19", &BLOB[11..]), ("20-29", &BLOB[..10])] {
        let answer = chunk(&registry, range, bytes);
        assert_eq!((answer.status, answer.header("range")), (416, Some("0-9")), "{range}");
    }
    let answer = chunk(&registry, "nonsense", &BLOB[10..]);
    assert_eq!((answer.status, answer.code().as_str()), (400, "BLOB_UPLOAD_INVALID"));
    let answer = chunk(&registry, "10-18", &BLOB[10..]);
    assert_eq!((answer.status, answer.code().as_str()), (400, "SIZE_INVALID"));
    registry.end();
    let registry = Registry::start(root.path());
    let answer = registry.get(&upload);
    assert_eq!((answer.status, answer.header("range")), (204, Some("0-9")));
    let path = format!("{upload}?digest={}", digest(BLOB));
    let answer = registry.call("PUT", &path).header("content-range", "10-19").body(&BLOB[10..]).send();
    assert_eq!((answer.status, answer.header("location")), (201, Some(&*format!("/v2/a/b/blobs/{}", digest(BLOB)))));
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{}", digest(BLOB))).body, BLOB);
    assert_eq!(registry.get(&upload).code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn what_does_not_match_its_digest_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let wrong = digest(b"something else");
    let path = format!("/v2/a/blobs/uploads/?digest={wrong}");
    let answer = registry.call("POST", &path).body(BLOB).send();
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    let upload = registry.begin("a");
    let answer = registry.call("PUT", &format!("{upload}?digest={wrong}")).body(BLOB).send();
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    for bad in ["md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:..%2f..%2fetc%2fpasswd", ""] {
        let path = format!("/v2/a/blobs/uploads/?digest={bad}");
        assert_eq!(registry.call("POST", &path).body(BLOB).send().code(), "DIGEST_INVALID", "{bad}");
    }
    let upload = registry.begin("a");
    assert_eq!(registry.call("PUT", &upload).body(BLOB).send().code(), "DIGEST_INVALID");
    assert_eq!(registry.call("DELETE", &upload).send().status, 204);
    assert_eq!(registry.call("DELETE", &upload).send().code(), "BLOB_UPLOAD_UNKNOWN");
    assert!(files(root.path()).is_empty(), "{:?}", files(root.path()));
}

#[test]
fn both_algorithms_are_taken() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let upload = registry.begin("a");
    assert_eq!(registry.call("PATCH", &upload).body(&BLOB[..5]).send().status, 202);
    let path = format!("{upload}?digest={}", sha512(BLOB).as_str().replace(':', "%3A"));
    assert_eq!(registry.call("PUT", &path).body(&BLOB[5..]).send().status, 201);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{}", sha512(BLOB))).body, BLOB);
    assert_eq!(registry.push("a", b"").as_str(), digest(b"").as_str());
    let answer = registry.get(&format!("/v2/a/blobs/{}", digest(b"")));
    assert_eq!((answer.status, answer.body.len(), answer.whole), (200, 0, true));
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let upload = registry.begin("a");
    let body = vec![7; 3 << 20];
    let call = Call::new(registry.address, "PATCH", &upload).header("content-length", &body.len().to_string());
    let mut stream = call.open();
    stream.write_all(&body[..2 << 20]).unwrap();
    // While one request writes, another one must not.
    crate::eventually("the upload is busy", || registry.call("PATCH", &upload).body(b"x").send().status == 409);
    drop(stream);
    let size = || {
        let answer = registry.get(&upload);
        answer.header("range").unwrap().strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1
    };
    let rest = |from: usize| {
        let path = format!("{upload}?digest={}", digest(&body));
        let range = format!("{from}-{}", body.len() - 1);
        registry.call("PUT", &path).header("content-range", &range).body(&body[from..]).send().status
    };
    let mut status = 0;
    crate::eventually("the lock of the broken request is gone", || {
        status = rest(size());
        !matches!(status, 409 | 416)
    });
    assert_eq!(status, 201);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{}", digest(&body))).body, body);
}

#[test]
fn blobs_are_mounted_from_where_they_are() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let blob = registry.push("a", BLOB);
    let mount =
        |to: &str, from: &str| registry.call("POST", &format!("/v2/{to}/blobs/uploads/?mount={blob}{from}")).send();
    assert_eq!(mount("b", "&from=a").status, 201);
    assert_eq!(mount("c", "&from=nowhere").status, 202);
    assert_eq!(mount("d", "").status, 201);
    assert_eq!(mount("e", "&from=..%2f..").code(), "NAME_INVALID");
    assert_eq!(registry.get(&format!("/v2/b/blobs/{blob}")).body, BLOB);
    assert_eq!(registry.status(&format!("/v2/c/blobs/{blob}")), 404);
    // Deleted here, it is still there.
    assert_eq!(registry.call("DELETE", &format!("/v2/a/blobs/{blob}")).send().status, 202);
    assert_eq!(registry.call("DELETE", &format!("/v2/a/blobs/{blob}")).send().code(), "BLOB_UNKNOWN");
    assert_eq!(
        (registry.status(&format!("/v2/a/blobs/{blob}")), registry.status(&format!("/v2/b/blobs/{blob}"))),
        (404, 200)
    );
}
