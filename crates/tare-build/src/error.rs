//! Everything that can go wrong in a build.

use crate::dockerfile::{Lines, ParseError, Problem};
use crate::executor::ExecutorError;
use crate::files::{FilesError, InvalidIgnore, OwnerError};
use std::io;
use std::path::PathBuf;
use tare_spec::{Digest, ErrorKind};

/// A failure of a build. No image was made; steps that were done are known to the next build.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Dockerfile that cannot be read, in Docker's words.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A statement that cannot be carried out, in Docker's words.
    #[error("dockerfile parse error on line {}: {problem}", lines.first)]
    Dockerfile {
        /// Where the statement stands.
        lines: Lines,
        /// What is wrong with it.
        problem: Problem,
    },
    /// An ONBUILD statement of an image that cannot be read.
    #[error("ONBUILD {trigger}")]
    Trigger {
        /// The statement.
        trigger: String,
        /// What is wrong with it.
        #[source]
        error: ParseError,
    },
    /// An instruction that files or builds are needed for, in Docker's words.
    #[error("{instruction} is not a valid change command")]
    Change {
        /// Its name in small letters.
        instruction: String,
    },
    /// A stage that is not there, in Docker's words.
    #[error("target stage \"{name}\" could not be found")]
    Target {
        /// As it was asked for.
        name: String,
        /// The names of those that are there.
        stages: Vec<String>,
    },
    /// A context without a Dockerfile, in Docker's words.
    #[error("failed to read dockerfile: open {path}: no such file or directory")]
    NoDockerfile {
        /// Where it was looked for.
        path: String,
    },
    /// A context that cannot be opened.
    #[error("unable to prepare context: path {path:?} cannot be opened")]
    ContextMissing {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the context that cannot be read.
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
    /// Something that is larger than it may be.
    #[error("{what} {path:?}: more than {limit} bytes")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Which.
        path: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// Rules for what to leave out that cannot be read.
    #[error("cannot read the rules of {name}")]
    Ignore {
        /// Their file.
        name: String,
        /// What is wrong with them.
        #[source]
        error: InvalidIgnore,
    },
    /// Files that cannot be copied.
    #[error("line {}: {error}", lines.first)]
    Files {
        /// Where the statement stands.
        lines: Lines,
        /// Why.
        error: Box<FilesError>,
    },
    /// A source that is not in what it is copied from, which is not the context.
    #[error("line {}: {path:?}: not found in {place}", lines.first)]
    NotFoundIn {
        /// Where the statement stands.
        lines: Lines,
        /// The source as it was looked for.
        path: String,
        /// Where it was looked for: `stage build`, `image debian:13`, `build context docs`.
        place: String,
    },
    /// An owner that cannot be found out.
    #[error("line {}: {error}", lines.first)]
    Owner {
        /// Where the statement stands.
        lines: Lines,
        /// Why.
        error: OwnerError,
    },
    /// Something fetched that is not what it should be.
    #[error("digest mismatch for {url}: expected {expected}, got {actual}")]
    Checksum {
        /// Where it came from.
        url: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A process that failed, in Docker's words.
    #[error("process {command:?} did not complete successfully: {}", ended(*exit_code, *out_of_memory))]
    Failed {
        /// How the step is shown.
        step: String,
        /// Where the statement stands.
        lines: Lines,
        /// What was run.
        command: String,
        /// What it ended with.
        exit_code: u8,
        /// Whether the kernel killed some of it because memory ran out.
        out_of_memory: bool,
    },
    /// A secret that a step requires and nobody gives.
    #[error("line {}: secret {id}: not found", lines.first)]
    SecretMissing {
        /// Where the statement stands.
        lines: Lines,
        /// What it is called.
        id: String,
    },
    /// A secret that cannot be a variable.
    #[error("secret {id}: it is no text, and cannot be the variable {name}")]
    SecretText {
        /// What it is called.
        id: String,
        /// The variable.
        name: String,
    },
    /// An SSH agent that a step requires and nobody gives.
    #[error("line {}: unset ssh forward key {id}", lines.first)]
    AgentMissing {
        /// Where the statement stands.
        lines: Lines,
        /// What it is called.
        id: String,
    },
    /// What the executor could not do for a statement.
    #[error(transparent)]
    OfStatement(Box<OfStatement>),
    /// The executor could not do it.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The step was given up because the build has failed elsewhere.
    #[error("the build was cancelled")]
    Cancelled,
    /// Layers that could not be looked into.
    #[error("cannot mount the layers of a step")]
    View {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of the build's own.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The store did not take what was built.
    #[error(transparent)]
    Store(#[from] tare_store::Error),
}

/// What the executor could not do for a statement. Its text and causes are the executor's.
#[derive(Debug)]
pub struct OfStatement {
    /// Where the statement stands.
    pub lines: Lines,
    /// What it was about.
    pub what: OfWhat,
    /// Why.
    pub error: ExecutorError,
}

/// What the executor could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfWhat {
    /// Start this program.
    Program(String),
    /// Get this image.
    Image(String),
}

impl std::fmt::Display for OfStatement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let OfWhat::Image(name) = &self.what {
            write!(f, "{name}: failed to resolve source metadata: ")?;
        }
        self.error.fmt(f)
    }
}

impl std::error::Error for OfStatement {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// The result of building.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(ParseError { problem: Problem::Unsupported { .. }, .. })
            | Self::Dockerfile { problem: Problem::Unsupported { .. }, .. } => ErrorKind::NotImplemented,
            Self::Dockerfile { problem: Problem::NotAllowed { .. }, .. } => ErrorKind::Forbidden,
            Self::Parse(_)
            | Self::Dockerfile { .. }
            | Self::Trigger { .. }
            | Self::Change { .. }
            | Self::Target { .. }
            | Self::NoDockerfile { .. }
            | Self::ContextMissing { .. }
            | Self::Context { .. }
            | Self::TooLarge { .. }
            | Self::Ignore { .. }
            | Self::Checksum { .. }
            | Self::Failed { .. }
            | Self::SecretMissing { .. }
            | Self::SecretText { .. }
            | Self::AgentMissing { .. } => ErrorKind::InvalidParameter,
            Self::Files { error, .. } => error.kind(),
            Self::NotFoundIn { .. } => ErrorKind::NotFound,
            Self::Owner { error, .. } => error.kind(),
            Self::OfStatement(failed) => failed.error.kind,
            Self::Executor(error) => error.kind,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::View { .. } => ErrorKind::Internal,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            Self::Store(source) => source.kind(),
        }
    }

    /// Where in the Dockerfile the failure is.
    #[must_use]
    pub fn lines(&self) -> Option<Lines> {
        match self {
            Self::Parse(error) => Some(error.lines),
            Self::Dockerfile { lines, .. }
            | Self::Files { lines, .. }
            | Self::NotFoundIn { lines, .. }
            | Self::Owner { lines, .. }
            | Self::Failed { lines, .. }
            | Self::SecretMissing { lines, .. }
            | Self::AgentMissing { lines, .. } => Some(*lines),
            Self::OfStatement(failed) => Some(failed.lines),
            _ => None,
        }
    }

    /// That of an image which cannot be had, with the image and its place.
    pub(crate) fn of_image(self, name: &str, lines: Lines) -> Self {
        match self {
            Self::Executor(error) => {
                let what = OfWhat::Image(name.to_owned());
                Self::OfStatement(Box::new(OfStatement { lines, what, error }))
            }
            error => error,
        }
    }

    /// Whether it was given up because something else failed.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }
}

/// How a process failed. BuildKit's words where SIGKILL was the kernel's own; a process whose children were killed has a code that tells more.
fn ended(exit_code: u8, out_of_memory: bool) -> String {
    match (exit_code, out_of_memory) {
        (KILLED, true) => "cannot allocate memory".to_owned(),
        _ => format!("exit code: {exit_code}"),
    }
}

/// The exit code of a process that SIGKILL ended.
const KILLED: u8 = 128 + 9;

/// The error with all its causes.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
