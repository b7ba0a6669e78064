//! Lists that are long, endless, or none; search.

use crate::fixture::{BASIC, anonymous, digest, error, reference, with_password};
use crate::server::{Request, Response, Server};
use tare_registry::Error;
use tare_spec::ErrorKind;
use tare_spec::image::media_type::OCI_INDEX;

#[test]
fn tags_come_in_pages() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/web/tags/list?n=1000" => Response::new(200, r#"{"name":"web","tags":["1","2"]}"#)
            .header("link", "</v2/web/tags/list?last=2&n=1000>; rel=\"next\""),
        "/v2/web/tags/list?last=2&n=1000" => Response::new(200, r#"{"tags":["latest"]}"#),
        "/v2/none/tags/list?n=1000" => Response::new(200, r#"{"tags":null}"#),
        "/v2/evil/tags/list?n=1000" => Response::new(200, "{\"tags\":[\"../x\"]}"),
        "/v2/html/tags/list?n=1000" => Response::new(200, "<html>"),
        _ => error(404, "NAME_UNKNOWN", "repository name not known to registry"),
    });
    let tags = |name: &str| anonymous().tags(&reference(&server, name));
    assert_eq!(tags("web:ignored").unwrap(), ["1", "2", "latest"]);
    assert_eq!(tags("none").unwrap(), [""; 0]);
    assert!(tags("evil").unwrap_err().to_string().ends_with("\"../x\" is no tag"));
    assert!(tags("html").unwrap_err().to_string().ends_with("the answer is no tag list"));
    assert_eq!(tags("gone").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn endless_and_foreign_pages_are_not_followed() {
    let foreign = Server::start(|_| Response::new(200, r#"{"tags":["stolen"]}"#));
    let elsewhere = format!("<{}>; rel=next", foreign.url("/v2/web/tags/list"));
    let server = Server::start(move |request| match request.path.as_str() {
        path if request.header("authorization") != Some(BASIC) => {
            Response::new(401, path).header("www-authenticate", "Basic realm=\"r\"")
        }
        path if path.starts_with("/v2/foreign/") => Response::new(200, "{}").header("link", &elsewhere),
        path if path.starts_with("/v2/circle/") => {
            Response::new(200, r#"{"tags":["1"]}"#).header("link", format!("<{path}>; rel=next"))
        }
        path => {
            let next = format!("<{}x>; rel=next", path.split("&x=").next().unwrap().to_owned() + "&x=");
            let next = if path.ends_with("&x=x") { next.replace("x>", "y>") } else { next };
            Response::new(200, r#"{"tags":["1"]}"#).header("link", next)
        }
    });
    let client = with_password();
    for (name, problem) in [
        ("foreign", "the next page of the tag list is at"),
        ("circle", "the next page of the tag list is at"),
        ("endless", "the tag list has more than 1000 pages"),
    ] {
        let error = client.tags(&reference(&server, name)).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert!(foreign.requests().is_empty());
}

#[test]
fn giant_lists_are_not_taken() {
    let many = format!(r#"{{"tags":["1"{}]}}"#, r#","1""#.repeat(250_000));
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        path if path.starts_with("/v2/many/") => Response::new(200, &many[..]),
        _ => Response::new(200, vec![b' '; 5 << 20]),
    });
    let error = anonymous().tags(&reference(&server, "many")).unwrap_err();
    assert!(error.to_string().ends_with("the tag list has more than 200000 entries"), "{error}");
    let error = anonymous().tags(&reference(&server, "large")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn referrers_by_their_function_or_by_their_tag() {
    let subject = digest(b"image");
    let entry = |kind: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":5,"artifactType":"{kind}"}}"#,
            digest(kind.as_bytes())
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},{}]}}"#,
        entry("test/signature"),
        entry("test/sbom")
    );
    let tag = subject.to_string().replace(':', "-");
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        path if path.starts_with("/v2/new/referrers/") => Response::new(200, &index[..]),
        path if path == format!("/v2/old/manifests/{tag}") => Response::new(200, &index[..]),
        path if path.contains("/manifests/") => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        _ => Response::new(404, "404 page not found"),
    });
    for (name, count) in [("new", 2), ("old", 2), ("none", 0)] {
        let image = reference(&server, &format!("{name}@{subject}"));
        assert_eq!(anonymous().referrers(&image, None).unwrap().len(), count, "{name}");
        let sboms = anonymous().referrers(&image, Some("test/sbom")).unwrap();
        assert_eq!(sboms.len(), count / 2, "{name}");
    }
}

fn search_server(request: &Request) -> Response {
    match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v1/search?q=web%20app&n=25" => Response::new(
            200,
            r#"{"num_results":2,"results":[
            {"name":"web","description":"a\u001b[31m\nb","star_count":7,"is_official":true,"is_trusted":false},{"name":"x/web","description":""}]}"#,
        ),
        _ => Response::new(404, ""),
    }
}

#[test]
fn a_search_finds_or_says_why_not() {
    let server = Server::start(search_server);
    let host = server.address.to_string();
    let found = anonymous().search(&host, "web app", 25).unwrap();
    assert_eq!((found.len(), found[0].star_count, found[0].is_official), (2, 7, true));
    assert_eq!(found[0].description, "a [31m b");
    let error = anonymous().search(&host, "other", 25).unwrap_err();
    assert_eq!(error.to_string(), format!("registry {host} does not support search"));
    assert_eq!(error.kind(), ErrorKind::NotImplemented);

    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Response::new(200, "{}"),
        "/v2/_catalog?n=1000" => Response::new(200, r#"{"repositories":["a/web","db","web"]}"#),
        _ => Response::new(404, ""),
    });
    let found = anonymous().search(&server.address.to_string(), "web", 1).unwrap();
    assert_eq!(found.iter().map(|result| result.name.as_str()).collect::<Vec<_>>(), ["a/web"]);
}
