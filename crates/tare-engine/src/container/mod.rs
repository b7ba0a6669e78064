//! Containers: what is asked of them, how they are shown, and their life.

pub mod changes;
mod create;
pub mod exec;
pub mod life;
mod list;
mod load;
pub mod logs;
pub(crate) mod oci;
pub mod prune;
mod remove;
pub mod spec;
mod start;
pub(crate) mod stop;
pub mod view;

pub(crate) use load::{Loaded, start_time};
