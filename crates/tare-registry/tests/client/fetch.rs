//! Files of the web.

use crate::fixture::{anonymous, with_password};
use crate::server::{Request, Response, Server};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_registry::Error;

const TAG: &str = "\"v1\"";

fn content() -> Vec<u8> {
    (0..3_000_000_u32).map(|number| (number % 251) as u8).collect()
}

/// The part of the contents that a request asks for, cut after so many bytes.
fn part(request: &Request, cut: usize) -> Response {
    let content = content();
    let start = request.header("range").map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap());
    let rest = &content[start.unwrap_or(0)..];
    let status = if start.is_some() { 206 } else { 200 };
    let response = Response::new(status, &rest[..cut.min(rest.len())]).announcing(rest.len()).header("etag", TAG);
    let range = format!("bytes {}-{}/{}", start.unwrap_or(0), content.len() - 1, content.len());
    if start.is_some() { response.header("content-range", range) } else { response }
}

fn read(url: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    match anonymous().fetch(url)?.reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(*error.into_inner().unwrap().downcast().unwrap()),
    }
}

#[test]
fn what_the_server_says_of_a_file_is_told() {
    let server = Server::start(|request| match request.path.as_str() {
        "/named" => Response::new(200, "x").header("content-disposition", "attachment; filename=\"real.tar\""),
        "/dated/file" => Response::new(200, "abc").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        "/moved" => Response::new(302, "").header("location", "/dated/file"),
        "/open" => Response::new(200, "abc").open_ended(),
        _ => Response::new(404, ""),
    });
    let client = with_password();
    let seen = |path: &str| {
        let mut file = client.fetch(&server.url(path)).unwrap();
        let mut text = String::new();
        file.reader.read_to_string(&mut text).unwrap();
        (file.name, file.length, file.modified, text)
    };
    assert_eq!(seen("/named"), ("real.tar".to_owned(), Some(1), None, "x".to_owned()));
    assert_eq!(seen("/dated/file"), ("file".to_owned(), Some(3), Some(784_111_777), "abc".to_owned()));
    assert_eq!(seen("/moved"), ("moved".to_owned(), Some(3), Some(784_111_777), "abc".to_owned()));
    assert_eq!(seen("/open").1, None);
    assert!(matches!(client.fetch(&server.url("/none")), Err(Error::Status { status: 404, .. })));
    // Whatever the client knows of registries and their users, nobody hears of it here.
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
    for url in ["ftp://a/b", "file:///etc/passwd", "http://user:secret@127.0.0.1/x", "", "a"] {
        assert!(matches!(client.fetch(url), Err(Error::Protocol { .. })), "{url}");
    }
}

#[test]
fn what_breaks_goes_on_where_it_broke() {
    let server = Server::start(|request| part(request, 1_200_000));
    assert!(read(&server.url("/file")).unwrap() == content());
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests[1..] {
        assert_eq!(request.header("if-range"), Some(TAG));
    }
}

#[test]
fn another_file_is_not_put_behind_the_first() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => part(request, 1_000_000),
        // It has changed meanwhile.
        _ => Response::new(200, content()).header("etag", "\"v2\""),
    });
    let error = read(&server.url("/file")).unwrap_err();
    assert!(error.to_string().contains("another one by now"), "{error}");
}

#[test]
fn without_a_tag_nothing_is_taken_for_the_same() {
    let server = Server::start(|_| Response::new(200, "half").announcing(8).header("etag", "W/\"weak\""));
    assert!(matches!(read(&server.url("/file")).unwrap_err(), Error::Transport { .. }));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn redirects_end_somewhere() {
    let server = Server::start(|_| Response::new(302, "").header("location", "/again"));
    let error = read(&server.url("/")).unwrap_err();
    assert!(error.to_string().contains("stopped after 10 redirects"), "{error}");
}
