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

pub use supervisor::{ContainerStreams, Executed, Executor, Supervisor, Termination};
