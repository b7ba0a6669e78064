//! Connections: how many there may be, how long they may do nothing, and how they end.

use super::access::Event;
use super::service::Service;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

/// Longest head of a request in bytes, and how much of a body is read at once.
const BUFFER: usize = 128 << 10;
/// Most headers of a request.
const HEADERS: usize = 100;

/// How many connections and how much patience.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one address at the same time. Further ones are closed.
    pub connections_of_one: usize,
    /// How long a client may take for a request's head, for the handshake of TLS, and between requests.
    pub head: Duration,
    /// How long a client may neither send of its body nor take of its answer.
    pub idle: Duration,
    /// How long running requests may take once the server is to stop.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (head, idle, stop) = (Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(8));
        Self { connections: 512, connections_of_one: 256, head, idle, stop }
    }
}

/// Accepts connections until `stop` says so, and then waits for those there are.
pub(super) async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    service: Arc<Service>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let peers = Arc::new(Peers::default());
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("nobody closes the semaphore"),
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the client is gone already: others may have more luck.
                (service.log)(Event::Trouble(format!("accept a connection: {error}")));
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(guest) = Peers::enter(&peers, peer.ip(), limits.connections_of_one) else { continue };
        let (service, acceptor, stop) = (Arc::clone(&service), acceptor.clone(), stop.clone());
        tokio::spawn(async move {
            connection(stream, peer, acceptor, service, limits, stop).await;
            drop((guest, place));
        });
    }
    drop(listener);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    // Whoever is not done by then is cut off.
    let _ = tokio::time::timeout(limits.stop, places.acquire_many(all)).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    service: Arc<Service>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting to fill packets only delays their ends. A failure costs speed only.
    let _ = stream.set_nodelay(true);
    let stream = Timed::new(stream, limits.idle);
    match acceptor {
        None => talk(stream, peer, service, limits, stop).await,
        Some(acceptor) => match tokio::time::timeout(limits.head, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, peer, service, limits, stop).await,
            Ok(Err(error)) => (service.log)(Event::Trouble(format!("{peer}: TLS handshake: {error}"))),
            Err(_) => {} // too slow
        },
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    service: Arc<Service>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let answer = service_fn(|request| Arc::clone(&service).handle(request, peer));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER).max_headers(HEADERS);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
    tokio::select! {
        // A client that breaks off or talks nonsense has its answer, if any; there is nobody else to tell.
        _ = &mut connection => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await; // likewise
}

/// How many connections each address has.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

struct Guest(Arc<Peers>, IpAddr);

impl Peers {
    fn enter(peers: &Arc<Self>, address: IpAddr, most: usize) -> Option<Guest> {
        let mut counts = peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Guest(Arc::clone(peers), address))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// A connection that breaks when the client does not take what is written to it.
struct Timed {
    stream: TcpStream,
    patience: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, stuck: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stuck = None;
            return result;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        stuck.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
