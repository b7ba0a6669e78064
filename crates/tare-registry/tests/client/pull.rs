//! Reading from registries that behave, misbehave and attack.

use crate::fixture::{
    BASIC, MANIFEST, anonymous, blob, blob_error, digest, error, manifest, options, reference, text, with_password,
};
use crate::server::{Request, Response, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tare_registry::{Client, ClientOptions, Credential, Credentials, Error, Timeouts, TransportError};
use tare_spec::image::media_type::OCI_MANIFEST;
use tare_spec::image::{Descriptor, MANIFEST_LIMIT};
use tare_spec::{ErrorKind, Reference};

#[test]
fn an_anonymous_pull() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/web/manifests/latest" | "/v2/web/manifests/1.0" => manifest(),
        path if path.starts_with("/v2/web/blobs/sha256:") => Response::new(200, "content"),
        path if path.starts_with("/v2/web/manifests/sha256:") => manifest(),
        _ => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    });
    let client = anonymous();
    for name in ["web", "web:1.0", &format!("web@{}", digest(MANIFEST.as_bytes()))] {
        let response = client.manifest(&reference(&server, name)).unwrap();
        assert_eq!(response.bytes, MANIFEST.as_bytes());
        assert_eq!((response.media_type.as_str(), response.digest), (OCI_MANIFEST, digest(MANIFEST.as_bytes())));
    }
    assert_eq!(blob(&client, &reference(&server, "web"), b"content"), b"content");
    assert_eq!(server.count("/v2/ "), 0);
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|request| request.path == "/v2/").count(), 1, "asked once how to reach it");
    let accept = requests[1].header("accept").unwrap();
    assert!(accept.contains(OCI_MANIFEST) && accept.contains("manifest.list.v2+json"), "{accept}");
    assert!(requests[1].header("user-agent").unwrap().starts_with("tare/"));
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn failures_are_told_in_dockers_words() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/gone/manifests/1" => error(404, "MANIFEST_UNKNOWN", "no such\\u001b[31m tag"),
        "/v2/empty/manifests/1" => Response::new(404, ""),
        "/v2/norepo/manifests/1" => error(404, "NAME_UNKNOWN", "repository name not known to registry"),
        "/v2/secret/manifests/1" => error(403, "DENIED", "requested access to the resource is denied"),
        "/v2/busy/manifests/1" => error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", "3600"),
        "/v2/teapot/manifests/1" => Response::new(418, "<html>"),
        "/v2/broken/manifests/1" => error(500, "UNKNOWN", "disk full"),
        path if path.starts_with("/v2/gone/blobs/") => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        _ => Response::new(404, ""),
    });
    let client = anonymous();
    let host = server.address;
    for (name, kind, expected) in [
        (
            "gone",
            ErrorKind::NotFound,
            format!("manifest for {host}/gone:1 not found: manifest unknown: no such [31m tag"),
        ),
        (
            "empty",
            ErrorKind::NotFound,
            format!("manifest for {host}/empty:1 not found: manifest unknown: manifest unknown"),
        ),
        (
            "norepo",
            ErrorKind::NotFound,
            format!("repository {host}/norepo not found: name unknown: repository name not known to registry"),
        ),
        (
            "secret",
            ErrorKind::NotFound,
            format!(
                "pull access denied for {host}/secret, repository does not exist or may require 'tare login': \
                 denied: requested access to the resource is denied"
            ),
        ),
        (
            "busy",
            ErrorKind::Unavailable,
            format!("Get \"http://{host}/v2/busy/manifests/1\": toomanyrequests: slow down"),
        ),
        (
            "teapot",
            ErrorKind::Unavailable,
            format!("Get \"http://{host}/v2/teapot/manifests/1\": received unexpected HTTP status: 418 I'm a teapot"),
        ),
        (
            "broken",
            ErrorKind::Unavailable,
            format!(
                "Get \"http://{host}/v2/broken/manifests/1\": received unexpected HTTP status: 500 Internal Server Error: unknown: disk full"
            ),
        ),
    ] {
        let error = client.manifest(&reference(&server, &format!("{name}:1"))).unwrap_err();
        assert_eq!((text(&error), error.kind()), (expected, kind));
    }
    assert_eq!(server.count("/v2/busy/"), 1, "nobody waits an hour");
    assert_eq!(server.count("/v2/broken/"), 3, "a server's failure may pass");
    assert_eq!(server.count("/v2/teapot/"), 1);
    let missing = Descriptor::new("x", digest(b"x"), 1);
    let error = blob_error(&client, &reference(&server, "gone"), &missing);
    let expected = format!("blob {} of {host}/gone not found: blob unknown: blob unknown to registry", missing.digest);
    assert_eq!(text(&error), expected);
}

#[test]
fn a_registry_that_is_down_is_told_at_once() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = anonymous().manifest(&Reference::parse(&format!("{address}/web")).unwrap()).unwrap_err();
    let expected = format!("Get \"https://{address}/v2/\": dial tcp {address}: connect: connection refused");
    assert_eq!((text(&error), error.kind()), (expected, ErrorKind::Unavailable));
}

#[test]
fn a_silent_registry_is_given_up() {
    // Connections are made by the kernel, and nobody takes them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = Reference::parse(&format!("{}/web", listener.local_addr().unwrap())).unwrap();
    let timeouts =
        Timeouts { connect: Duration::from_millis(50), read: Duration::from_millis(50), ..Timeouts::default() };
    let error = Client::new(ClientOptions { timeouts, ..options() }).manifest(&reference).unwrap_err();
    assert!(matches!(error, Error::Transport { source: TransportError::Stalled { .. }, .. }), "{error:?}");
}

#[test]
fn a_busy_registry_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ if asked.fetch_add(1, Ordering::SeqCst) == 0 => Response::new(429, "").header("retry-after", "0"),
        _ => manifest(),
    });
    anonymous().manifest(&reference(&server, "web")).unwrap();
    assert_eq!(server.count("/v2/web/"), 2);
}

/// A registry whose repositories need a token of the realm that `realm` makes of the server's own `Host`.
fn token_registry(request: &Request, realm: &str, scope: &str) -> Response {
    let challenge = format!(r#"Bearer realm="{realm}",service="the registry",scope="{scope}""#);
    match (request.path.as_str(), request.header("authorization")) {
        ("/v2/", None) => Response::new(401, "").header("www-authenticate", challenge),
        (path, Some("Bearer good")) if path.contains("/manifests/") => manifest(),
        (path, Some("Bearer good")) if path.contains("/blobs/") => Response::new(200, "content"),
        _ => error(401, "UNAUTHORIZED", "authentication required").header("www-authenticate", challenge),
    }
}

#[test]
fn a_token_is_fetched_once_and_goes_to_the_registry_only() {
    let auth = Server::start(|_| Response::new(200, r#"{"token":"good","expires_in":300}"#));
    let realm = auth.url("/token?x=1");
    let server = Server::start(move |request| token_registry(request, &realm, ""));
    let client = with_password();
    let reference = reference(&server, "a/web:1");
    client.manifest(&reference).unwrap();
    assert_eq!(blob(&client, &reference, b"content"), b"content");
    let asked = auth.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?x=1&scope=repository:a/web:pull&service=the%20registry&account=user");
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    let shown: Vec<_> = server.requests().iter().map(|r| r.header("authorization").map(str::to_owned)).collect();
    assert_eq!(shown, [None, Some("Bearer good".to_owned()), Some("Bearer good".to_owned())]);
}

#[test]
fn an_anonymous_token_needs_no_password() {
    let auth = Server::start(|_| Response::new(200, r#"{"access_token":"good"}"#));
    let realm = auth.url("/token");
    let server = Server::start(move |request| token_registry(request, &realm, "repository:other:delete"));
    anonymous().manifest(&reference(&server, "web")).unwrap();
    assert_eq!(auth.requests()[0].path, "/token?scope=repository:web:pull&service=the%20registry");
    assert_eq!(auth.requests()[0].header("authorization"), None);
}

#[test]
fn an_identity_token_is_exchanged() {
    struct Identity;
    impl Credentials for Identity {
        fn for_registry(&self, _registry: &str) -> Result<Option<Credential>, Error> {
            Ok(Some(Credential::IdentityToken("refresh&me".to_owned())))
        }
    }
    let auth = Server::start(|_| Response::new(200, r#"{"access_token":"good"}"#));
    let realm = auth.url("/token");
    let server = Server::start(move |request| token_registry(request, &realm, ""));
    let client = Client::new(ClientOptions { credentials: Box::new(Identity), ..options() });
    client.manifest(&reference(&server, "web")).unwrap();
    let asked = &auth.requests()[0];
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    assert!(asked.text().contains("grant_type=refresh_token"), "{}", asked.text());
    assert!(asked.text().contains("refresh_token=refresh%26me"), "{}", asked.text());
}

#[test]
fn an_expired_token_is_renewed_once() {
    let given = AtomicUsize::new(0);
    let auth = Server::start(move |_| match given.fetch_add(1, Ordering::SeqCst) {
        0 => Response::new(200, r#"{"token":"stale"}"#),
        _ => Response::new(200, r#"{"token":"good"}"#),
    });
    let realm = auth.url("/token");
    let server = Server::start(move |request| token_registry(request, &realm, ""));
    anonymous().manifest(&reference(&server, "web")).unwrap();
    assert_eq!(auth.requests().len(), 2);
}

#[test]
fn wrong_or_missing_passwords() {
    let auth = Server::start(|_| Response::new(401, r#"{"details":"incorrect username or password"}"#));
    let realm = auth.url("/token");
    let server = Server::start(move |request| token_registry(request, &realm, ""));
    let reference = reference(&server, "web");
    let error = with_password().manifest(&reference).unwrap_err();
    let expected = format!("Get \"{}\": incorrect username or password", auth.url("/token"));
    assert_eq!((text(&error), error.kind()), (expected, ErrorKind::Unauthorized));
    let error = anonymous().manifest(&reference).unwrap_err();
    assert!(matches!(error, Error::AccessDenied { .. }), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

fn basic_registry(request: &Request) -> Response {
    match (request.header("authorization"), request.path.as_str()) {
        (Some(BASIC), "/v2/") => Response::new(200, "{}"),
        (Some(BASIC), _) => manifest(),
        _ => error(401, "UNAUTHORIZED", "authentication required").header("www-authenticate", "Basic realm=\"r\""),
    }
}

#[test]
fn basic_authentication() {
    let server = Server::start(basic_registry);
    with_password().manifest(&reference(&server, "web")).unwrap();
    let error = anonymous().manifest(&reference(&server, "web")).unwrap_err();
    let expected = format!("Get \"{}\": no basic auth credentials", server.url("/v2/"));
    assert_eq!((text(&error), error.kind()), (expected, ErrorKind::Unauthorized));

    let server = Server::start(|_| Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""));
    let error = with_password().manifest(&reference(&server, "web")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert_eq!(server.count("/v2/web/"), 2, "a refused password is not tried for ever");
}

/// CVE-2020-15157: the password must not follow a redirect, nor answer a challenge of the place it leads to.
#[test]
fn redirects_are_followed_without_credentials() {
    let storage = Server::start(|request| match request.path.as_str() {
        "/open?sig=1" => Response::new(200, "content"),
        _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"give\""),
    });
    let (open, closed) = (storage.url("/open?sig=1"), storage.url("/closed?sig=1"));
    let content = digest(b"content");
    let good = content.to_string();
    let server = Server::start(move |request| match request.path.as_str() {
        path if path.starts_with("/v2/web/blobs/") => {
            assert_eq!(request.header("authorization"), Some(BASIC));
            Response::new(307, "").header("location", if path.ends_with(&good) { &open } else { &closed })
        }
        path if path.starts_with("/v2/moved/blobs/") => Response::new(302, "").header("location", "/elsewhere"),
        "/elsewhere" if request.header("authorization") == Some(BASIC) => Response::new(200, "content"),
        path if path.starts_with("/v2/circle/") => Response::new(302, "").header("location", path),
        path if path.starts_with("/v2/file/") => Response::new(302, "").header("location", "file:///etc/passwd"),
        _ => basic_registry(request),
    });
    let client = with_password();
    assert_eq!(blob(&client, &reference(&server, "web"), b"content"), b"content");
    assert_eq!(blob(&client, &reference(&server, "moved"), b"content"), b"content");
    let other = Descriptor::new("x", digest(b"other"), 5);
    let error = blob_error(&client, &reference(&server, "web"), &other);
    assert_eq!(
        text(&error),
        format!("Get \"{}\": received unexpected HTTP status: 401 Unauthorized", storage.url("/closed"))
    );
    assert_eq!(storage.requests().len(), 2);
    assert!(storage.requests().iter().all(|request| request.header("authorization").is_none()));
    for name in ["circle", "file"] {
        let error = blob_error(&client, &reference(&server, name), &other);
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
}

#[test]
fn other_bytes_than_asked_for_are_refused() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/lie/manifests/latest" => manifest().header("docker-content-digest", digest(b"other").as_str()),
        path if path.starts_with("/v2/open/") => Response::new(200, "evil").open_ended(),
        _ => Response::new(200, "evil").header("content-type", OCI_MANIFEST),
    });
    let client = anonymous();
    let wanted = digest(MANIFEST.as_bytes());
    let error = client.manifest(&reference(&server, &format!("web@{wanted}"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest verification failed for digest {wanted}: received {}", digest(b"evil"))
    );
    let error = client.manifest(&reference(&server, "lie")).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    for size in [3, 5] {
        let error = blob_error(&client, &reference(&server, "web"), &Descriptor::new("x", digest(b"evil"), size));
        assert!(matches!(error, Error::BlobSize { actual: 4, .. }), "{error}");
    }
    let error = blob_error(&client, &reference(&server, "open"), &Descriptor::new("x", digest(b"evi"), 3));
    assert!(matches!(error, Error::BlobSize { actual: 4, .. }), "{error}");
}

#[test]
fn oversize_documents_are_not_taken() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/announced/manifests/latest" => manifest().announcing(1 << 40),
        "/v2/open/manifests/latest" => {
            Response::new(200, vec![b' '; usize::try_from(MANIFEST_LIMIT).unwrap() + 1]).open_ended()
        }
        _ => Response::new(200, vec![b' '; usize::try_from(MANIFEST_LIMIT).unwrap() + 1]),
    });
    for name in ["announced", "open", "large"] {
        let error = anonymous().manifest(&reference(&server, name)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: MANIFEST_LIMIT, .. }), "{error}");
    }
}

#[test]
fn a_broken_stream_is_resumed() {
    for ranges in [true, false] {
        let content: Arc<Vec<u8>> = Arc::new((0..100_000_u32).flat_map(u32::to_le_bytes).collect());
        let (sent, asked) = (Arc::clone(&content), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            if request.path == "/v2/" {
                return Response::new(200, "{}");
            }
            let start = request.header("range").filter(|_| ranges);
            let start = start.map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap());
            let rest = &sent[start.unwrap_or(0)..];
            let response = match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Response::new(200, &rest[..100_001]).announcing(rest.len()),
                _ => Response::new(if start.is_some() { 206 } else { 200 }, rest),
            };
            match start {
                Some(start) => response.header("content-range", format!("bytes {start}-{}/*", sent.len() - 1)),
                None => response,
            }
        });
        assert_eq!(blob(&anonymous(), &reference(&server, "web"), &content), *content);
        let requests = server.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].header("range"), Some("bytes=100001-"));
    }
}

#[test]
fn a_stream_that_always_breaks_fails() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ if request.header("range").is_some() => {
            Response::new(206, "").header("content-range", "bytes 4-6/7").announcing(3)
        }
        _ => Response::new(200, "cont").announcing(7),
    });
    let descriptor = Descriptor::new("x", digest(b"content"), 7);
    let error = blob_error(&anonymous(), &reference(&server, "web"), &descriptor);
    assert!(text(&error).ends_with(": unexpected EOF"), "{}", text(&error));
    assert_eq!(server.count("/v2/web/"), 3);

    let server = Server::start(|request| match request.header("range") {
        _ if request.path == "/v2/" => Response::new(200, "{}"),
        Some(_) => Response::new(206, "evil").header("content-range", "bytes 0-3/7"),
        None => Response::new(200, "cont").announcing(7),
    });
    let error = blob_error(&anonymous(), &reference(&server, "web"), &descriptor);
    assert!(matches!(error, Error::Protocol { .. }), "another range than asked for: {error}");
}

#[test]
fn clones_work_in_threads_and_share_one_token() {
    let auth = Server::start(|_| Response::new(200, r#"{"token":"good"}"#));
    let realm = auth.url("/token");
    let server = Server::start(move |request| token_registry(request, &realm, ""));
    let client = anonymous();
    let reference = reference(&server, "web");
    client.manifest(&reference).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (client, reference) = (client.clone(), &reference);
            scope.spawn(move || assert_eq!(blob(&client, reference, b"content"), b"content"));
        }
    });
    assert_eq!(auth.requests().len(), 1);
}
