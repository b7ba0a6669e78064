//! What can go wrong in the engine.
//!
//! Texts that clients of Docker parse are Docker's.

use std::io;
use std::path::{Path, PathBuf};
use tare_runtime::monitor::protocol::Failure;
use tare_spec::reference::InvalidReference;
use tare_spec::{ContainerId, ErrorKind, Platform};

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the engine could not be used.
    #[error("{action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record is not what this program writes.
    #[error("{path} is damaged, or was written by another version of tare")]
    Record {
        /// The record.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// The engine needs root.
    #[error("tare needs root rights to make containers")]
    NotRoot,
    /// The name breaks the grammar.
    #[error("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        holder: ContainerId,
    },
    /// Nothing has this name, id or prefix.
    #[error("No such container: {name}")]
    NoSuchContainer {
        /// What was asked for.
        name: String,
    },
    /// Several containers' ids begin with this.
    #[error("Multiple IDs found with provided prefix: {prefix}")]
    AmbiguousId {
        /// What was asked for.
        prefix: String,
    },
    /// No image has the name that is to be pushed.
    #[error("An image does not exist locally with the tag: {name}")]
    NotLocal {
        /// Its repository.
        name: String,
    },
    /// No image has this name or id.
    #[error("No such image: {name}")]
    NoSuchImage {
        /// What was asked for.
        name: String,
    },
    /// The image is there, for another platform.
    #[error(
        "image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    PlatformMismatch {
        /// The image as it was named.
        name: String,
        /// What it is for.
        found: Box<Platform>,
        /// What was asked for.
        wanted: Box<Platform>,
    },
    /// The container must run for this.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: ContainerId,
    },
    /// The container must run to be signalled.
    #[error("cannot kill container: {name}: container {id} is not running")]
    NothingToKill {
        /// The container as it was named.
        name: String,
        /// Its id.
        id: ContainerId,
    },
    /// The container runs and must not.
    #[error(
        "cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
    )]
    Running {
        /// The container as it was named.
        name: String,
    },
    /// Its processes outlived SIGKILL, or its monitor is stuck.
    #[error("container {id}: still not ended {seconds} seconds after SIGKILL")]
    Unkillable {
        /// The container.
        id: ContainerId,
        /// How long it was waited for.
        seconds: u32,
    },
    /// Neither image nor person names a program.
    #[error("no command specified")]
    NoCommand,
    /// A parameter is wrong.
    #[error("{message}")]
    InvalidParameter {
        /// What is wrong with which.
        message: String,
    },
    /// A parameter is right and not supported here.
    #[error("{message}")]
    Unsupported {
        /// What is not supported.
        message: String,
    },
    /// An image cannot be removed because something refers to it.
    #[error("conflict: unable to {action} ({means}) - {reason}")]
    ImageInUse {
        /// `remove repository reference "web"` or `delete 0123456789ab`.
        action: String,
        /// `must force` or `cannot be forced`.
        means: &'static str,
        /// Who refers to it.
        reason: String,
    },
    /// What a monitor answered, or a process that carries out a step of a build.
    #[error("{}", .0.message)]
    Monitor(Failure),
    /// A monitor ended without an answer.
    #[error("the monitor of container {id} ended without an answer: {detail}")]
    MonitorLost {
        /// The container.
        id: ContainerId,
        /// Its last words, or how it ended.
        detail: String,
    },
    /// A process that carries out a step of a build ended without an answer.
    #[error("the process that carries out the build step ended without an answer: {detail}")]
    StepLost {
        /// Its last words, or how it ended.
        detail: String,
    },
    /// The build was given up.
    #[error("the build was cancelled")]
    BuildCancelled,
    /// What a mount of a build step wants is not there.
    #[error("mount {target}: {path:?} of its source")]
    MountSource {
        /// Where it was to be mounted.
        target: String,
        /// What of the source.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Something that comes with git could not be had.
    #[error("git: {remote}: {problem}")]
    Git {
        /// Where from, without user and password.
        remote: String,
        /// What git says, or what is wrong with what it brought.
        problem: String,
        /// What kind of failure it is.
        kind: ErrorKind,
    },
    /// There is no git to fetch something with.
    #[error("git: {remote}: this machine has no program git")]
    GitMissing {
        /// Where from, without user and password.
        remote: String,
    },
    /// What stands for a git repository makes no sense.
    #[error(transparent)]
    GitSource(#[from] tare_build::executor::InvalidGitSource),
    /// A file of the web is larger than any that is taken.
    #[error("{url}: more than {limit} bytes")]
    FileLimit {
        /// Where from.
        url: String,
        /// The most that are taken.
        limit: u64,
    },
    /// A container runs without the process that serves its streams.
    #[error("container {id} has lost its monitor: nothing can be attached to it or run in it any more")]
    Unmonitored {
        /// The container.
        id: ContainerId,
    },
    /// The connection to a monitor broke.
    #[error("talk to the monitor of container {id}")]
    Connection {
        /// The container.
        id: ContainerId,
        /// How it broke.
        source: io::Error,
    },
    /// The host port belongs to another container.
    #[error("{}", text(error.as_ref()))]
    PortTaken {
        /// The port that was asked for.
        port: u16,
        /// The container that publishes it, by name.
        holder: Option<String>,
        /// A port near it that nobody has.
        free: Option<u16>,
        /// The network's error.
        error: Box<tare_net::Error>,
    },
    /// A system call of the engine itself failed.
    #[error("{action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The name of an image breaks the grammar.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A document of an image is not what it must be.
    #[error(transparent)]
    Image(#[from] tare_spec::image::InvalidImage),
    /// Of the store.
    #[error(transparent)]
    Store(#[from] tare_store::Error),
    /// Of the registry client.
    #[error(transparent)]
    Registry(#[from] tare_registry::Error),
    /// Of a registry's server.
    #[error(transparent)]
    RegistryServer(#[from] tare_registry::server::Error),
    /// Of the network.
    #[error(transparent)]
    Network(#[from] tare_net::Error),
    /// Of the runtime.
    #[error(transparent)]
    Runtime(#[from] tare_runtime::Error),
    /// Of the built-in image's build.
    #[error(transparent)]
    Build(Box<tare_build::Error>),
    /// A build that failed, and what else is known of that.
    #[error(transparent)]
    BuildFailed(Box<crate::build::FailedBuild>),
    /// The work failed and so did cleaning up after it.
    #[error("{error}; cleaning up: {}", .cleaning.iter().map(text).collect::<Vec<_>>().join("; "))]
    CleanUp {
        /// What failed first.
        error: Box<Error>,
        /// What failed afterwards.
        cleaning: Vec<Error>,
    },
}

/// An error with all its causes, as one line.
#[must_use]
pub fn text(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<tare_build::Error> for Error {
    fn from(error: tare_build::Error) -> Self {
        Self::Build(Box::new(error))
    }
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }

    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidParameter { message: message.into() }
    }

    /// Joins an error with those of the clean-up that followed it.
    pub(crate) fn after(self, cleaning: Vec<Self>) -> Self {
        if cleaning.is_empty() { self } else { Self::CleanUp { error: Box::new(self), cleaning } }
    }

    /// One error out of all that a clean-up met.
    pub(crate) fn of_clean_up(mut errors: Vec<Self>) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let first = errors.remove(0);
        Err(first.after(errors))
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } | Self::System { source, .. } => io_kind(source),
            Self::Record { .. } | Self::MonitorLost { .. } | Self::StepLost { .. } | Self::Unkillable { .. } => {
                ErrorKind::Internal
            }
            Self::BuildCancelled => ErrorKind::Cancelled,
            Self::Git { kind, .. } => *kind,
            Self::GitMissing { .. } => ErrorKind::Unavailable,
            Self::GitSource(error) => error.kind(),
            Self::FileLimit { .. } => ErrorKind::InvalidParameter,
            Self::MountSource { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::MountSource { .. } => ErrorKind::InvalidParameter,
            Self::Unmonitored { .. } | Self::Connection { .. } => ErrorKind::Unavailable,
            Self::NotRoot => ErrorKind::Forbidden,
            Self::InvalidName { .. } | Self::AmbiguousId { .. } | Self::NoCommand | Self::InvalidParameter { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::NameInUse { .. }
            | Self::NotRunning { .. }
            | Self::NothingToKill { .. }
            | Self::Running { .. }
            | Self::ImageInUse { .. }
            | Self::PortTaken { .. } => ErrorKind::Conflict,
            Self::NoSuchContainer { .. }
            | Self::NoSuchImage { .. }
            | Self::NotLocal { .. }
            | Self::PlatformMismatch { .. } => ErrorKind::NotFound,
            Self::Unsupported { .. } => ErrorKind::NotImplemented,
            Self::Monitor(failure) => failure.kind,
            Self::Reference(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::RegistryServer(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::BuildFailed(failed) => failed.error.kind(),
            Self::CleanUp { error, .. } => error.kind(),
        }
    }

    /// What the person can do, as sentences or commands.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => Some("run it with sudo".into()),
            // Docker's words do not say so.
            Self::InvalidName { name } if name.chars().count() == 1 => {
                Some("a name has two characters at least".into())
            }
            Self::NameInUse { name, .. } => {
                Some(format!("`tare rm -f {name}` removes that container; `--name` takes another name"))
            }
            Self::Running { name } => {
                Some(format!("`tare stop {name}` ends it, `tare rm -f {name}` removes it at once"))
            }
            Self::NotRunning { id } => Some(format!("`tare start {}` starts it", id.short())),
            Self::PlatformMismatch { name, wanted, .. } => {
                Some(format!("`tare pull --platform {wanted} {name}` gets that one, if the registry has it"))
            }
            Self::Unmonitored { id } => Some(format!(
                "`tare restart {0}` gives it a new one; `tare stop {0}` and `tare rm -f {0}` work as ever",
                id.short()
            )),
            Self::GitMissing { .. } => Some("`apt-get install git` installs it".into()),
            Self::Git { kind: ErrorKind::Unauthorized, .. } => {
                Some("an SSH agent in SSH_AUTH_SOCK, or a URL with user and token, tells the server who you are".into())
            }
            Self::NoCommand => Some("name a command after the image: `tare run IMAGE COMMAND`".into()),
            Self::PortTaken { port, holder, free, .. } => {
                let mut hint = match holder {
                    Some(name) => format!("container {name} publishes port {port}: `tare stop {name}` ends it"),
                    None => format!("`ss -lnp sport = :{port}` shows the process that has it"),
                };
                if let Some(free) = free {
                    hint.push_str(&format!("; port {free} is free: publish that with `-p {free}:…`"));
                }
                Some(hint)
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => Some(no_space()),
            Self::Monitor(failure) => failure.hint.clone(),
            Self::Runtime(error) => runtime_hint(error),
            Self::Store(error) => store_hint(error),
            Self::Registry(error) => registry_hint(error),
            Self::Build(error) => text(&**error).to_lowercase().contains("no space left").then(no_space),
            Self::BuildFailed(failed) => text(&failed.error).to_lowercase().contains("no space left").then(no_space),
            Self::CleanUp { error, .. } => error.hint(),
            Self::File { .. }
            | Self::Record { .. }
            | Self::InvalidName { .. }
            | Self::NothingToKill { .. }
            | Self::NoSuchContainer { .. }
            | Self::AmbiguousId { .. }
            | Self::NoSuchImage { .. }
            | Self::NotLocal { .. }
            | Self::Unkillable { .. }
            | Self::InvalidParameter { .. }
            | Self::Unsupported { .. }
            | Self::ImageInUse { .. }
            | Self::MonitorLost { .. }
            | Self::StepLost { .. }
            | Self::BuildCancelled
            | Self::MountSource { .. }
            | Self::Git { .. }
            | Self::GitSource(_)
            | Self::FileLimit { .. }
            | Self::Connection { .. }
            | Self::System { .. }
            | Self::Reference(_)
            | Self::Image(_)
            | Self::RegistryServer(_)
            | Self::Network(_) => None,
        }
    }

    /// Whether a file system has no room left.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        match self {
            Self::File { source, .. } | Self::System { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Store(error) => matches!(error, tare_store::Error::NoSpace { .. }),
            Self::Monitor(failure) => failure.hint.as_deref() == Some(NO_SPACE),
            Self::CleanUp { error, .. } => error.is_full_disk(),
            error => error.hint().as_deref() == Some(NO_SPACE),
        }
    }

    /// Whether whoever reads what is written here has gone away.
    #[must_use]
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Store(tare_store::Error::Output { source }) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Where a container's program could not be executed: 127 (not found) or 126 (not executable).
    #[must_use]
    pub fn start_exit_code(&self) -> Option<i32> {
        match self {
            Self::Monitor(failure) => failure.exit_code,
            Self::Runtime(error) => Some(i32::from(error.exit_code())).filter(|code| *code != 125),
            Self::CleanUp { error, .. } => error.start_exit_code(),
            _ => None,
        }
    }

    /// Everything a client of a monitor needs of this error.
    pub(crate) fn to_failure(&self) -> Failure {
        Failure { kind: self.kind(), message: text(self), hint: self.hint(), exit_code: self.start_exit_code() }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// What helps against a full disk; the monitor hands it on as the text that it is.
const NO_SPACE: &str = "`df -h` shows the full file system; `tare images` and `tare ps -a` show what can be removed with `tare rmi` and `tare rm`";

fn no_space() -> String {
    NO_SPACE.into()
}

fn runtime_hint(error: &tare_runtime::Error) -> Option<String> {
    use tare_runtime::{Error, NotExecutable};
    match error {
        Error::CommandNotFound { command } => Some(format!(
            "the image has no program {command:?}; `--entrypoint` starts another one, and arguments follow the image's name"
        )),
        Error::NotExecutable { reason, .. } => Some(match reason {
            NotExecutable::Permission => "in the Dockerfile, `RUN chmod +x` makes a file executable".into(),
            NotExecutable::Format => {
                "the file is for another processor than this machine's, or a script without `#!` in its first line"
                    .into()
            }
            NotExecutable::MissingInterpreter { carriage_return: true, .. } => {
                "the script has Windows line ends: convert it with `sed -i 's/\\r$//'`".into()
            }
            NotExecutable::MissingInterpreter { interpreter, .. } => format!(
                "install {interpreter} in the image, or link the program statically (a glibc program does not run on a musl image)"
            ),
            NotExecutable::Other(_) => return None,
        }),
        Error::Step { source, .. } if source.0 == rustix::io::Errno::NOSPC.raw_os_error() => Some(no_space()),
        _ => None,
    }
}

fn store_hint(error: &tare_store::Error) -> Option<String> {
    use tare_store::Error;
    match error {
        Error::NoSpace { .. } => Some(no_space()),
        Error::Digest { .. } | Error::DiffId { .. } | Error::Size { .. } => Some(
            "the registry's copy is damaged or was changed on the way; nothing of it was kept: try again, or ask who runs the registry"
                .into(),
        ),
        Error::Damaged { .. } => Some(
            "`tare system check --repair` fetches again what came from a registry; `tare rmi` removes the rest".into(),
        ),
        _ => None,
    }
}

fn registry_hint(error: &tare_registry::Error) -> Option<String> {
    use tare_registry::Error;
    match error {
        Error::Transport { .. } => Some(
            "is the registry's name right, and can this machine reach it? `tare run hello` needs no registry".into(),
        ),
        Error::AccessDenied { .. } | Error::ManifestUnknown { .. } => {
            Some("check the name and the tag; `tare images` shows what is here".into())
        }
        Error::TooManyRequests { limit, .. } => Some(rate_limit_hint(limit)),
        Error::PushDenied { .. } | Error::Unauthorized { .. } | Error::NoCredentials { .. } => {
            Some("`tare login` with the registry's name tells it who you are".into())
        }
        _ => None,
    }
}

fn rate_limit_hint(limit: &tare_registry::RateLimit) -> String {
    let time = |duration: std::time::Duration| match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    };
    let mut said = Vec::new();
    match (limit.limit, limit.window) {
        (Some(requests), Some(window)) => said.push(format!("it allows {requests} requests in {}", time(window))),
        (Some(requests), None) => said.push(format!("it allows {requests} requests")),
        (None, _) => {}
    }
    said.extend(limit.resets.map(|resets| format!("ask again in {}", time(resets))));
    said.push("`tare login` raises the limit of many registries".to_owned());
    said.push("a mirror in /etc/tare/registries.json goes around it".to_owned());
    said.join("; ")
}
