//! Why a server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tare_spec::ErrorKind;

/// A failure to start or to go on serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was named cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A password file with something in it that is not accepted.
    #[error("{}:{line}: {problem}", path.display())]
    Passwords {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong with it; never the password or its hash.
        problem: String,
    },
    /// A certificate or key that cannot be used.
    #[error("cannot use {} for TLS: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gave no threads or no events.
    #[error("cannot start the server")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => ErrorKind::Conflict,
            Self::Passwords { .. } | Self::Certificate { .. } => ErrorKind::InvalidParameter,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Listen { .. } | Self::File { .. } | Self::Start { .. } => ErrorKind::Internal,
        }
    }
}
