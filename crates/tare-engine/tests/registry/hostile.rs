//! Clients that are slow, greedy or mad, and others beside them.

use crate::http::Answer;
use crate::{MANIFEST, Registry, digest, eventually, options};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tare_engine::registry::{Limits, ServerOptions};

fn impatient(root: &std::path::Path, limits: Limits) -> Registry {
    Registry::with(root, ServerOptions { limits, ..options() })
}

fn short() -> Limits {
    Limits { head: Duration::from_millis(150), idle: Duration::from_millis(150), ..Limits::default() }
}

/// Reads until the server closes the connection.
fn closed(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(crate::PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection stays open"),
        _ => bytes,
    }
}

#[test]
fn heads_and_manifests_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let huge = "x".repeat(4 << 20);
    let answer = registry.put("a", "t", MANIFEST, &format!("{huge}x"));
    assert_eq!((answer.status, answer.code().as_str()), (413, "MANIFEST_INVALID"));
    // Without a length, too.
    let mut stream = registry.call("PUT", "/v2/a/manifests/t").header("transfer-encoding", "chunked").open();
    for _ in 0..5 {
        // It may be refused before all is sent.
        let _ = stream.write_all(format!("100000\r\n{}\r\n", &huge[..1 << 20]).as_bytes());
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    assert_eq!(Answer::read(stream, false).status, 413);
    let answer = registry.call("GET", "/v2/").header("x", &"y".repeat(200_000)).send();
    assert_eq!(answer.status, 431);
    let mut many = registry.call("GET", "/v2/");
    for n in 0..200 {
        many = many.header(&format!("x-{n}"), "y");
    }
    assert_eq!(many.send().status, 431);
    assert_eq!(registry.get(&format!("/v2/{}/manifests/x", "a/".repeat(20_000))).code(), "NAME_INVALID");
    let mut stream = TcpStream::connect(registry.address).unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n").unwrap();
    closed(stream);
    assert_eq!(registry.get("/v2/").status, 200);
}

#[test]
fn slow_clients_are_sent_away() {
    let root = tempfile::tempdir().unwrap();
    let registry = impatient(root.path(), short());
    // A head that never ends.
    let mut stream = TcpStream::connect(registry.address).unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost:").unwrap();
    closed(stream);
    // Nothing at all, and nothing after a request.
    closed(TcpStream::connect(registry.address).unwrap());
    let mut stream = TcpStream::connect(registry.address).unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(String::from_utf8_lossy(&closed(stream)).starts_with("HTTP/1.1 200"));
    // A body that stops in the middle; what came is kept for going on.
    let upload = registry.begin("a");
    let mut stream = registry.call("PATCH", &upload).header("content-length", "10").open();
    stream.write_all(b"01234").unwrap();
    assert_eq!(Answer::read(stream, false).status, 408);
    eventually("the five bytes are there", || registry.get(&upload).header("range") == Some("0-4"));
    let mut stream = registry.call("PUT", "/v2/a/manifests/t").header("content-length", "10").open();
    stream.write_all(b"{").unwrap();
    assert_eq!(Answer::read(stream, false).status, 408);
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let registry = impatient(root.path(), Limits { idle: Duration::from_millis(300), ..Limits::default() });
    let body = vec![1; 32 << 20];
    let path = format!("/v2/a/blobs/{}", registry.push("a", &body));
    let stuck = registry.call("GET", &path).open();
    // Others get theirs meanwhile.
    assert_eq!(registry.get(&path).body.len(), body.len());
    // By then it has closed; what the kernel had taken is all there is.
    eventually("the connection is cut off", || {
        let own = format!(":{:04X}", registry.address.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let peer = format!(":{:04X}", stuck.local_addr().unwrap().port());
        // Column two is the local address, three the remote one, four the state: 01 is established.
        !table.lines().any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[1].ends_with(&own) && columns[2].ends_with(&peer) && columns[3] == "01"
        })
    });
    assert!(!Answer::read(stuck, false).whole);
}

#[test]
fn connections_are_bounded_and_come_back() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { connections: 8, connections_of_one: 4, head: Duration::from_secs(20), ..Limits::default() };
    let registry = impatient(root.path(), limits);
    let mut held: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(registry.address).unwrap();
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            stream
        })
        .collect();
    // One more of the same address is closed at once.
    let mut more = TcpStream::connect(registry.address).unwrap();
    let _ = more.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(closed(more).is_empty());
    held.pop();
    eventually("there is a place again", || {
        let mut stream = TcpStream::connect(registry.address).unwrap();
        let _ = stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        !closed(stream).is_empty()
    });
}

#[test]
fn twenty_stuck_uploads_hold_up_nobody() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let stuck: Vec<TcpStream> = (0..40)
        .map(|_| {
            let upload = registry.begin("slow");
            let mut stream = registry.call("PATCH", &upload).header("content-length", "1000000").open();
            stream.write_all(&[0; 1000]).unwrap();
            stream
        })
        .collect();
    let body = vec![3; 1 << 20];
    assert_eq!(registry.get(&format!("/v2/a/blobs/{}", registry.push("a", &body))).body, body);
    assert_eq!(registry.push("b", b"z"), digest(b"z"));
    drop(stuck);
}

/// CVE-2024-3727: what stands where a digest should is never a path, whatever it is and wherever it stands.
#[test]
fn digests_in_addresses_are_no_paths() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let blob = registry.push("a", b"content");
    std::fs::write(root.path().join("sentinel"), "sentinel").unwrap();
    let before = crate::files(root.path());
    let hex = blob.hex();
    for bad in [
        "sha256:../../sentinel".to_owned(),
        "sha256:..%2f..%2fsentinel".to_owned(),
        "sha256:%2e%2e%2f%2e%2e%2fsentinel".to_owned(),
        "sha256%3A..%2F..%2Fsentinel".to_owned(),
        "../../sentinel".to_owned(),
        "..%2f..%2f..%2fsentinel".to_owned(),
        "sha256:/sentinel".to_owned(),
        format!("../blobs/sha256/{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{hex}/.."),
        format!("sha256:{hex}%00"),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256+x:{hex}"),
        format!(".:{hex}"),
        hex.to_owned(),
    ] {
        let upload = registry.begin("a");
        for (method, path) in [
            ("GET", format!("/v2/a/blobs/{bad}")),
            ("HEAD", format!("/v2/a/blobs/{bad}")),
            ("DELETE", format!("/v2/a/blobs/{bad}")),
            ("GET", format!("/v2/a/manifests/{bad}")),
            ("PUT", format!("/v2/a/manifests/{bad}")),
            ("DELETE", format!("/v2/a/manifests/{bad}")),
            ("GET", format!("/v2/a/referrers/{bad}")),
            ("POST", format!("/v2/b/blobs/uploads/?digest={bad}")),
            ("PUT", format!("{upload}?digest={bad}")),
        ] {
            let call = registry.call(method, &path).header("content-type", MANIFEST);
            let answer = if matches!(method, "PUT" | "POST") { call.body(b"content").send() } else { call.send() };
            let refused = (400..500).contains(&answer.status);
            assert!(refused, "{method} {path}: {answer:?}");
            assert!(answer.body != b"sentinel", "{method} {path}: {answer:?}");
        }
        // A mount of what is no digest is refused or goes on as an upload; it mounts nothing.
        let mounted = registry.call("POST", &format!("/v2/b/blobs/uploads/?mount={bad}&from=a")).send();
        assert_ne!(mounted.status, 201, "{bad}");
        if let Some(upload) = mounted.header("location") {
            assert_eq!(registry.call("DELETE", upload).send().status, 204);
        }
        // It stays when a bad digest is only an answer, and goes when it is the end of it.
        registry.call("DELETE", &upload).send();
    }
    assert_eq!(crate::files(root.path()), before);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{blob}")).body, b"content");
}

/// The same in documents: nothing of them is stored.
#[test]
fn digests_in_manifests_are_no_paths() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let config = registry.push("a", b"{}");
    let good = crate::manifest(&[&config, &config], "");
    let before = crate::files(root.path());
    for bad in
        ["sha256:../../x", "sha256:", "../x", &config.as_str().to_uppercase(), &format!("md5:{}", "a".repeat(32))]
    {
        let nowhere = good.replace(config.as_str(), bad);
        let layer = good.replacen(config.as_str(), bad, 2).replacen(bad, config.as_str(), 1);
        let subject = crate::manifest(
            &[&config],
            &format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{bad}","size":1}}"#),
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{0}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{bad}","size":1}}]}}"#,
            crate::INDEX
        );
        for (kind, document) in [(MANIFEST, &nowhere), (MANIFEST, &layer), (MANIFEST, &subject), (crate::INDEX, &index)]
        {
            let answer = registry.put("a", "t", kind, document);
            assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"), "{document}");
        }
    }
    // Of two kinds (CVE-2021-41190), or of another kind than it is sent as.
    let both = crate::manifest(&[&config], r#","manifests":[]"#);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    for (kind, document) in [(MANIFEST, &both), (crate::INDEX, &both), (docker, &good), (crate::INDEX, &good)] {
        let answer = registry.put("a", "t", kind, document);
        assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"), "{kind}: {document}");
    }
    assert_eq!(crate::files(root.path()), before);
    assert_eq!(registry.put("a", "t", MANIFEST, &good).status, 201);
}
