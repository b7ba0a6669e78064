//! Everything that can go wrong in a build.

use crate::dockerfile::Problem;
use std::io;
use tare_spec::ErrorKind;

/// A failure of a build. The image was not made; layers that were finished are left for the next collection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement that cannot be carried out, in Docker's words.
    #[error("dockerfile parse error on line {line}: {problem}")]
    Dockerfile {
        /// Where the statement begins, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// An instruction that files or builds are needed for, in Docker's words.
    #[error("{instruction} is not a valid change command")]
    Change {
        /// Its name in small letters.
        instruction: String,
    },
    /// A source that the context does not have.
    #[error("line {line}: \"/{path}\": not found")]
    SourceMissing {
        /// Where the statement begins.
        line: usize,
        /// The path in the context.
        path: String,
    },
    /// A file of the context that cannot be read or put into an image.
    #[error("cannot {action} {path:?} of the build context")]
    Context {
        /// What was tried.
        action: &'static str,
        /// The path in the context.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A context with rules for what to leave out, which would be ignored.
    #[error("the build context has a .dockerignore, which is not supported by this builder yet")]
    Ignore,
    /// A destination that contradicts what the image already has: a file or link where a directory is needed, or
    /// a directory where a file is to go.
    #[error("line {line}: cannot copy to {path:?}: {other:?} of the image is in the way")]
    Destination {
        /// Where the statement begins.
        line: usize,
        /// The destination.
        path: String,
        /// What stands in the way.
        other: String,
    },
    /// A layer could not be written.
    #[error("cannot write a layer for {statement:?}")]
    Layer {
        /// The statement.
        statement: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The store did not take what was built.
    #[error(transparent)]
    Store(#[from] tare_store::Error),
}

/// The result of building.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dockerfile { problem: Problem::Unsupported { .. }, .. } | Self::Ignore => ErrorKind::NotImplemented,
            Self::Dockerfile { .. }
            | Self::Change { .. }
            | Self::SourceMissing { .. }
            | Self::Context { .. }
            | Self::Destination { .. } => ErrorKind::InvalidParameter,
            Self::Layer { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            Self::Store(source) => source.kind(),
        }
    }
}
