//! Docker's words for the engine's objects: the JSON of its Engine API, and the codes that errors become.
//!
//! Field names, types and order are those of Docker's Engine API 1.47, because programs read them.

pub mod container;
pub mod host_config;
pub mod image;
pub mod network;
pub mod status;
pub mod system;
pub mod time;

/// The version of Docker's Engine API whose JSON this is.
pub const API_VERSION: &str = "1.47";
