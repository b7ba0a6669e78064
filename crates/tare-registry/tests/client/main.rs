//! The client against scripted registries on loopback, and against Debian's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in the functions that its cases share")]

mod debian;
mod fetch;
mod fixture;
mod hostile;
mod hub;
mod listing;
mod login;
mod mirrors;
mod pull;
mod push;
mod server;
