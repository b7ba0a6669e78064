//! HTTP by hand: what a library would never send can be sent.

use crate::PATIENCE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A request on a connection of its own.
pub(crate) struct Call {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
    has_length: bool,
    is_head: bool,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body is as long as it was announced.
    pub(crate) whole: bool,
}

impl Call {
    pub(crate) fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        Self { address, head, body: Vec::new(), has_length: false, is_head: method == "HEAD" }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.has_length |= name == "content-length" || name == "transfer-encoding";
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Sends it and leaves the connection to the caller.
    pub(crate) fn open(self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = if self.has_length { String::new() } else { format!("content-length: {}\r\n", self.body.len()) };
        stream.write_all(format!("{}{length}\r\n", self.head).as_bytes()).unwrap();
        // A server that refuses a body may close before all of it is sent.
        let _ = stream.write_all(&self.body);
        stream
    }

    pub(crate) fn send(self) -> Answer {
        let is_head = self.is_head;
        Answer::read(self.open(), is_head)
    }
}

impl Answer {
    /// Reads an answer up to the end of the connection.
    pub(crate) fn read(mut stream: impl Read, is_head: bool) -> Self {
        let mut bytes = Vec::new();
        // A connection that breaks is an answer that is not whole.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let body = bytes[end + 4..].to_vec();
        let mut answer = Self { status, headers, body, whole: true };
        let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
        answer.whole = is_head || length.is_none_or(|length| length == answer.body.len());
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}
