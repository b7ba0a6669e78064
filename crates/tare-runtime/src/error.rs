//! What can go wrong between a configuration and a running process.

use serde::{Deserialize, Serialize};
use std::fmt;
use tare_spec::ErrorKind;

/// An error number of the kernel, shown in its own words without the number.
///
/// Serialisable, because errors of a container's first process travel through a socket to its parent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut chars = text.chars();
        match chars.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), chars.as_str()),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()))
    }
}

/// Why a program that exists cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotExecutable {
    /// No execute permission, or not a regular file.
    Permission,
    /// Neither a script nor a program for this machine.
    Format,
    /// The interpreter or loader that the file asks for does not exist in the container.
    MissingInterpreter {
        /// Path in the file's first line or in its ELF header.
        interpreter: String,
        /// Whether the first line ends with a carriage return, which then belongs to the interpreter's name.
        carriage_return: bool,
    },
    /// Another error of execve(2).
    Other(Errno),
}

impl fmt::Display for NotExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission => f.write_str("permission denied"),
            Self::Format => f.write_str("exec format error"),
            Self::MissingInterpreter { interpreter, carriage_return: false } => {
                write!(f, "no such file or directory: its interpreter {interpreter} does not exist in the container")
            }
            Self::MissingInterpreter { interpreter, carriage_return: true } => write!(
                f,
                "no such file or directory: its first line ends with a carriage return (Windows line end) after {interpreter}"
            ),
            Self::Other(errno) => errno.fmt(f),
        }
    }
}

/// Errors of this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The configuration contradicts itself or the specification.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field, such as `process.cwd`.
        field: String,
        /// What is wrong with it, with the value.
        reason: String,
    },
    /// The configuration asks for something that this runtime cannot do yet.
    #[error("{field} is not supported")]
    Unsupported {
        /// Path of the field, such as `linux.intelRdt`, with its value where that matters.
        field: String,
    },
    /// The program does not exist (exit code 127).
    #[error("exec: {command:?}: {}", if command.contains('/') {
        format!("stat {command}: no such file or directory")
    } else {
        "executable file not found in $PATH".to_owned()
    })]
    CommandNotFound {
        /// `args[0]` as given.
        command: String,
    },
    /// The program exists and cannot be executed (exit code 126; 127 where its interpreter is missing).
    #[error("exec: {command:?}: {reason}")]
    NotExecutable {
        /// Path of the file.
        command: String,
        /// Why.
        reason: NotExecutable,
    },
    /// The user or group does not exist in the container, or is no number that can be one.
    #[error("{message}")]
    User {
        /// In Docker's words, such as `unable to find user x: no matching entries in passwd file`.
        message: String,
    },
    /// A step failed in the kernel.
    #[error("{step} {object}")]
    Step {
        /// What was tried.
        step: Step,
        /// On what: usually a path.
        object: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// Something in the container's file system would have led the runtime astray.
    #[error("{step} {object}: {reason}")]
    Refused {
        /// What was tried.
        step: Step,
        /// On what: usually a path in the container.
        object: String,
        /// What was found.
        reason: String,
    },
    /// The container's processes did not go away in time.
    #[error("cgroup {path}: still has processes after {milliseconds} ms")]
    StillPopulated {
        /// The cgroup's folder.
        path: String,
        /// How long it was waited for.
        milliseconds: u64,
    },
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::CommandNotFound { .. } | Self::NotExecutable { .. } | Self::User { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::Unsupported { .. } => ErrorKind::NotImplemented,
            Self::Step { .. } => ErrorKind::Internal,
            Self::Refused { .. } => ErrorKind::Forbidden,
            Self::StillPopulated { .. } => ErrorKind::Unavailable,
        }
    }

    /// The exit code that a shell or Docker gives to a command that failed to start this way: 127 not found,
    /// 126 not executable, 125 anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandNotFound { .. }
            | Self::NotExecutable { reason: NotExecutable::MissingInterpreter { .. }, .. } => 127,
            Self::NotExecutable { .. } => 126,
            Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::User { .. }
            | Self::Step { .. }
            | Self::Refused { .. }
            | Self::StillPopulated { .. } => 125,
        }
    }

    /// Makes the error of a failed step, for `map_err`.
    pub(crate) fn step<E: Into<Errno>>(step: Step, object: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |source| Self::Step { step, object: object.to_string(), source: source.into() }
    }

    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unsupported(field: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into() }
    }

    pub(crate) fn refused(step: Step, object: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::Refused { step, object: object.to_string(), reason: reason.into() }
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The steps from a configuration to a process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

steps! {
    /// Reading the host's cgroup mounts.
    FindCgroups = "find the cgroup mounts in",
    /// Making a cgroup.
    CreateCgroup = "create cgroup",
    /// Writing a limit.
    SetLimit = "set limit",
    /// Attaching the device filter.
    FilterDevices = "filter devices of",
    /// Moving the process into a cgroup.
    EnterCgroup = "enter cgroup",
    /// Freezing what is in a cgroup.
    FreezeCgroup = "freeze the processes of cgroup",
    /// Killing what is in a cgroup.
    KillCgroup = "kill the processes of cgroup",
    /// Removing a cgroup.
    RemoveCgroup = "remove cgroup",
    /// Starting the first process.
    Clone = "start a process for",
    /// Talking with the first process.
    Synchronise = "wait for the first process of",
    /// Joining a namespace.
    JoinNamespace = "join namespace",
    /// Making the mount table private.
    Isolate = "make the mount table private below",
    /// Mounting the root file system.
    MountRoot = "mount the root file system from",
    /// Opening the source of a bind mount.
    OpenSource = "open the source of a bind mount",
    /// Making or opening a mount's target.
    OpenTarget = "open mount target",
    /// Mounting.
    Mount = "mount",
    /// Making a device node.
    CreateDevice = "create device",
    /// Opening the terminal.
    OpenTerminal = "open terminal",
    /// Hiding a path.
    Mask = "mask",
    /// Making a path read-only.
    MakeReadOnly = "make read-only",
    /// Writing a kernel parameter.
    Sysctl = "set kernel parameter",
    /// Setting the host or domain name.
    SetHostname = "set host name",
    /// Entering the new root.
    PivotRoot = "pivot root to",
    /// Reading /etc/passwd or /etc/group.
    ReadUsers = "read",
    /// Setting a resource limit.
    SetRlimit = "set",
    /// Setting oom_score_adj.
    SetOomScore = "set oom_score_adj to",
    /// Setting an LSM label.
    SetLabel = "set security label",
    /// Setting user and groups.
    SetUser = "become",
    /// Setting capabilities.
    SetCapabilities = "set capabilities of",
    /// Entering the working directory.
    ChangeDirectory = "chdir to",
    /// Loading the system call filter.
    LoadSeccomp = "load the seccomp filter of",
    /// Attaching standard input and output.
    AttachStdio = "attach stdio of",
    /// Starting a session.
    StartSession = "start a session for",
    /// Reading or signalling a process.
    Signal = "signal process",
    /// Reaping a process.
    Wait = "wait for process",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_clients_parse() {
        let missing = Error::CommandNotFound { command: "foo".into() };
        assert_eq!(missing.to_string(), r#"exec: "foo": executable file not found in $PATH"#);
        let missing = Error::CommandNotFound { command: "/foo".into() };
        assert_eq!(missing.to_string(), r#"exec: "/foo": stat /foo: no such file or directory"#);
        assert_eq!(missing.exit_code(), 127);
        let refused = Error::NotExecutable { command: "/etc/passwd".into(), reason: NotExecutable::Permission };
        assert_eq!(refused.to_string(), r#"exec: "/etc/passwd": permission denied"#);
        assert_eq!(refused.exit_code(), 126);
        assert_eq!(Errno(2).to_string(), "no such file or directory");
    }

    #[test]
    fn errors_survive_the_way_to_the_parent() {
        let error = Error::Step { step: Step::Mount, object: "/proc".into(), source: Errno(1) };
        let bytes = serde_json::to_vec(&error).unwrap();
        assert_eq!(serde_json::from_slice::<Error>(&bytes).unwrap(), error);
    }
}
