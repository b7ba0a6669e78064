//! Dockerfiles to images.
//!
//! text → [`dockerfile`] (what it says) → [`plan`] (steps as plain data) → `solve` (each step once, several at once, and only
//! those that [`cache`] does not know) → `assemble` (layers, configuration and manifest in the store). What starts processes and uses
//! the network is behind the trait [`Executor`](executor::Executor), which the engine implements. [`files`] moves the files of COPY and ADD.

mod assemble;
mod build;
pub mod cache;
mod change;
mod context;
pub mod dockerfile;
mod elsewhere;
mod error;
pub mod executor;
mod explain;
pub mod files;
pub mod hello;
mod look;
pub mod plan;
pub mod progress;
pub mod request;
mod solve;
mod squash;

pub use assemble::BuiltImage;
pub use build::{BuildFailure, Builder, Built, Text};
pub use change::change;
pub use error::{Error, OfStatement, OfWhat, Result};
pub use explain::StepReport;
pub use look::{ContextFile, Looked};
