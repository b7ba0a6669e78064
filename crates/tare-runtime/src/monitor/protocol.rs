//! What clients and monitors say to each other; the page `docs/formats/monitor-protocol.md` is its definition.
//!
//! Messages are JSON, one a packet of a `SOCK_SEQPACKET` unix socket, so that they need no framing and carry
//! descriptors (unix(7), `SCM_RIGHTS`). Each connection serves one attachment, one exec or one wait.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use tare_spec::ErrorKind;
use tare_spec::runtime::Process;

/// Version of the protocol that this program speaks. A monitor answers requests of versions it does not know with
/// [`Reply::Failed`].
pub const VERSION: u32 = 1;

/// The most bytes a message has; the kernel's default socket buffer is 208 KiB.
pub const MAX_MESSAGE: usize = 160 * 1024;

/// The most descriptors a message carries: standard input, output and error.
const MAX_DESCRIPTORS: usize = 3;

/// A request with its version.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub version: u32,
    /// The request.
    pub request: Request,
}

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Joins the container's streams. Carries a pipe's end for each stream that is asked for, in the order of the
    /// fields: standard input is read from the first, output and error are written to the others.
    Attach(Streams),
    /// Runs a process. Carries descriptors like `Attach`, which the process gets as its own; with a terminal it carries
    /// none and the reply brings the terminal's master side.
    Exec(Box<Exec>),
    /// Sets the size of the container's terminal.
    Resize {
        /// Rows of characters.
        rows: u16,
        /// Columns of characters.
        columns: u16,
    },
    /// Asks for [`Reply::Exited`] when the container has ended and its monitor has cleaned up.
    Wait,
}

/// A choice of standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output, or the terminal's output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// A process to run beside the container's first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// The process as the runtime specification describes one.
    pub process: Process,
    /// `user[:group]` to be looked up in the container; `process.user` when absent.
    pub user: Option<String>,
    /// Which descriptors the message carries.
    pub streams: Streams,
    /// Rows and columns of its terminal.
    pub size: Option<(u16, u16)>,
}

/// What a monitor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The container runs, the attachment holds, or the exec'd process runs.
    Started {
        /// Process id on the host, of an exec'd process; of the container's first otherwise.
        pid: i32,
    },
    /// It could not be done.
    Failed(Failure),
    /// The container, or the exec'd process, ended.
    Exited {
        /// 0–255, or 128 + signal.
        code: i32,
    },
}

/// An error on its way to a client.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub kind: ErrorKind,
    /// Its text, causes included.
    pub message: String,
    /// What the person can do.
    pub hint: Option<String>,
    /// 126 or 127 when the program could not be executed.
    pub exit_code: Option<i32>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Both ends of a new connection.
    ///
    /// # Errors
    /// socketpair(2)'s.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Connects to the monitor that listens at `path`.
    ///
    /// # Errors
    /// connect(2)'s: ENOENT and ECONNREFUSED mean that no monitor is there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        at_address(path, |address| Ok(rustix::net::connect(&socket, address)?))?;
        Ok(Self { socket })
    }

    /// Sends a request with its descriptors.
    ///
    /// # Errors
    /// sendmsg(2)'s; `InvalidInput` when the request is larger than [`MAX_MESSAGE`].
    pub fn request(&self, request: Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&Envelope { version: VERSION, request }, descriptors)
    }

    /// Sends a message with its descriptors.
    ///
    /// # Errors
    /// sendmsg(2)'s; `InvalidInput` when the message is larger than [`MAX_MESSAGE`].
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE {
            let text = format!("{} bytes of arguments and environment, at most {MAX_MESSAGE} fit", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives one message with its descriptors; `None` when the other end is closed.
    ///
    /// # Errors
    /// recvmsg(2)'s; `InvalidData` for anything but the expected message.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_with(RecvFlags::empty())
    }

    /// Like [`Self::receive`], but fails with `WouldBlock` when there is no message yet.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn try_receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (_, length) = despite_reset(|| {
            rustix::net::recv(&self.socket, &mut [0u8; 0][..], flags | RecvFlags::PEEK | RecvFlags::TRUNC)
        })?;
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = despite_reset(|| {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(&self.socket, &mut parts, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let message = serde_json::from_slice(&bytes[..received.bytes.min(length)])?;
        Ok(Some((message, descriptors)))
    }

    /// The socket as a plain descriptor.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<OwnedFd> for Connection {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

/// Listens at `path`, which must not exist.
///
/// # Errors
/// socket(2)'s, bind(2)'s and listen(2)'s.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    at_address(path, |address| Ok(rustix::net::bind(&socket, address)?))?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// Receives. Who closes its end with unread messages in it resets the other (af_unix.c, `unix_release_sock`); that is
/// reported once, before what was sent ahead of it, which is still there.
fn despite_reset<T>(mut receive: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match rustix::io::retry_on_intr(&mut receive) {
        Err(Errno::CONNRESET) => rustix::io::retry_on_intr(receive),
        received => received,
    }
}

/// Calls with the address of a socket's path.
fn at_address(path: &Path, call: impl FnOnce(&SocketAddrUnix) -> io::Result<()>) -> io::Result<()> {
    call(&SocketAddrUnix::new(short_path(path)?.path())?)
}

/// A path to a socket that fits into an address.
#[derive(Debug)]
pub struct ShortPath {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl ShortPath {
    /// The path, which is good as long as this lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Another path to a socket, or to where one is to be. An address has room for 107 bytes (unix(7)): a longer path is
/// shortened by going through a descriptor of its folder.
///
/// # Errors
/// open(2)'s for the folder.
pub fn short_path(path: &Path) -> io::Result<ShortPath> {
    if SocketAddrUnix::new(path).is_ok() {
        return Ok(ShortPath { path: path.to_owned(), _folder: None });
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(ShortPath { path, _folder: Some(folder) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn messages_carry_descriptors() {
        let (client, monitor) = Connection::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let streams = Streams { stdout: true, ..Streams::default() };
        client.request(Request::Attach(streams), &[writer.as_fd()]).unwrap();
        drop(writer);
        let (envelope, mut descriptors) = monitor.receive::<Envelope>().unwrap().unwrap();
        assert_eq!((envelope.version, descriptors.len()), (VERSION, 1));
        assert!(matches!(envelope.request, Request::Attach(s) if s == streams));
        std::fs::File::from(descriptors.remove(0)).write_all(b"seen").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "seen");
    }

    #[test]
    fn a_closed_end_is_none_and_an_empty_one_would_block() {
        let (client, monitor) = Connection::pair().unwrap();
        assert_eq!(monitor.try_receive::<Envelope>().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(client);
        assert!(monitor.receive::<Envelope>().unwrap().is_none());
    }

    #[test]
    fn the_last_words_of_an_end_that_left_messages_unread_arrive() {
        let (client, monitor) = Connection::pair().unwrap();
        client.request(Request::Wait, &[]).unwrap();
        monitor.send(&Reply::Exited { code: 3 }, &[]).unwrap();
        drop(monitor);
        assert!(matches!(client.receive::<Reply>(), Ok(Some((Reply::Exited { code: 3 }, _)))));
        assert!(client.receive::<Reply>().unwrap().is_none());
    }

    #[test]
    fn sockets_may_lie_deep() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a".repeat(100)).join("b".repeat(100));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("monitor.sock");
        let _listener = listen(&path).unwrap();
        assert!(path.exists());
        Connection::connect(&path).unwrap();
    }

    #[test]
    fn hostile_bytes_are_an_error() {
        let (client, monitor) = Connection::pair().unwrap();
        rustix::net::send(&client, b"{\"version\":1}", SendFlags::empty()).unwrap();
        assert_eq!(monitor.receive::<Envelope>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
