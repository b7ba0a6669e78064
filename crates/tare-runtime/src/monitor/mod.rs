//! The monitor: the part of the process that owns one container while it runs.
//!
//! It holds the container's pipes or terminal, writes its log, and serves clients over a unix socket: attach,
//! exec, resize and wait ([`protocol`]). It is one loop around `epoll` without threads, and nothing in it grows: a
//! client that does not read its output stops the reading of the container's (back-pressure), as a pipe would.
//!
//! It knows nothing of images, names or networks; who set the container up also tears it down, between
//! [`Supervisor::run`] and [`Supervisor::finish`].

pub mod log;
pub mod protocol;
mod streams;
mod supervisor;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::Write;

pub use supervisor::{ContainerStreams, Executed, Executor, Supervisor, Termination};

/// Writes a line into `monitor.err`, the monitor's standard error: clients have no use for it.
///
/// `eprintln!` panics where it cannot write, and a full disk must not end the monitor.
pub fn note(line: impl Display) {
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}
