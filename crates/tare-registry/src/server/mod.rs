//! A registry: the server's side of the OCI distribution specification, version 1.1.
//!
//! It knows HTTP and the protocol; content is in a [`Storage`] that it is given, whose methods block and are called on
//! threads of their own. Clients are strangers: heads, manifests, lists, connections and the time that each may take are
//! bounded, blobs are only bounded by the disk, and none of them waits for another.

mod access;
mod blobs;
mod body;
mod connection;
mod error;
mod htpasswd;
mod listing;
mod manifests;
mod page;
mod proxy;
mod range;
mod refusal;
mod route;
mod service;
mod storage;
mod tls;

pub use access::{Access, Event};
pub use connection::Limits;
pub use error::Error;
pub use proxy::ProxyOptions;
pub use route::{ManifestId, UploadId};
pub use storage::{
    Blob, NewManifest, Referrer, Result as StorageResult, Storage, StorageError, StoredManifest, Upload,
};
pub use tls::TlsFiles;

use body::Memory;
use htpasswd::Gate;
use proxy::Proxy;
use service::Service;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Threads that wait for the disk.
const DISK_THREADS: usize = 24;
/// Changes at the same time; they may wait for a collection.
const CHANGES: usize = 8;
/// How often uploads are looked through for abandoned ones.
const EXPIRY: Duration = Duration::from_secs(3600);

/// How a server behaves.
pub struct ServerOptions {
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Speak TLS with this certificate.
    pub tls: Option<TlsFiles>,
    /// Let in only the users of this file, made by `htpasswd -B`. It is read again when it changes.
    pub htpasswd: Option<PathBuf>,
    /// Refuse pushes and deletions.
    pub read_only: bool,
    /// Be a cache of another registry, which takes no pushes itself.
    pub proxy: Option<ProxyOptions>,
    /// Bounds.
    pub limits: Limits,
}

/// A registry that listens.
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    service: Service,
    limits: Limits,
    stop: watch::Sender<bool>,
}

/// Ends a running server, from any thread.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Lets the server accept no more requests, finish those it has, and return. Idempotent.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Listens; nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// [`Error`]: the address is taken, a certificate or the password file cannot be used.
    pub fn bind(
        options: ServerOptions,
        storage: Arc<dyn Storage>,
        log: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<Self, Error> {
        let acceptor = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let gate = options.htpasswd.as_deref().map(Gate::open).transpose()?;
        let listen = |source| Error::Listen { address: options.address, source };
        let listener = std::net::TcpListener::bind(options.address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let service = Service {
            storage,
            gate,
            read_only: options.read_only,
            proxy: options.proxy.map(Proxy::new),
            log,
            patience: options.limits.idle,
            memory: Memory::new(),
            changes: Semaphore::new(CHANGES),
        };
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, acceptor, service, limits: options.limits, stop: watch::Sender::new(false) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends it.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Serves until it is stopped. Requests that then still run have [`Limits::stop`] to end.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn run(self) -> Result<(), Error> {
        let start = |source| Error::Start { source };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).max_blocking_threads(DISK_THREADS).thread_name("registry").enable_all();
        let runtime = builder.build().map_err(start)?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener).map_err(start)?;
            let service = Arc::new(self.service);
            let expiry = tokio::spawn(expire(Arc::clone(&service)));
            connection::serve(listener, self.acceptor, service, self.limits, self.stop.subscribe()).await;
            expiry.abort();
            Ok(())
        })?;
        // What a thread still does is finished, unless it hangs.
        runtime.shutdown_timeout(self.limits.stop);
        Ok(())
    }
}

async fn expire(service: Arc<Service>) {
    loop {
        if let Err(refusal) = service.change(|storage| storage.expire_uploads()).await {
            (service.log)(Event::Trouble(format!("remove old uploads: {}", refusal.cause.unwrap_or(refusal.message))));
        }
        tokio::time::sleep(EXPIRY).await;
    }
}
