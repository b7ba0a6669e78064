//! From an OCI configuration to a running process, without helper programs.
//!
//! [`create`] clones the container's first process into its namespaces and cgroup. The child builds the root file
//! system in its own mount namespace while the caller attaches the network; then it waits. [`Created::start`] lets it
//! go and returns when the program was executed, or the typed reason why not. [`exec`] adds a process to a running
//! container.
//!
//! **The calling process must have one thread only**: children go on as copies of it until they execute the
//! container's program.

// They panic where they cannot write, and a full disk must not end a monitor.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod capabilities;
pub mod cgroup;
mod channel;
mod create;
mod error;
mod exec;
mod init;
pub mod monitor;
mod plan;
mod request;
pub mod seccomp;
pub mod user;

pub use create::{Created, Exit, Running, create};
pub use error::{Errno, Error, NotExecutable, Step};
pub use exec::exec;
pub use request::{CreateRequest, ExecRequest, RootFilesystem, Stdio};
