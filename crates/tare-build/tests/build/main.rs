//! Dockerfiles to plans and to images.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod fake;
mod golden;
mod hello;
mod images;
mod keys;
mod solver;
