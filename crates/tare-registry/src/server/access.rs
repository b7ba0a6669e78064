//! What the server tells of its work.

use std::net::SocketAddr;
use std::time::Duration;

/// One request and how it went, for an access log. Nothing in it holds control characters.
#[derive(Clone, Debug)]
pub struct Access {
    /// Who asked.
    pub peer: SocketAddr,
    /// The user name that the client proved to have.
    pub user: Option<String>,
    /// The method.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes that the answer's body has, whether or not the client took them all.
    pub size: u64,
    /// From the request's head to the answer's.
    pub duration: Duration,
    /// The client's `User-Agent`.
    pub agent: Option<String>,
    /// Why the server failed.
    pub cause: Option<String>,
}

/// What the server tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request was answered.
    Access(Access),
    /// Something went wrong that no client is told: an unreadable password file, a failed handshake.
    Trouble(String),
}
