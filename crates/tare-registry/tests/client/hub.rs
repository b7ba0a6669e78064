//! What Docker Hub and other registries of the world do, played on loopback.

use crate::fixture::{
    BASIC, MANIFEST, anonymous, blob, blob_error, descriptor, digest, error, manifest, options, reference, text,
    with_password,
};
use crate::server::{Response, Server};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tare_registry::{Client, ClientOptions, Error, Timeouts, TransportError};
use tare_spec::ErrorKind;
use tare_spec::image::{Document, InvalidImage};

#[test]
fn a_limit_is_told_with_its_window_and_its_end() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
            .header("ratelimit-limit", "100;w=21600")
            .header("ratelimit-remaining", "0;w=21600")
            .header("docker-ratelimit-source", "192.0.2.1")
            .header("retry-after", "1234"),
    });
    let error = anonymous().manifest(&reference(&server, "web")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(text(&error).ends_with("toomanyrequests: You have reached your pull rate limit."), "{}", text(&error));
    let Error::TooManyRequests { limit, .. } = error else { panic!("{error}") };
    assert_eq!((limit.limit, limit.remaining), (Some(100), Some(0)));
    assert_eq!((limit.window, limit.resets), (Some(Duration::from_secs(21_600)), Some(Duration::from_secs(1234))));
    assert_eq!(server.count("/v2/web/"), 1);
}

/// Layers of minutes outlive tokens of a minute: the range request after a break needs a new one, and so does the
/// storage behind the registry, whose signed addresses end, too.
#[test]
fn a_token_that_ends_in_the_middle_of_a_blob_is_renewed() {
    let given = AtomicUsize::new(0);
    let auth = Server::start(move |_| {
        Response::new(
            200,
            format!(r#"{{"token":"number {}"}}"#, given.fetch_add(1, Ordering::SeqCst)).replace(' ', "-"),
        )
    });
    let storage = Server::start(|request| match request.header("range") {
        None => Response::new(200, "cont").announcing(7),
        _ => Response::new(206, "ent").header("content-range", "bytes 4-6/7"),
    });
    let (realm, address) = (auth.url("/token"), storage.url("/signed"));
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let good = format!("Bearer number-{}", asked.load(Ordering::SeqCst));
        if request.path != "/v2/" && request.header("authorization") == Some(&good) {
            asked.fetch_add(1, Ordering::SeqCst);
            return Response::new(307, "").header("location", &address);
        }
        Response::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\",error=\"invalid_token\""))
    });
    assert_eq!(blob(&anonymous(), &reference(&server, "web"), b"content"), b"content");
    assert_eq!((auth.requests().len(), storage.requests().len()), (2, 2));
    assert!(storage.requests().iter().all(|request| request.header("authorization").is_none()));
}

/// A realm in clear text at a foreign host, named by a registry that is reached in clear text, is only asked as
/// anybody; here the registry is on this machine, so the way does not matter. The password never goes where a
/// *challenge of a redirect's target* wants it.
#[test]
fn a_challenge_of_somebody_else_is_not_answered() {
    let evil = Server::start(|_| Response::new(401, "").header("www-authenticate", "Basic realm=\"give\""));
    let address = evil.url("/v2/");
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Response::new(307, "").header("location", &address),
        _ if request.header("authorization").is_none() => manifest(),
        _ => Response::new(418, ""),
    });
    with_password().manifest(&reference(&server, "web")).unwrap();
    assert!(evil.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn realms_that_are_no_addresses_are_told() {
    for realm in ["", "/token", "file:///etc/passwd", "https://user:password@auth.io/token", "ftp://auth.io/"] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let server = Server::start(move |_| Response::new(401, "").header("www-authenticate", &challenge));
        let error = with_password().manifest(&reference(&server, "web")).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{realm}: {error}");
    }
}

#[test]
fn failures_that_pass_are_waited_for() {
    for status in [429, 500, 502, 503, 504] {
        let asked = AtomicUsize::new(0);
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/" => Response::new(200, "{}"),
            _ if asked.fetch_add(1, Ordering::SeqCst) < 2 => Response::new(status, "<html>busy</html>"),
            _ => manifest(),
        });
        anonymous().manifest(&reference(&server, "web")).unwrap();
        assert_eq!(server.count("/v2/web/"), 3, "{status}");
    }
}

#[test]
fn web_pages_are_no_manifests() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/portal/manifests/latest" => Response::new(200, "<html>").header("content-type", "text/html; charset=x"),
        _ => Response::new(403, "<html>".repeat(100_000)).header("content-type", "text/html"),
    });
    let error = anonymous().manifest(&reference(&server, "portal")).unwrap_err();
    assert!(error.to_string().ends_with("the answer is a web page, not a manifest"), "{error}");
    let error = anonymous().manifest(&reference(&server, "denied")).unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }) && !text(&error).contains("html"), "{}", text(&error));
}

/// CVE-2021-41190: what a document is must not depend on whom one asks.
#[test]
fn a_manifest_of_another_type_than_its_content_type_is_refused() {
    let body = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":
        {"mediaType":"x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => Response::new(200, body).header("content-type", "application/vnd.oci.image.index.v1+json"),
    });
    let response = anonymous().manifest(&reference(&server, "web")).unwrap();
    let parsed = Document::parse(&response.bytes, Some(&response.media_type));
    assert!(matches!(parsed, Err(InvalidImage::MediaTypeMismatch { .. })), "{parsed:?}");
}

/// GO-2025-4108 and its kin, from the other side: what a server sends is bounded before it is kept.
#[test]
fn giant_headers_are_not_taken() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/one/manifests/latest" => manifest().header("x-large", "x".repeat(1 << 20)),
        _ => (0..10_000).fold(manifest(), |response, n| response.header(&format!("x-{n}"), "x".repeat(100))),
    });
    for name in ["one", "many"] {
        let error = anonymous().manifest(&reference(&server, name)).unwrap_err();
        assert!(matches!(error, Error::Transport { source: TransportError::Http { .. }, .. }), "{error:?}");
    }
}

#[test]
fn lengths_that_lie_are_noticed() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        path if path.starts_with("/v2/short/") => Response::new(200, "cont").announcing(7),
        path if path.starts_with("/v2/large/") => Response::new(200, "content").announcing(1 << 50),
        path if path.starts_with("/v2/range/") && request.header("range").is_some() => {
            Response::new(206, "x").header("content-range", "bytes 18446744073709551615-0/7")
        }
        _ => Response::new(200, "cont").announcing(7),
    });
    let wanted = descriptor(b"content");
    let error = blob_error(&anonymous(), &reference(&server, "short"), &wanted);
    assert!(matches!(error, Error::Transport { source: TransportError::UnexpectedEnd { .. }, .. }), "{error}");
    let error = blob_error(&anonymous(), &reference(&server, "large"), &wanted);
    assert!(matches!(error, Error::BlobSize { actual: 0x4_0000_0000_0000, .. }), "{error}");
    let error = blob_error(&anonymous(), &reference(&server, "range"), &wanted);
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[test]
fn a_server_that_drips_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = tare_spec::Reference::parse(&format!("{}/web", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap();
            if request[..count].starts_with(b"GET /v2/ ") {
                let ok = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                drop(ok);
            } else if request[0] != 0x16 {
                let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
                while alive.is_ok() {
                    alive = stream.write_all(b" ");
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                break;
            }
        }
    });
    let timeouts = Timeouts { document: Duration::from_millis(100), ..Timeouts::default() };
    let begin = Instant::now();
    let error = Client::new(ClientOptions { timeouts, ..options() }).manifest(&wanted).unwrap_err();
    assert!(matches!(error, Error::Transport { source: TransportError::TooSlow { .. }, .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_stream_begins_where_it_should() {
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    for ranges in [true, false] {
        let sent = content.clone();
        let server = Server::start(move |request| match (request.path.as_str(), request.header("range")) {
            ("/v2/", _) => Response::new(200, "{}"),
            (_, Some(range)) if ranges => {
                let start: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
                let end = sent.len() - 1;
                Response::new(206, &sent[start..])
                    .header("content-range", format!("bytes {start}-{end}/{}", sent.len()))
            }
            _ => Response::new(200, &sent[..]),
        });
        let (client, web) = (anonymous(), reference(&server, "web"));
        for offset in [0, 1, 123_456, 399_999, 400_000] {
            let mut rest = Vec::new();
            let mut stream = client.blob_from(&web, &descriptor(&content), offset).unwrap();
            std::io::Read::read_to_end(&mut stream, &mut rest).unwrap();
            assert!(rest == content[usize::try_from(offset).unwrap()..], "from {offset}, ranges: {ranges}");
        }
        let beyond = client.blob_from(&web, &descriptor(&content), 400_001).err().unwrap();
        assert!(matches!(beyond, Error::BlobSize { .. }), "{beyond}");
    }
}

/// Registries behind a proxy that ends TLS, and those that give relative addresses: see also the tests of addresses.
#[test]
fn storage_at_a_relative_address_is_still_the_registrys() {
    let server = Server::start(|request| match (request.path.as_str(), request.header("authorization")) {
        ("/v2/web/storage/x", Some(BASIC)) => Response::new(200, "content"),
        (path, Some(BASIC)) if path.contains("/blobs/") => Response::new(302, "").header("location", "../storage/x"),
        (path, Some(BASIC)) if path.contains("/manifests/") => manifest(),
        _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    });
    let client = with_password();
    assert_eq!(client.manifest(&reference(&server, "web")).unwrap().digest, digest(MANIFEST.as_bytes()));
    assert_eq!(blob(&client, &reference(&server, "web"), b"content"), b"content");
}
