//! Mirrors: asked first, trusted by digest only, and never with the registry's credentials.

use crate::fixture::{BASIC, MANIFEST, blob, descriptor, digest, error, manifest, options, reference};
use crate::server::{Request, Response, Server};
use std::io::Read;
use tare_registry::{Client, ClientOptions, Credential, Credentials, Error, Registries};

/// A client that knows mirrors of a server.
fn with_mirrors(server: &Server, mirrors: &[String], credentials: Box<dyn Credentials>) -> Client {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registries.json");
    let json = serde_json::json!({"mirrors": {server.address.to_string(): mirrors}});
    std::fs::write(&path, json.to_string()).unwrap();
    let registries = Registries::read(&path).unwrap();
    Client::new(ClientOptions { registries, credentials, ..options() })
}

struct For(String);

impl Credentials for For {
    fn for_registry(&self, registry: &str) -> Result<Option<Credential>, Error> {
        let password = || Credential::Password { username: "user".to_owned(), password: "secret".to_owned() };
        Ok((registry == self.0).then(password))
    }
}

fn registry(request: &Request) -> Response {
    match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        path if path.contains("/manifests/") => manifest(),
        path if path.contains("/blobs/") => Response::new(200, "content"),
        _ => Response::new(404, ""),
    }
}

#[test]
fn mirrors_are_asked_first_and_in_order() {
    let empty = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    });
    let full = Server::start(registry);
    let origin = Server::start(registry);
    let mirrors = [empty.url(""), full.url("/cache/hub/")];
    let client = with_mirrors(&origin, &mirrors, Box::new(tare_registry::Anonymous));
    let web = reference(&origin, "a/web:1");
    assert_eq!(client.manifest(&web).unwrap().bytes, MANIFEST.as_bytes());
    assert_eq!(blob(&client, &web, b"content"), b"content");
    assert!(origin.requests().is_empty());
    let lines: Vec<String> = full.requests().iter().map(Request::line).collect();
    let blob = format!("GET /v2/cache/hub/a/web/blobs/{}", digest(b"content"));
    assert_eq!(lines, ["GET /v2/", "GET /v2/cache/hub/a/web/manifests/1", &blob]);
    assert_eq!(empty.count("/v2/a/web/"), 2, "one that does not have something is asked for the next thing");
}

#[test]
fn a_mirror_that_fails_is_not_asked_again() {
    let broken = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => Response::new(500, "<html>"),
    });
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Server::start(registry);
    let mirrors = [format!("http://{gone}"), broken.url("")];
    let client = with_mirrors(&origin, &mirrors, Box::new(tare_registry::Anonymous));
    let web = reference(&origin, "web");
    for _ in 0..2 {
        client.manifest(&web).unwrap();
    }
    assert_eq!(broken.count("/v2/web/"), 3, "the attempts of one request");
    assert_eq!(origin.count("/v2/web/"), 2);
}

#[test]
fn what_a_mirror_began_the_registry_ends() {
    let liar = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => Response::new(200, "something else"),
    });
    let breaking = Server::start(|request| match (request.path.as_str(), request.header("range")) {
        ("/v2/", _) => Response::new(200, "{}"),
        (_, None) => Response::new(200, "cont").announcing(7),
        _ => Response::new(206, "").header("content-range", "bytes 4-6/7").announcing(3),
    });
    let origin = Server::start(|request| match (request.path.as_str(), request.header("range")) {
        ("/v2/", _) => Response::new(200, "{}"),
        (_, Some("bytes=4-")) => Response::new(206, "ent").header("content-range", "bytes 4-6/7"),
        _ => Response::new(400, ""),
    });
    let mirrors = [liar.url(""), breaking.url("")];
    let client = with_mirrors(&origin, &mirrors, Box::new(tare_registry::Anonymous));
    assert_eq!(blob(&client, &reference(&origin, "web"), b"content"), b"content");
    assert_eq!((liar.count("/v2/web/"), origin.count("/v2/web/")), (1, 1));
}

#[test]
fn mirrors_do_not_get_the_registrys_credentials() {
    let ask = |request: &Request| match request.header("authorization") {
        Some(BASIC) => registry(request),
        _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    };
    let (mirror, origin) = (Server::start(ask), Server::start(ask));
    for (user_of, by_mirror) in [(&origin, 0), (&mirror, 1)] {
        let credentials = Box::new(For(user_of.address.to_string()));
        let client = with_mirrors(&origin, &[mirror.url("")], credentials);
        client.manifest(&reference(&origin, "web")).unwrap();
        let shown = mirror.requests().iter().filter(|request| request.header("authorization").is_some()).count();
        assert_eq!(shown, by_mirror);
    }
}

#[test]
fn writing_goes_to_the_registry() {
    let mirror = Server::start(registry);
    let origin = Server::start(|request| match request.method.as_str() {
        "PUT" => Response::new(201, ""),
        "POST" => Response::new(202, "").header("location", "/upload"),
        "HEAD" => Response::new(404, ""),
        _ => Response::new(200, "{}"),
    });
    let client = with_mirrors(&origin, &[mirror.url("")], Box::new(tare_registry::Anonymous));
    let web = reference(&origin, "web");
    assert!(!client.has_blob(&web, &descriptor(b"x")).unwrap());
    let open = |_| Ok(Box::new(&b"x"[..]) as Box<dyn Read + Send>);
    client.upload_blob(&web, &descriptor(b"x"), &open, &|_| {}).unwrap();
    client.put_manifest(&web, "x", b"{}").unwrap();
    assert!(mirror.requests().is_empty());
}

#[test]
fn other_bytes_than_the_digest_says_are_no_manifest() {
    let evil = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => Response::new(200, "evil"),
    });
    let origin = Server::start(registry);
    let client = with_mirrors(&origin, &[evil.url("")], Box::new(tare_registry::Anonymous));
    let wanted = digest(MANIFEST.as_bytes());
    assert_eq!(client.manifest(&reference(&origin, &format!("web@{wanted}"))).unwrap().digest, wanted);
    assert_eq!(evil.count("/v2/web/"), 1);
}
