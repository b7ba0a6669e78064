//! Writing to registries that break, forget, refuse and attack.

use crate::fixture::{BASIC, anonymous, descriptor, digest, error, options, reference, text, with_password};
use crate::server::{Request, Response, Server};
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tare_registry::{Client, ClientOptions, Credential, Credentials, Error};
use tare_spec::image::media_type::OCI_MANIFEST;
use tare_spec::{ErrorKind, Reference};

fn upload(client: &Client, reference: &Reference, content: &[u8]) -> Result<(), Error> {
    let open = |offset: u64| {
        let mut reader = Cursor::new(content.to_vec());
        reader.set_position(offset);
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    };
    client.upload_blob(reference, &descriptor(content), &open, &|_| {})
}

/// So many bytes, no two parts of them equal.
fn content(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

/// One upload, as the specification has it.
#[derive(Default)]
struct Uploads {
    stored: Mutex<Vec<u8>>,
    least_chunk: usize,
    largest_request: Option<usize>,
}

impl Uploads {
    fn answer(&self, request: &Request) -> Response {
        let mut stored = self.stored.lock().unwrap();
        let range = |stored: &[u8]| format!("0-{}", stored.len().saturating_sub(1));
        if self.largest_request.is_some_and(|largest| request.body.len() > largest) {
            return Response::new(413, "<html>413 Request Entity Too Large</html>");
        }
        match request.method.as_str() {
            _ if request.path == "/v2/" => Response::new(200, "{}"),
            "POST" => {
                stored.clear();
                let response = Response::new(202, "").header("location", "/upload/1?state=x");
                response.header("oci-chunk-min-length", self.least_chunk.to_string())
            }
            "GET" => Response::new(204, "").header("range", range(&stored)),
            "DELETE" => Response::new(204, ""),
            "PATCH" => {
                let end = stored.len() + request.body.len();
                let expected = format!("{}-{}", stored.len(), end.saturating_sub(1));
                if !request.broken && request.header("content-range") != Some(&expected) {
                    return Response::new(416, "").header("range", range(&stored));
                }
                stored.extend(&request.body);
                Response::new(202, "").header("location", "/upload/2?state=y").header("range", range(&stored))
            }
            "PUT" => {
                stored.extend(&request.body);
                let whole = digest(&stored);
                if request.path.ends_with(&format!("&digest={whole}")) {
                    return Response::new(201, "").header("docker-content-digest", whole.as_str());
                }
                error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            }
            _ => Response::new(405, ""),
        }
    }
}

/// The requests but the first, without the digest.
fn lines(server: &Server) -> Vec<String> {
    let line = |request: &Request| request.line().split("&digest").next().unwrap().to_owned();
    server.requests()[1..].iter().map(line).collect()
}

const START: &str = "POST /v2/web/blobs/uploads/";

#[test]
fn one_request_is_enough_where_it_is_taken() {
    let uploads = Uploads::default();
    let server = Server::start(move |request| uploads.answer(request));
    upload(&anonymous(), &reference(&server, "web"), &content(300_000)).unwrap();
    assert_eq!(lines(&server), [START, "PUT /upload/1?state=x"]);
    assert_eq!(server.requests()[2].header("content-length"), Some("300000"));
}

#[test]
fn a_broken_upload_goes_on_where_the_registry_says() {
    let uploads = Uploads::default();
    let broken = AtomicUsize::new(0);
    let breaks = move |request: &Request| match (request.method.as_str(), broken.load(Ordering::SeqCst)) {
        ("PUT", 0) | ("PATCH", 1) => {
            broken.fetch_add(1, Ordering::SeqCst);
            Some(100_000)
        }
        _ => None,
    };
    let server = Server::breaking(breaks, move |request| uploads.answer(request));
    let sent = Mutex::new(Vec::new());
    let bytes = content(3_000_000);
    let open = |offset: u64| {
        let mut reader = Cursor::new(bytes.clone());
        reader.set_position(offset);
        Ok(Box::new(reader) as Box<dyn Read + Send>)
    };
    let progress = |bytes| sent.lock().unwrap().push(bytes);
    anonymous().upload_blob(&reference(&server, "web"), &descriptor(&bytes), &open, &progress).unwrap();
    let expected = [
        START,
        "PUT /upload/1?state=x",
        "GET /upload/1?state=x",
        "PATCH /upload/1?state=x",
        "GET /upload/1?state=x",
        "PATCH /upload/1?state=x",
        "PUT /upload/2?state=y",
    ];
    assert_eq!(lines(&server), expected);
    assert_eq!(server.requests()[6].header("content-range"), Some("200000-2999999"));
    let sent = sent.into_inner().unwrap();
    assert_eq!(sent.last(), Some(&3_000_000));
    assert!(sent.contains(&100_000) && sent.contains(&200_000), "what was lost is told");
}

#[test]
fn what_is_too_large_is_sent_in_chunks() {
    let uploads = Uploads { largest_request: Some(2 << 20), ..Uploads::default() };
    let server = Server::start(move |request| uploads.answer(request));
    upload(&anonymous(), &reference(&server, "web"), &content(5 << 20)).unwrap();
    let sizes: Vec<usize> = server.requests().iter().map(|request| request.body.len()).filter(|n| *n > 0).collect();
    assert_eq!(sizes, [5 << 20, 5 << 20, 5 << 19, 5 << 18, 5 << 18, 5 << 18, 5 << 18]);

    let uploads = Uploads { largest_request: Some(1000), ..Uploads::default() };
    let server = Server::start(move |request| uploads.answer(request));
    let error = upload(&anonymous(), &reference(&server, "web"), &content(5 << 20)).unwrap_err();
    assert!(matches!(error, Error::Status { status: 413, .. }), "{error}");
    assert_eq!(server.requests().last().unwrap().method, "DELETE");
}

#[test]
fn chunks_are_as_long_as_the_registry_wants() {
    let uploads = Uploads { largest_request: Some(4 << 20), least_chunk: 3 << 20, ..Uploads::default() };
    let server = Server::start(move |request| uploads.answer(request));
    upload(&anonymous(), &reference(&server, "web"), &content(7 << 20)).unwrap();
    let patches: Vec<Request> = server.requests().into_iter().filter(|request| request.method == "PATCH").collect();
    let sizes: Vec<usize> = patches.iter().map(|request| request.body.len()).collect();
    assert_eq!(sizes[sizes.len() - 2..], [7 << 19, 7 << 19], "{sizes:?}");
}

#[test]
fn a_forgotten_upload_begins_anew() {
    let uploads = Uploads::default();
    let forgotten = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "PUT" if forgotten.fetch_add(1, Ordering::SeqCst) == 0 => {
            error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        }
        _ => uploads.answer(request),
    });
    upload(&anonymous(), &reference(&server, "web"), &content(100)).unwrap();
    let count = |start: &str| lines(&server).iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("POST"), count("PATCH"), count("PUT")), (2, 1, 2));
}

#[test]
fn a_failed_upload_is_taken_back() {
    // Always breaks; refuses; has more than was sent; a source that is too short.
    let uploads = Uploads::default();
    let server = Server::breaking(
        |request| (request.header("content-length")? != "0").then_some(0),
        move |request| uploads.answer(request),
    );
    let error = upload(&anonymous(), &reference(&server, "web"), &content(100)).unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert_eq!(server.requests().last().unwrap().method, "DELETE");

    let uploads = Uploads::default();
    let server = Server::start(move |request| uploads.answer(request));
    let wrong = descriptor(b"other");
    let open = |_| Ok(Box::new(&b"wrong"[..]) as Box<dyn Read + Send>);
    let error = anonymous().upload_blob(&reference(&server, "web"), &wrong, &open, &|_| {}).unwrap_err();
    assert!(text(&error).ends_with("400 Bad Request: digest invalid: provided digest did not match uploaded content"));
    assert_eq!(lines(&server), [START, "PUT /upload/1?state=x", "DELETE /upload/1?state=x"]);

    let short = descriptor(b"longer");
    let error = anonymous().upload_blob(&reference(&server, "web"), &short, &open, &|_| {}).unwrap_err();
    assert!(text(&error).ends_with(": 1 bytes are missing"), "{}", text(&error));
    assert!(matches!(error, Error::Source { .. }));
    let open = |_| Err(std::io::Error::other("disk on fire"));
    let error = anonymous().upload_blob(&reference(&server, "web"), &short, &open, &|_| {}).unwrap_err();
    assert!(text(&error).ends_with(": disk on fire"), "{}", text(&error));
    assert_eq!(server.requests().last().unwrap().method, "DELETE");
}

/// CVE-2020-15157 in the other direction: uploads lead to other hosts, too.
#[test]
fn an_upload_elsewhere_gets_no_credentials() {
    let storage = Server::start(|_| Response::new(201, ""));
    let (direct, redirected) = (storage.url("/direct?sig=1"), storage.url("/redirected?sig=1"));
    let server = Server::start(move |request| match (request.header("authorization"), request.method.as_str()) {
        (Some(BASIC), "POST") if request.path.starts_with("/v2/direct/") => {
            Response::new(202, "").header("location", &direct)
        }
        (Some(BASIC), "POST") => Response::new(202, "").header("location", "/upload"),
        (Some(BASIC), "PUT") => Response::new(307, "").header("location", &redirected),
        _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    });
    for name in ["direct", "redirected"] {
        upload(&with_password(), &reference(&server, name), b"content").unwrap();
    }
    let asked = storage.requests();
    assert!(asked.iter().all(|request| request.header("authorization").is_none() && request.body == b"content"));
    let wanted = digest(b"content");
    let paths: Vec<String> = asked.iter().map(Request::line).collect();
    assert_eq!(paths, [format!("PUT /direct?sig=1&digest={wanted}"), "PUT /redirected?sig=1".to_owned()]);
}

#[test]
fn writing_is_denied_in_words_that_help() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => error(403, "DENIED", "requested access to the resource is denied"),
    });
    let reference = reference(&server, "web:1");
    for error in [
        upload(&anonymous(), &reference, b"x").unwrap_err(),
        anonymous().put_manifest(&reference, OCI_MANIFEST, b"{}").unwrap_err(),
        anonymous().has_blob(&reference, &descriptor(b"x")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with("push access denied for "), "{error}");
    }
}

#[test]
fn blobs_are_found_or_not() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        path if path.starts_with("/v2/there/") => Response::new(200, "").announcing(7),
        path if path.starts_with("/v2/other/") => Response::new(200, "").announcing(8),
        _ => Response::new(404, ""),
    });
    for (name, there) in [("there", true), ("other", false), ("missing", false)] {
        assert_eq!(anonymous().has_blob(&reference(&server, name), &descriptor(b"content")).unwrap(), there, "{name}");
    }
    assert!(server.requests()[1..].iter().all(|request| request.method == "HEAD" || request.path == "/v2/"));
}

#[test]
fn a_mount_needs_a_token_for_both_repositories() {
    let auth = Server::start(|_| Response::new(200, r#"{"token":"good"}"#));
    let realm = auth.url("/token");
    let server = Server::start(move |request| match (request.header("authorization"), request.path.as_str()) {
        (Some("Bearer good"), path) if path.contains("from=other/base") => Response::new(201, ""),
        (Some("Bearer good"), path) if path.contains("from=gone") => {
            Response::new(202, "").header("location", "/upload/1")
        }
        (Some("Bearer good"), path) if path.contains("from=never") => Response::new(405, ""),
        (Some("Bearer good"), _) => Response::new(204, ""),
        _ => Response::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"s\"")),
    });
    let (client, reference, digest) = (anonymous(), reference(&server, "a/web"), digest(b"x"));
    for (from, mounted) in [("other/base", true), ("gone", false), ("never", false)] {
        assert_eq!(client.mount_blob(&reference, &digest, from).unwrap(), mounted, "{from}");
    }
    let scopes = "scope=repository:a/web:pull,push&scope=repository:other/base:pull";
    assert_eq!(auth.requests()[0].path, format!("/token?{scopes}&service=s").replace(',', "%2C"));
    let lines: Vec<String> = server.requests().iter().map(Request::line).collect();
    let expected = format!("POST /v2/a/web/blobs/uploads/?mount={digest}&from=other/base");
    assert_eq!((lines[1].as_str(), lines[3].as_str()), (expected.as_str(), "DELETE /upload/1"));
}

#[test]
fn manifests_are_stored_as_they_are() {
    let lie = digest(b"lie").to_string();
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/lie/manifests/1" => Response::new(201, "").header("docker-content-digest", &lie),
        "/v2/incomplete/manifests/1" => error(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"),
        _ => Response::new(201, "").header("docker-content-digest", digest(&request.body).as_str()),
    });
    let (client, bytes) = (anonymous(), br#"{"schemaVersion":2}"#);
    let put = |name: &str| client.put_manifest(&reference(&server, name), OCI_MANIFEST, bytes);
    let wanted = digest(bytes);
    for name in ["web", "web:1", &format!("web@{wanted}")] {
        assert_eq!(put(name).unwrap(), wanted);
    }
    let asked = server.requests();
    let paths: Vec<String> = asked[1..].iter().map(Request::line).collect();
    let of = |version: &str| format!("PUT /v2/web/manifests/{version}");
    assert_eq!(paths, [of("latest"), of("1"), of(wanted.as_str())]);
    assert!(asked[1..].iter().all(|request| request.header("content-type") == Some(OCI_MANIFEST)));
    assert_eq!(asked[1].body, bytes);
    assert!(matches!(put("lie:1"), Err(Error::DigestMismatch { .. })));
    assert!(matches!(put(&format!("web@{}", digest(b"x"))), Err(Error::DigestMismatch { .. })), "not even sent");
    let error = put("incomplete:1").unwrap_err();
    assert!(text(&error).ends_with("manifest blob unknown: blob unknown to registry"), "{}", text(&error));
}

#[test]
fn connections_are_used_again() {
    let uploads = Uploads::default();
    let server = Server::start(move |request| match request.path.contains("/blobs/sha256:") {
        true => Response::new(200, "content"),
        false => uploads.answer(request),
    });
    let (client, web) = (anonymous(), reference(&server, "web"));
    for _ in 0..5 {
        upload(&client, &web, b"content").unwrap();
        let mut bytes = [0; 7];
        client.blob(&web, &descriptor(b"content")).unwrap().read_exact(&mut bytes).unwrap();
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn credentials_are_asked_for_once() {
    struct Counting(Arc<AtomicUsize>);
    impl Credentials for Counting {
        fn for_registry(&self, _registry: &str) -> Result<Option<Credential>, Error> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Some(Credential::Password { username: "user".to_owned(), password: "secret".to_owned() }))
        }
    }
    let uploads = Uploads::default();
    let server = Server::start(move |request| match request.header("authorization") {
        Some(BASIC) => uploads.answer(request),
        _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let credentials = Box::new(Counting(Arc::clone(&asked)));
    let client = Client::new(ClientOptions { credentials, ..options() });
    for _ in 0..5 {
        upload(&client, &reference(&server, "web"), b"content").unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a program may be behind it");
}
