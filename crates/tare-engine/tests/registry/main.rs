//! A registry on loopback, asked by a client that can be as rude as a test wants.

#![allow(clippy::unwrap_used, reason = "tests")]

mod access;
mod collect;
mod content;
mod hostile;
mod http;
mod proxy;
mod push;

use http::{Answer, Call};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tare_engine::registry::{self, Event, Limits, ServerOptions, Stop};
use tare_spec::Digest;
use tare_spec::digest::Algorithm;
use tare_store::content::Hasher;

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(30);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A server of this process; stopped when dropped.
struct Registry {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    events: Arc<Mutex<Vec<Event>>>,
}

fn options() -> ServerOptions {
    ServerOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        htpasswd: None,
        read_only: false,
        proxy: None,
        limits: Limits::default(),
    }
}

impl Registry {
    fn start(root: &Path) -> Self {
        Self::with(root, options())
    }

    fn with(root: &Path, options: ServerOptions) -> Self {
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let log = Arc::clone(&events);
        let server = registry::open(root, options, Arc::new(move |event| log.lock().unwrap().push(event))).unwrap();
        let (address, stop) = (server.address(), server.stop());
        let thread = Some(std::thread::spawn(move || server.run().unwrap()));
        Self { address, stop, thread, events }
    }

    fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.address, method, path)
    }

    fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send()
    }

    /// Pushes a blob in one piece.
    fn push(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.call("POST", &path).body(bytes).send();
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    /// Begins an upload and gives its path.
    fn begin(&self, name: &str) -> String {
        let answer = self.call("POST", &format!("/v2/{name}/blobs/uploads/")).send();
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    }

    /// Pushes a manifest of a configuration and a layer, which must be there, and gives its digest.
    fn push_manifest(&self, name: &str, tag: &str, blobs: &[&Digest], more: &str) -> Digest {
        let document = manifest(blobs, more);
        let answer = self.put(name, tag, MANIFEST, &document);
        assert_eq!(answer.status, 201, "{answer:?}");
        digest(document.as_bytes())
    }

    fn put(&self, name: &str, id: &str, media_type: &str, document: &str) -> Answer {
        let path = format!("/v2/{name}/manifests/{id}");
        self.call("PUT", &path).header("content-type", media_type).body(document.as_bytes()).send()
    }

    /// The status of asking for something.
    fn status(&self, path: &str) -> u16 {
        self.call("HEAD", path).send().status
    }

    /// Ends it and waits until it has ended.
    fn end(mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }

    /// What it said besides its access log.
    fn troubles(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let troubles = events.iter().filter_map(|event| match event {
            Event::Trouble(text) => Some(text.clone()),
            Event::Access(access) => access.cause.clone(),
        });
        troubles.collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there is told by the test's own failure.
            let _ = thread.join();
        }
    }
}

fn digest(bytes: &[u8]) -> Digest {
    tare_store::sha256(bytes)
}

fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

/// The first blob is the configuration, the others are layers; `more` is further fields, each with a comma before it.
fn manifest(blobs: &[&Digest], more: &str) -> String {
    let descriptor = |kind: &str, digest: &Digest| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1}}"#);
    let layers: Vec<String> =
        blobs[1..].iter().map(|digest| descriptor("application/vnd.oci.image.layer.v1.tar", digest)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", blobs[0]);
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{}]{more}}}"#, layers.join(","))
}

/// Waits until a condition holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "did not come true: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// All regular files below a folder, without locks.
fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_none_or(|extension| extension != "lock") && !path.ends_with("lock") {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
