//! A cache of another registry: what is asked for and not here is fetched, verified, kept – and given away while it
//! arrives.
//!
//! Tags are asked for each time, by a request that registries with limits do not count; when the other registry cannot be
//! reached, what was last known is given, with a warning. Manifests and blobs by digest are never asked for twice.

use super::access::Event;
use super::refusal::{Code, Refusal, causes};
use super::route::ManifestId;
use super::service::Service;
use super::storage::{NewManifest, Storage, StoredManifest, Upload};
use crate::client::{Client, ClientOptions};
use crate::error::Error;
use hyper::StatusCode;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use tare_spec::image::Descriptor;
use tare_spec::reference::DEFAULT_REGISTRY;
use tare_spec::{Digest, ErrorKind, Reference, Repository};
use tokio::sync::{Semaphore, watch};

/// How many blobs are fetched at the same time; each takes a thread.
const DOWNLOADS: usize = 16;
/// How much is read from the other registry at once, in bytes.
const PIECE: usize = 256 << 10;

/// The registry that is cached.
pub struct ProxyOptions {
    /// Its host and port, as in references: `docker.io`, `registry.example.org:5000`.
    pub registry: String,
    /// How it is talked to, and who we are there.
    pub client: ClientOptions,
}

/// The cache's way to the other registry.
pub(super) struct Proxy {
    registry: String,
    client: Client,
    downloads: Arc<Semaphore>,
    running: Arc<Mutex<HashMap<(Repository, Digest), Download>>>,
}

/// A blob on its way from the other registry.
#[derive(Clone)]
struct Download {
    progress: watch::Receiver<Progress>,
}

/// How far it has come.
#[derive(Clone)]
enum Progress {
    /// The other registry has not answered yet.
    Asked,
    /// It is being written.
    Open(Opened),
    /// There is nothing: what to tell who asked.
    Failed(Arc<Failure>),
}

#[derive(Clone)]
struct Opened {
    file: Arc<File>,
    size: u64,
    growth: Growth,
}

/// What is known of a file that is being written.
pub(super) type Growth = watch::Receiver<Grown>;

/// How far a file that is being written has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grown {
    /// So many bytes are there. All of them only when their digest is verified.
    To(u64),
    /// No more will come.
    Failed,
}

/// A refusal that several requests get.
struct Failure {
    status: StatusCode,
    code: Code,
    message: String,
    cause: Option<String>,
    retry_after: Option<u64>,
}

/// A blob of the other registry.
pub(super) struct Fetched {
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) growth: Growth,
}

impl Proxy {
    pub(super) fn new(options: ProxyOptions) -> Self {
        Self {
            registry: options.registry,
            client: Client::new(options.client),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            running: Arc::default(),
        }
    }

    fn reference(&self, name: &Repository, id: Option<&ManifestId>) -> Result<Reference, Refusal> {
        // Docker's own images may be asked for by their short names, as by Docker.
        let short = self.registry == DEFAULT_REGISTRY && !name.as_str().contains('/');
        let library = if short { "library/" } else { "" };
        let version = match id {
            None => String::new(),
            Some(ManifestId::Tag(tag)) => format!(":{tag}"),
            Some(ManifestId::Digest(digest)) => format!("@{digest}"),
        };
        let text = format!("{}/{library}{name}{version}", self.registry);
        Reference::parse(&text).map_err(|error| Refusal::new(Code::NameInvalid, error.to_string()))
    }

    /// Asks the other registry on a thread that may wait for it.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Client) -> Result<T, Error> + Send + 'static,
    ) -> Result<Result<T, Error>, Refusal> {
        let _turn = self.downloads.acquire().await.map_err(|closed| Refusal::internal(closed.to_string()))?;
        let client = self.client.clone();
        tokio::task::spawn_blocking(move || work(&client)).await.map_err(|panic| Refusal::internal(panic.to_string()))
    }

    /// A manifest, and whether it may be out of date.
    pub(super) async fn manifest(
        &self,
        service: &Service,
        name: &Repository,
        id: &ManifestId,
    ) -> Result<(StoredManifest, bool), Refusal> {
        let (repository, wanted) = (name.clone(), id.clone());
        let here = service.read(move |storage| storage.manifest(&repository, &wanted)).await?;
        let reference = self.reference(name, Some(id))?;
        if let (Some(manifest), ManifestId::Digest(_)) = (&here, id) {
            return Ok((manifest.clone(), false));
        }
        let known = here.as_ref().map(|manifest| manifest.digest.clone());
        let asked = self.ask(move |client| {
            // A tag that still stands for what is here needs no more than its digest.
            if known.is_some() && client.manifest_digest(&reference)? == known {
                return Ok(None);
            }
            client.manifest(&reference).map(Some)
        });
        let found = match (asked.await?, here) {
            (Ok(Some(found)), _) => found,
            (Ok(None), Some(here)) => return Ok((here, false)),
            (Ok(None), None) => return Err(Refusal::internal("nothing is known of the manifest")),
            (Err(error), Some(here)) if error.kind() != ErrorKind::NotFound => {
                (service.log)(Event::Trouble(format!("{name}:{id} may be out of date: {}", causes(&error))));
                return Ok((here, true));
            }
            (Err(error), here) => {
                if here.is_some() {
                    let (repository, wanted) = (name.clone(), id.clone());
                    service.change(move |storage| storage.delete_manifest(&repository, &wanted)).await?;
                }
                let unknown = format!("manifest {id} is not in this repository");
                return Err(Failure::of(&error, Code::ManifestUnknown, unknown).refusal());
            }
        };
        let tags = match id {
            ManifestId::Tag(tag) => vec![tag.clone()],
            ManifestId::Digest(_) => Vec::new(),
        };
        let by_digest = ManifestId::Digest(found.digest.clone());
        let read = super::manifests::read_manifest(found.bytes, Some(&found.media_type), &by_digest, tags)
            .map_err(|refusal| Refusal::internal(format!("{name}:{id} of the other registry: {}", refusal.message)))?;
        // Its blobs come when they are asked for.
        let new = NewManifest { blobs: Vec::new(), manifests: Vec::new(), ..read };
        let manifest = new.manifest.clone();
        let repository = name.clone();
        service.change(move |storage| storage.put_manifest(&repository, &new)).await?;
        Ok((manifest, false))
    }

    /// A list from the other registry; `None` when it cannot be had.
    pub(super) async fn tags(&self, service: &Service, name: &Repository) -> Result<Option<Vec<String>>, Refusal> {
        let reference = self.reference(name, None)?;
        self.list(service, name, move |client| client.tags(&reference)).await
    }

    /// Likewise, of what refers to a manifest.
    pub(super) async fn referrers(
        &self,
        service: &Service,
        name: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Refusal> {
        let reference = self.reference(name, Some(&ManifestId::Digest(subject.clone())))?;
        self.list(service, name, move |client| client.referrers(&reference, None)).await
    }

    async fn list<T: Send + 'static>(
        &self,
        service: &Service,
        name: &Repository,
        work: impl FnOnce(&Client) -> Result<Vec<T>, Error> + Send + 'static,
    ) -> Result<Option<Vec<T>>, Refusal> {
        match self.ask(work).await? {
            Ok(list) => Ok(Some(list)),
            Err(error) => {
                (service.log)(Event::Trouble(format!("list of {name} may be incomplete: {}", causes(&error))));
                Ok(None)
            }
        }
    }

    /// How large a blob of the other registry is.
    pub(super) async fn size(&self, name: &Repository, digest: &Digest) -> Result<u64, Refusal> {
        let (reference, wanted) = (self.reference(name, None)?, digest.clone());
        let size = self.ask(move |client| client.blob_size(&reference, &wanted)).await?;
        let size = size.map_err(|error| Failure::of_blob(&error, digest).refusal())?;
        size.ok_or_else(|| Refusal::internal(format!("the other registry does not say how large {digest} is")))
    }

    /// A blob that is fetched, or already on its way.
    pub(super) async fn blob(
        &self,
        service: &Arc<Service>,
        name: &Repository,
        digest: &Digest,
    ) -> Result<Fetched, Refusal> {
        let mut download = self.download(service, name, digest)?;
        let state = download.progress.wait_for(|progress| !matches!(progress, Progress::Asked)).await;
        match state.map(|state| state.clone()) {
            Ok(Progress::Open(Opened { file, size, growth })) => {
                let file = file.try_clone().map_err(|error| Refusal::internal(error.to_string()))?;
                Ok(Fetched { file, size, growth })
            }
            Ok(Progress::Failed(failure)) => Err(failure.refusal()),
            Ok(Progress::Asked) | Err(_) => Err(Refusal::internal("a download ended without a word")),
        }
    }

    /// Begins a download unless there is one.
    fn download(&self, service: &Arc<Service>, name: &Repository, digest: &Digest) -> Result<Download, Refusal> {
        let key = (name.clone(), digest.clone());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(download) = running.get(&key) {
            return Ok(download.clone());
        }
        let reference = self.reference(name, None)?;
        let (sender, progress) = watch::channel(Progress::Asked);
        let download = Download { progress };
        running.insert(key.clone(), download.clone());
        let (storage, client) = (Arc::clone(&service.storage), self.client.clone());
        let (turns, all, log) = (Arc::clone(&self.downloads), Arc::clone(&self.running), Arc::clone(&service.log));
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            let (name, digest) = key.clone();
            // A thread of its own: it waits for the other registry, and the disk's threads must not.
            let (done, end) = tokio::sync::oneshot::channel();
            let work = move || {
                let fetched = fetch(&*storage, &client, &reference, &name, &digest, &sender);
                if let Err(failure) = fetched {
                    let cause = failure.cause.as_deref().unwrap_or(&failure.message);
                    log(Event::Trouble(format!("fetch {digest} of {name}: {cause}")));
                    sender.send_replace(Progress::Failed(Arc::new(failure)));
                }
                // Nobody waits for it any more when the server ends.
                let _ = done.send(());
            };
            if std::thread::Builder::new().name("fetch".into()).spawn(work).is_ok() {
                let _ = end.await; // also when the thread panicked
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
        Ok(download)
    }
}

/// Fetches a blob into the storage.
fn fetch(
    storage: &dyn Storage,
    client: &Client,
    reference: &Reference,
    name: &Repository,
    digest: &Digest,
    progress: &watch::Sender<Progress>,
) -> Result<(), Failure> {
    let kept = |error: super::storage::StorageError| Failure::from(Refusal::from(error));
    let (size, mut stream) =
        client.blob_by_digest(reference, digest).map_err(|error| Failure::of_blob(&error, digest))?;
    let id = storage.begin_upload(name).map_err(kept)?;
    let upload = storage.resume_upload(name, &id).map_err(kept)?;
    let mut upload = upload.ok_or_else(|| Failure::from(Refusal::internal("an upload that was just begun is gone")))?;
    let (sender, growth) = watch::channel(Grown::To(0));
    let file = Arc::new(upload.reader().map_err(kept)?);
    progress.send_replace(Progress::Open(Opened { file, size, growth }));
    let written = write(&mut *upload, &mut *stream, size, &sender);
    let stored = match written {
        Ok(()) => upload.finish(digest).map_err(kept),
        Err(failure) => {
            // The first failure is the one to tell; what cannot be removed expires.
            let _ = upload.discard();
            Err(failure)
        }
    };
    sender.send_replace(if stored.is_ok() { Grown::To(size) } else { Grown::Failed });
    stored
}

fn write(
    upload: &mut dyn Upload,
    stream: &mut dyn Read,
    size: u64,
    growth: &watch::Sender<Grown>,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::from(Refusal::internal(causes(&error)))),
        };
        upload.write(&piece[..count]).map_err(|error| Failure::from(Refusal::from(error)))?;
        // The end is held back until all is verified: nobody takes a wrong blob for a whole one.
        growth.send_replace(Grown::To(upload.size().min(size.saturating_sub(1))));
    }
}

impl Failure {
    fn of_blob(error: &Error, digest: &Digest) -> Self {
        Self::of(error, Code::BlobUnknown, format!("blob {digest} is not in this repository"))
    }

    /// What the other registry's failure means here; `unknown` if it does not have it, or not for us.
    fn of(error: &Error, code: Code, unknown: String) -> Self {
        let cause = Some(causes(error));
        match error {
            Error::TooManyRequests { limit, .. } => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: Code::TooManyRequests,
                message: "the registry behind this cache wants fewer requests".into(),
                cause,
                retry_after: limit.resets.map(|wait| wait.as_secs()),
            },
            _ if error.kind() == ErrorKind::NotFound => {
                Self { status: StatusCode::NOT_FOUND, code, message: unknown, cause: None, retry_after: None }
            }
            _ => Self {
                status: StatusCode::BAD_GATEWAY,
                code: Code::Unknown,
                message: "the registry behind this cache cannot be used; the log says why".into(),
                cause,
                retry_after: None,
            },
        }
    }

    fn refusal(&self) -> Refusal {
        let mut refusal = Refusal::new(self.code, self.message.clone()).with_status(self.status);
        refusal.cause.clone_from(&self.cause);
        match self.retry_after {
            Some(seconds) => refusal.with_header("retry-after", seconds.to_string()),
            None => refusal,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, code, message, cause, .. } = refusal;
        Self { status, code, message, cause, retry_after: None }
    }
}
