//! Why files could not be selected or copied.

use super::archive::ArchiveError;
use super::ignore::InvalidIgnore;
use super::pattern::InvalidPattern;
use std::io;
use tare_spec::ErrorKind;

/// A failure of COPY or ADD. Paths of sources count from the source's root, others from the image's; they begin with a slash.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A source that is not there; Docker's words, and more.
    #[error("{path:?}: not found{}", hidden.as_ref().map_or(String::new(), |hidden| format!(": {hidden}")))]
    NotFound {
        /// The source as it was looked for.
        path: String,
        /// What leaves it out, when it would be there.
        hidden: Option<Hidden>,
    },
    /// A file that cannot be read.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file that is another one than it was when the build began.
    #[error("{path:?} changed during the build")]
    Changed {
        /// The file.
        path: String,
    },
    /// A source that can be no file of a layer.
    #[error("cannot copy {path:?}: it is {what}")]
    Special {
        /// The source.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A file that a layer cannot have.
    #[error("cannot copy to {path:?}: names that begin with \".wh.\" say in layers that a file is gone")]
    Reserved {
        /// Where it should go.
        path: String,
    },
    /// A path that no layer takes.
    #[error("path of {length} bytes in {depth} folders is too long or too deep: {path:?}")]
    TooDeep {
        /// Its beginning.
        path: String,
        /// Its bytes.
        length: usize,
        /// Its folders.
        depth: usize,
    },
    /// More entries than a step may copy.
    #[error("more than {limit} files and folders in {path:?}")]
    TooMany {
        /// The source.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// Symbolic links that lead in circles.
    #[error("too many symbolic links on the way to {path:?}")]
    Loop {
        /// The path.
        path: String,
    },
    /// A source whose wildcards mean nothing.
    #[error("cannot copy {source_path:?}")]
    Pattern {
        /// As it is written.
        source_path: String,
        /// Why.
        #[source]
        source: InvalidPattern,
    },
    /// An option whose patterns mean nothing.
    #[error("patterns are not usable")]
    Patterns(#[source] InvalidIgnore),
    /// A folder where the image has something else; begins as Docker's.
    #[error("cannot copy to non-directory: {destination}: {origin:?} is a folder")]
    FolderOverFile {
        /// What is there.
        destination: String,
        /// What should be there.
        origin: String,
    },
    /// Something else where the image has a folder; begins as Docker's.
    #[error("cannot replace to directory {destination} with file: {origin:?} is no folder")]
    FileOverFolder {
        /// What is there.
        destination: String,
        /// What should be there.
        origin: String,
    },
    /// A part of the destination that is no folder.
    #[error("cannot copy to {destination:?}: {parent:?} is not a directory")]
    Parent {
        /// Where something should go.
        destination: String,
        /// What is in the way.
        parent: String,
    },
    /// `--chmod`; Docker's words.
    #[error("invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777")]
    Mode {
        /// As it is written.
        mode: String,
    },
    /// An archive that is not unpacked.
    #[error("cannot unpack {path:?}")]
    Archive {
        /// The archive.
        path: String,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The layer could not be written.
    #[error("cannot write the layer")]
    Output(#[source] io::Error),
}

/// The rule that leaves a path out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The ignore file.
    pub file: String,
    /// The line in it, counted from 1.
    pub line: usize,
    /// The rule as it is written there.
    pub rule: String,
    /// What it leaves out, if that is not the source itself: a folder above it, or what a link leads to.
    pub path: String,
}

impl std::fmt::Display for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is left out by line {} of {}: {}", self.path, self.line, self.file, self.rule)
    }
}

impl FilesError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Special { .. }
            | Self::Reserved { .. }
            | Self::TooDeep { .. }
            | Self::TooMany { .. }
            | Self::Loop { .. }
            | Self::Pattern { .. }
            | Self::Patterns(_)
            | Self::FolderOverFile { .. }
            | Self::FileOverFolder { .. }
            | Self::Parent { .. }
            | Self::Mode { .. } => ErrorKind::InvalidParameter,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::Archive { source, .. } => source.kind(),
            Self::Io { source, .. } | Self::Output(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
        }
    }
}

/// A path as messages have it, cut to 300 characters: with a slash before it.
pub(super) fn shown(path: &[u8]) -> String {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    format!("/{}", String::from_utf8_lossy(path).chars().take(300).collect::<String>())
}

pub(super) fn io_error(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> FilesError {
    let path = shown(path);
    move |source| FilesError::Io { action, path, source }
}

/// What was a file, folder or link a moment ago is something else by now, or gone.
pub(super) fn changed_or(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> FilesError {
    move |error| {
        use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
        let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        if is_link || matches!(error.kind(), NotFound | NotADirectory | InvalidInput) {
            return FilesError::Changed { path: shown(path) };
        }
        io_error(action, path)(error)
    }
}
