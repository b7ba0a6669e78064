//! An HTTP proxy on a test's host, the only way from there to the mirrors and registries of the world.
//!
//! A host has a network of its own with nothing behind it. What tests install comes through here, so that they change nothing of
//! this machine's network, and so that builds get proxies as they do in companies.

use super::Host;
use rustix::net::Shutdown;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

/// An address that containers reach and that is nobody's (RFC 5737), and the usual port.
const ADDRESS: &str = "198.51.100.1";
const PORT: u16 = 3128;

/// Far above any head of a request, in bytes.
const HEAD_LIMIT: usize = 64 << 10;

/// A listening proxy; takes no more connections when dropped.
pub(crate) struct Proxy {
    listener: Arc<TcpListener>,
}

impl Proxy {
    pub(crate) fn start(host: &Host) -> Self {
        host.command("ip", &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]).ok();
        let namespace = File::open(host.network_namespace()).unwrap();
        // A socket stays in the network that it was made in. The thread that enters it ends there.
        let listen = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind((ADDRESS, PORT)).unwrap()
        };
        let listener = Arc::new(std::thread::spawn(listen).join().unwrap());
        let accepting = Arc::clone(&listener);
        std::thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                // A client sees an end, and says so.
                std::thread::spawn(move || drop(serve(client)));
            }
        });
        Self { listener }
    }

    /// The flags of a build that goes through it.
    pub(crate) fn flags() -> [String; 4] {
        let argument = |name: &str| format!("{name}=http://{ADDRESS}:{PORT}");
        ["--build-arg".to_owned(), argument("http_proxy"), "--build-arg".to_owned(), argument("https_proxy")]
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Wakes who accepts.
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
    }
}

/// Hands a connection on to the server that its first request names. Who keeps it open asks for more of the same server (apt does,
/// whose requests servers take with their whole URL as RFC 9112, 3.2.2 wants).
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let Some((tunnel, server)) = target(&line) else { return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n") };
    let mut server = match TcpStream::connect(&server) {
        Ok(stream) => stream,
        Err(error) => {
            let answer =
                format!("HTTP/1.1 502 this machine cannot reach {server}: {error}\r\nContent-Length: 0\r\n\r\n");
            return client.write_all(answer.as_bytes());
        }
    };
    if tunnel {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        server.write_all(&head)?;
    }
    let (mut asks, mut takes) = (client.try_clone()?, server.try_clone()?);
    let there = std::thread::spawn(move || {
        let copied = io::copy(&mut asks, &mut takes);
        takes.shutdown(std::net::Shutdown::Write).and(copied)
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)?;
    drop(there.join());
    Ok(())
}

/// Whether a request wants a tunnel, and the server that it is for.
fn target(line: &str) -> Option<(bool, String)> {
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    if method == "CONNECT" {
        return Some((true, target.to_owned()));
    }
    let authority = target.strip_prefix("http://")?.split('/').next()?;
    let port = if authority.contains(':') { "" } else { ":80" };
    Some((false, format!("{authority}{port}")))
}
