//! Bodies: blobs out of files, uploads into the storage. The disk is only touched on the threads for blocking work, and
//! only when there are bytes at hand, so that a slow client holds memory – some hundred kilobytes – but no thread.

use super::proxy::{Grown, Growth};
use super::refusal::{Code, Refusal};
use super::storage::Upload;
use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// How much is read from or written to the disk at once, in bytes.
const BATCH: usize = 256 << 10;
/// How much of a body that nobody wants is read, so that the client gets to see the refusal.
const UNWANTED: u64 = 1 << 20;
/// The slowest upload, in bytes a second, that is put up with once [`GRACE`] is over.
const SLOWEST: u64 = 1 << 10;
const GRACE: Duration = Duration::from_secs(60);

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Payload {
    /// Nothing, or a document, with its share of the memory for large ones.
    Bytes(Bytes, Option<OwnedSemaphorePermit>),
    /// A part of a blob.
    File(FilePart),
}

impl Payload {
    pub(super) fn empty() -> Self {
        Self::document(Bytes::new())
    }

    /// A document.
    pub(super) fn document(document: impl Into<Bytes>) -> Self {
        Self::Bytes(document.into(), None)
    }

    /// The same with a share of the memory for documents; `None` when others have it all.
    pub(super) fn within(self, memory: &Memory) -> Option<Self> {
        match self {
            Self::Bytes(bytes, None) => memory.share(bytes.len() as u64).map(|share| Self::Bytes(bytes, share)),
            other => Some(other),
        }
    }

    /// How many bytes it has.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes, _) => bytes.len() as u64,
            Self::File(part) => part.left,
        }
    }
}

/// The memory that documents above a certain size share: manifests and lists, while clients send or take them. Slow clients
/// can have it all, but no more.
pub(super) struct Memory(Arc<Semaphore>);

impl Memory {
    /// Documents of this size need no share, and shares are multiples of it.
    const UNIT: u64 = 64 << 10;
    /// 128 MiB.
    const UNITS: usize = 2048;

    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(Self::UNITS)))
    }

    /// A share for so many bytes.
    fn share(&self, size: u64) -> Option<Option<OwnedSemaphorePermit>> {
        match u32::try_from(size / Self::UNIT) {
            Ok(0) => Some(None),
            Ok(units) => Arc::clone(&self.0).try_acquire_many_owned(units).ok().map(Some),
            Err(_) => None,
        }
    }

    /// What a client is told that comes when there is none left.
    pub(super) fn refusal() -> Refusal {
        Refusal::new(Code::TooManyRequests, "too many large documents at once").with_header("retry-after", "5")
    }
}

/// What is left to send of a file, one piece ahead.
#[derive(Debug)]
pub(super) struct FilePart {
    file: Arc<File>,
    /// Where the next piece begins that nobody reads yet.
    offset: u64,
    /// Where the part ends.
    end: u64,
    /// Bytes not yet given away.
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// How much of the file is there, while it is still being written.
    growth: Option<Growth>,
}

impl FilePart {
    /// The bytes from `start` up to `end` of a file that has them.
    pub(super) fn new(file: File, start: u64, end: u64) -> Self {
        Self { file: Arc::new(file), offset: start, end, left: end - start, reading: None, growth: None }
    }

    /// Starts to read the next piece.
    fn read_ahead(&mut self) {
        if self.offset == self.end {
            return;
        }
        let length = (self.end - self.offset).min(BATCH as u64);
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.offset += length;
        let read = move || read_piece(&file, offset, length);
        self.reading = Some(match self.growth.clone() {
            None => tokio::task::spawn_blocking(read),
            Some(mut growth) => tokio::spawn(async move {
                let there = growth.wait_for(|grown| match grown {
                    Grown::To(size) => *size >= offset + length,
                    Grown::Failed => true,
                });
                // The copy of the state must be gone before the next wait.
                let there = there.await.map(|grown| *grown);
                match there {
                    Ok(Grown::To(_)) => tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?,
                    Ok(Grown::Failed) | Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }),
        });
    }

    /// The same part of a file that is being written.
    pub(super) fn growing(self, growth: Growth) -> Self {
        Self { growth: Some(growth), ..self }
    }
}

fn read_piece(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).expect("a piece is a batch at most")];
    // A file that has become shorter breaks the connection: the client knows that something is missing.
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.into())
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes, _) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File(part) => {
                if part.reading.is_none() {
                    part.read_ahead();
                }
                let Some(reading) = &mut part.reading else { return Poll::Ready(None) };
                let piece = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other).flatten();
                part.reading = None;
                if let Ok(piece) = &piece {
                    part.left -= piece.len() as u64;
                    part.read_ahead();
                }
                Poll::Ready(Some(piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size())
    }
}

/// A request's body, read with an eye on the clock.
pub(super) struct Received {
    body: Incoming,
    patience: Duration,
    began: Instant,
    count: u64,
}

impl Received {
    /// `patience`: how long the client may send nothing.
    pub(super) fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, began: Instant::now(), count: 0 }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            let frame = tokio::time::timeout(self.patience, frame).await.map_err(|_| too_slow())?;
            let data = match frame {
                None => return Ok(None),
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(error)) => {
                    let message = format!("the body broke off: {}", super::refusal::causes(&error));
                    return Err(Refusal::new(Code::SizeInvalid, message));
                }
            };
            let Ok(data) = data else { continue }; // trailers
            self.count += data.len() as u64;
            let elapsed = self.began.elapsed();
            if elapsed > GRACE && self.count < elapsed.as_secs().saturating_mul(SLOWEST) {
                return Err(too_slow());
            }
            return Ok(Some(data));
        }
    }

    /// All of it, if it is not longer than `limit`; else `None`.
    pub(super) async fn collect(&mut self, limit: u64, memory: &Memory) -> Result<Option<Vec<u8>>, Refusal> {
        let (mut all, mut shares) = (Vec::new(), Vec::new());
        while let Some(data) = self.next().await? {
            if self.count > limit {
                return Ok(None);
            }
            all.extend_from_slice(&data);
            let unpaid = self.count - shares.len() as u64 * Memory::UNIT;
            for _ in 0..unpaid / Memory::UNIT {
                shares.push(memory.share(Memory::UNIT).ok_or_else(Memory::refusal)?);
            }
        }
        Ok(Some(all))
    }

    /// Whether the client says that it sends nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.body.size_hint().exact() == Some(0)
    }

    /// Reads what a refused client still sends, up to a limit: closing the connection with unread bytes in it would take
    /// the answer along.
    pub(super) async fn drain(mut self) {
        while self.count < UNWANTED && matches!(self.next().await, Ok(Some(_))) {}
    }

    /// Writes it to an upload, hashing and writing one batch while the next one arrives. With a failure of the client
    /// the upload keeps what arrived.
    pub(super) async fn store(
        &mut self,
        upload: Box<dyn Upload>,
        most: Option<u64>,
    ) -> Result<Box<dyn Upload>, Refusal> {
        let mut writer = Writer::Idle(upload);
        let (mut batch, mut size) = (Vec::new(), 0);
        let received = loop {
            match self.next().await {
                Ok(Some(data)) => {
                    size += data.len();
                    batch.push(data);
                    if most.is_some_and(|most| self.count > most) {
                        let text =
                            format!("the body is longer than the {} bytes of its Content-Range", most.unwrap_or(0));
                        break Err(Refusal::new(Code::SizeInvalid, text));
                    }
                    if size >= BATCH {
                        writer = Writer::Busy(writer.idle().await?.write(std::mem::take(&mut batch)));
                        size = 0;
                    }
                }
                Ok(None) => break Ok(()),
                Err(refusal) => break Err(refusal),
            }
        };
        if received.as_ref().is_err_and(|refusal| refusal.code == Code::SizeInvalid)
            && most.is_some_and(|most| self.count > most)
        {
            batch.pop(); // not part of the chunk that was announced
        }
        if !batch.is_empty() {
            writer = Writer::Busy(writer.idle().await?.write(batch));
        }
        let Idle(upload) = writer.idle().await?;
        received.map(|()| upload)
    }
}

struct Idle(Box<dyn Upload>);

enum Writer {
    Idle(Box<dyn Upload>),
    Busy(JoinHandle<super::storage::Result<Box<dyn Upload>>>),
}

impl Writer {
    async fn idle(self) -> Result<Idle, Refusal> {
        match self {
            Self::Idle(upload) => Ok(Idle(upload)),
            Self::Busy(job) => match job.await {
                Ok(upload) => Ok(Idle(upload?)),
                Err(panic) => Err(Refusal::internal(panic.to_string())),
            },
        }
    }
}

impl Idle {
    fn write(self, batch: Vec<Bytes>) -> JoinHandle<super::storage::Result<Box<dyn Upload>>> {
        let Self(mut upload) = self;
        tokio::task::spawn_blocking(move || {
            for bytes in batch {
                upload.write(&bytes)?;
            }
            Ok(upload)
        })
    }
}

fn too_slow() -> Refusal {
    Refusal::new(Code::BlobUploadInvalid, "the body arrives too slowly").with_status(StatusCode::REQUEST_TIMEOUT)
}
