//! Users, read-only registries, and the end.

use crate::http::Answer;
use crate::{Registry, digest, eventually, options};
use std::io::{Read, Write};
use std::time::Instant;
use tare_engine::registry::{Event, ServerOptions};

/// `htpasswd -nbB -C 4`: anna with "secret", bert with "geheim".
const ANNA: &str = "anna:$2y$04$53La7x6HSnKxz0RZFusrTurLFFYbK7acjcfPdqFvvNfiNk7wkcUae";
const BERT: &str = "bert:$2y$04$lQvERT/0w1kUOh.Y.oXc7.iM6LKf/VM410OogcLPQcIvudst/i6a.";

fn basic(registry: &Registry, authorization: &str) -> Answer {
    registry.call("GET", "/v2/").header("authorization", authorization).send()
}

#[test]
fn only_users_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, format!("{ANNA}\n")).unwrap();
    let registry = Registry::with(folder.path(), ServerOptions { htpasswd: Some(users.clone()), ..options() });
    let answer = registry.get("/v2/");
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"));
    assert!(answer.header("www-authenticate").unwrap().starts_with("Basic realm="));
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"x"));
    assert_eq!(registry.call("POST", &path).body(b"x").send().status, 401);
    // anna:secret, anna:wrong, bert:geheim, and what is none.
    for (authorization, status) in [
        ("Basic YW5uYTpzZWNyZXQ=", 200),
        ("basic YW5uYTpzZWNyZXQ=", 200),
        ("Basic YW5uYTp3cm9uZw==", 401),
        ("Basic YmVydDpnZWhlaW0=", 401),
        ("Basic", 401),
        ("Basic !", 401),
        ("Bearer YW5uYTpzZWNyZXQ=", 401),
    ] {
        assert_eq!(basic(&registry, authorization).status, status, "{authorization}");
    }
    // Another file counts at once, also against who was let in before; a file that is not accepted changes nothing.
    let change = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &users).unwrap();
    };
    change(&format!("{BERT}\n"));
    assert_eq!(basic(&registry, "Basic YW5uYTpzZWNyZXQ=").status, 401);
    assert_eq!(basic(&registry, "Basic YmVydDpnZWhlaW0=").status, 200);
    change("bert:clear text\n");
    assert_eq!(basic(&registry, "Basic YmVydDpnZWhlaW0=").status, 200);
    assert!(registry.troubles()[0].contains("only bcrypt"), "{:?}", registry.troubles());
    let named = registry
        .events
        .lock()
        .unwrap()
        .iter()
        .any(|event| matches!(event, Event::Access(access) if access.user.as_deref() == Some("bert")));
    assert!(named);
}

#[test]
fn a_read_only_registry_only_reads() {
    let root = tempfile::tempdir().unwrap();
    let blob = Registry::start(root.path()).push("a", b"x");
    let registry = Registry::with(root.path(), ServerOptions { read_only: true, ..options() });
    assert_eq!(registry.get(&format!("/v2/a/blobs/{blob}")).body, b"x");
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("DELETE", format!("/v2/a/blobs/{blob}")),
        ("PUT", "/v2/a/manifests/t".to_owned()),
    ] {
        let answer = registry.call(method, &path).body(b"y").send();
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{method} {path}");
    }
}

#[test]
fn running_requests_end_in_order() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(root.path());
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"0123456789"));
    let mut stream = registry.call("POST", &path).header("content-length", "10").open();
    stream.write_all(b"01234").unwrap();
    // Another connection that does nothing must not hold it up.
    let mut idle = std::net::TcpStream::connect(registry.address).unwrap();
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 10]).unwrap(), 0);
    eventually("the upload has begun", || {
        std::fs::read_dir(root.path().join("repositories/a/_repository/uploads"))
            .is_ok_and(|mut entries| entries.next().is_some())
    });
    registry.stop.stop();
    eventually("nobody is let in any more", || std::net::TcpStream::connect(registry.address).is_err());
    stream.write_all(b"56789").unwrap();
    assert_eq!(Answer::read(stream, false).status, 201);
    let began = Instant::now();
    registry.end();
    assert!(began.elapsed() < crate::PATIENCE);
}
