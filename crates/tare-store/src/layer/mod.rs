//! Layers: from a blob to a tree of files.

mod apply;
mod attributes;
pub(crate) mod tree;
mod unpack;
mod whiteout;

pub use apply::Limits;
pub(crate) use apply::{Source, compression, inflated, take};
pub use tree::EntryError;
pub(crate) use unpack::Unpacker;
