//! End-to-end tests: the built program against the kernel, each test on a host of its own (see [`host::Host`]).
//!
//! The tests judge by what the kernel says – `/proc`, `mountinfo`, cgroup files, sockets – and by what Docker's users see: output, exit
//! codes, error texts. They need root; without it they pass without a look unless `TARE_REQUIRE_ROOT=1`, which makes that a failure.

#![allow(clippy::unwrap_used, reason = "the whole crate is tests, the fixture too")]

mod build;
mod cli;
mod crash;
mod host;
mod limits;
mod net;
mod registry;
mod runtime;
mod security;
