//! Layers: from a blob to a tree of files.

mod apply;
mod unpack;
mod whiteout;

pub use apply::Limits;
pub(crate) use apply::{apply, compression, inflated};
pub use unpack::EntryError;
