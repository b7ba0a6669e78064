//! Files of the web.

use crate::host::{Host, loopback_up};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use tare_build::executor::Executor;
use tare_spec::ErrorKind;

crate::cases! { a_file_is_fetched, a_server_that_stops_is_told, nothing_is_fetched_of_a_cancelled_build }

/// Answers one request with these bytes.
fn serve(answer: &'static [u8]) -> String {
    loopback_up();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer).unwrap();
        }
    });
    format!("http://{address}/folder/name.tar?x=1")
}

fn a_file_is_fetched() {
    let host = Host::new();
    let url =
        serve(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nhello");
    let executor = host.executor();
    let mut fetched = executor.fetch(&url).unwrap();
    let mut text = String::new();
    fetched.file.read_to_string(&mut text).unwrap();
    assert_eq!((fetched.name.as_str(), text.as_str()), ("name.tar", "hello"));
    let found = fetched.file.metadata().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&found), 784_111_777);
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&found), 0);
    assert!(host.work().is_empty());
}

fn a_server_that_stops_is_told() {
    let host = Host::new();
    let url = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello");
    let error = host.executor().fetch(&url).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    let url = serve(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n");
    assert!(host.executor().fetch(&url).err().unwrap().to_string().contains("404"));
    let error = host.executor().fetch("http://user:password@127.0.0.1/x").err().unwrap();
    assert!(!format!("{error} {error:?}").contains("password"), "{error}");
    let url = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n");
    let error = host.executor().fetch(&url).err().unwrap();
    assert!(error.to_string().contains("more than 68719476736 bytes"), "{error}");
    assert!(host.work().is_empty());
}

fn nothing_is_fetched_of_a_cancelled_build() {
    let host = Host::new();
    let executor = host.executor();
    executor.cancel();
    assert_eq!(executor.fetch("http://127.0.0.1:1/").err().unwrap().kind, ErrorKind::Cancelled);
}
