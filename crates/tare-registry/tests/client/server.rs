//! A scripted HTTP/1.1 server on loopback, which remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the server hung up in the middle of the body; nobody sees the answer.
    pub(crate) broken: bool,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The method and the path.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// What it gets.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The announced length, if another than the body's.
    pub(crate) length: Option<usize>,
    /// Whether the end of the connection is the end of the body.
    pub(crate) open_ended: bool,
}

impl Response {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), length: None, open_ended: false }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Announces no length.
    pub(crate) fn open_ended(mut self) -> Self {
        self.open_ended = true;
        self
    }

    /// Announces more than it sends.
    pub(crate) fn announcing(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Without those for TLS.
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

impl Server {
    /// Answers every request by this function, until dropped.
    pub(crate) fn start(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::breaking(|_| None, answer)
    }

    /// Hangs up after so many bytes of the bodies of some requests, which are not yet known when it is asked.
    pub(crate) fn breaking(
        after: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let behaviour = Arc::new((after, answer));
        let (seen, stop) = (Arc::clone(&requests), Arc::clone(&stopping));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let counter = Arc::clone(&counter);
                let (behaviour, seen) = (Arc::clone(&behaviour), Arc::clone(&seen));
                // A client that goes away in the middle is no failure of the server.
                std::thread::spawn(move || drop(serve(stream.unwrap(), &counter, &behaviour.0, &behaviour.1, &seen)));
            }
        });
        Self { address, requests, connections, stopping }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How often paths that begin so were asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.path.starts_with(path)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    stream: TcpStream,
    connections: &AtomicUsize,
    after: &dyn Fn(&Request) -> Option<usize>,
    answer: &dyn Fn(&Request) -> Response,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    if reader.fill_buf()?.first().is_some_and(|first| *first != 0x16) {
        connections.fetch_add(1, Ordering::SeqCst);
    }
    // The first byte of a TLS handshake: hang up, as servers without TLS do.
    while reader.fill_buf()?.first().is_some_and(|first| *first != 0x16) {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut request = Request { method, path, headers, body: Vec::new(), broken: false };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        let end = after(&request);
        request.broken = end.is_some();
        request.body.resize(end.unwrap_or(length), 0);
        reader.read_exact(&mut request.body)?;
        let response = answer(&request);
        seen.lock().unwrap().push(request);
        if end.is_some() {
            break;
        }
        let length = response.length.unwrap_or(response.body.len());
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", response.status);
        if !response.open_ended {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // At once: the kernel would hold a second small packet back until the first one is acknowledged.
        writer.write_all(&[head.as_bytes(), b"\r\n", &response.body].concat())?;
        if response.open_ended || length != response.body.len() {
            break;
        }
    }
    writer.shutdown(std::net::Shutdown::Both)
}
