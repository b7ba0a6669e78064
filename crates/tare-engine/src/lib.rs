//! The engine: the only owner of records. It knows images, containers and networks, joins the store, the registry
//! client, the runtime and the network, and leaves flags, text and HTTP to those above.

// They panic where they cannot write, and a full disk must not end a monitor.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod build;
pub mod container;
pub mod engine;
pub mod error;
mod etc;
pub mod image;
mod isolation;
pub mod login;
mod monitor;
pub mod registry;
mod role;
pub mod session;
pub mod state;

pub use build::{BUILD_RUN_NAME, build_run_main};
pub use engine::{Engine, Options};
pub use error::{Error, Result};
pub use monitor::{MONITOR_NAME, monitor_main};
pub use tare_store::Backend;
