//! Dockerfiles and what they say.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod golden;
mod lint;
mod size;
