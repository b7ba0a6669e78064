//! What images and answers name must not lead the client anywhere, nor its credentials.

use crate::fixture::{BASIC, MANIFEST, blob, digest, manifest, reference, with_password};
use crate::server::{Response, Server};
use std::io::Read;
use tare_registry::Error;
use tare_spec::image::Descriptor;
use tare_spec::image::media_type::OCI_MANIFEST;

/// CVE-2020-15157: `urls` of a layer are somebody else's words. Nothing is fetched from there, with credentials or
/// without, not even when the registry has not got the layer.
#[test]
fn urls_of_layers_are_not_followed() {
    let foreign = Server::start(|_| Response::new(200, "content"));
    let server = Server::start(|request| match (request.header("authorization"), request.path.as_str()) {
        (Some(BASIC), path) if path.starts_with("/v2/web/blobs/") => Response::new(200, "content"),
        (Some(BASIC), _) => Response::new(404, ""),
        _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
    });
    let client = with_password();
    let mut descriptor = Descriptor::new(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        digest(b"content"),
        "content".len() as u64,
    );
    descriptor.urls = vec![foreign.url("/layer"), "file:///etc/passwd".to_owned()];
    let mut bytes = Vec::new();
    client.blob(&reference(&server, "web"), &descriptor).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"content");
    assert!(client.blob(&reference(&server, "none"), &descriptor).is_err());
    assert_eq!(foreign.requests().len(), 0);
}

/// A redirect of anything, however it is spelt, takes the credentials along to the registry itself only.
#[test]
fn redirects_to_hosts_that_look_alike_get_no_credentials() {
    let evil = Server::start(|_| manifest());
    let port = evil.address.port();
    for target in [
        format!("http://127.0.0.1:{port}/v2/"),
        format!("//127.0.0.1:{port}/v2/"),
        format!("HTTP://127.0.0.1:{port}/v2/"),
        format!("http://user:secret@127.0.0.1:{port}/v2/"),
        format!("\\\\127.0.0.1:{port}\\v2\\"),
        format!("http:127.0.0.1:{port}/v2/"),
    ] {
        let location = target.clone();
        let server = Server::start(move |request| match (request.header("authorization"), request.path.as_str()) {
            (Some(BASIC), "/v2/") => Response::new(200, "{}"),
            (Some(BASIC), path) if path.ends_with("/manifests/latest") => {
                Response::new(307, "").header("location", &location)
            }
            (Some(BASIC), _) => Response::new(404, ""),
            _ => Response::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
        });
        // Followed or refused, both are right.
        let _ = with_password().manifest(&reference(&server, "web"));
        assert!(server.requests().len() >= 2, "{target}: the redirect was not even met");
    }
    assert!(evil.requests().iter().all(|request| request.header("authorization").is_none()), "{:?}", evil.requests());
    assert!(!evil.requests().is_empty());
}

/// CVE-2024-3727: what a registry calls a digest is compared or refused, and never becomes a name of anything.
#[test]
fn digests_of_answers_follow_the_grammar() {
    let body = digest(MANIFEST.as_bytes());
    for header in [
        "sha256:../../../../etc/passwd".to_owned(),
        format!("sha256:{}", body.hex().to_uppercase()),
        format!("sha256:{}", &body.hex()[..63]),
        format!("sha256:{}0", body.hex()),
        format!("md5:{}", &body.hex()[..32]),
        format!("../sha256:{}", body.hex()),
        format!("{body}/.."),
    ] {
        let said = header.clone();
        let server = Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
            (_, "/v2/") => Response::new(200, "{}"),
            ("PUT", _) => Response::new(201, "").header("docker-content-digest", &said),
            _ => manifest().header("docker-content-digest", &said),
        });
        let (client, web) = (crate::fixture::anonymous(), reference(&server, "web"));
        match client.manifest(&web) {
            Ok(answer) => assert_eq!(answer.digest, body, "{header}"),
            Err(error) => assert!(matches!(error, Error::DigestMismatch { .. } | Error::Protocol { .. }), "{error:?}"),
        }
        match client.put_manifest(&web, OCI_MANIFEST, MANIFEST.as_bytes()) {
            Ok(answer) => assert_eq!(answer, body, "{header}"),
            Err(error) => assert!(matches!(error, Error::DigestMismatch { .. } | Error::Protocol { .. }), "{error:?}"),
        }
        assert_eq!(client.manifest_digest(&web).unwrap(), None, "{header}");
    }
}

/// The right size with other bytes, at once and after a break: the store's pass is the one that compares digests, so
/// that here only sizes are promised.
#[test]
fn a_blob_has_the_size_of_its_descriptor() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        _ => Response::new(200, "content"),
    });
    let client = crate::fixture::anonymous();
    assert_eq!(blob(&client, &reference(&server, "web"), b"content"), b"content");
    for size in [0, 6, 8, u64::MAX] {
        let wanted = Descriptor::new("x", digest(b"content"), size);
        let error = crate::fixture::blob_error(&client, &reference(&server, "web"), &wanted);
        assert!(matches!(error, Error::BlobSize { .. } | Error::Transport { .. }), "{size}: {error:?}");
    }
}
