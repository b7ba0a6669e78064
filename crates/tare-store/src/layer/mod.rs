//! Layers: from a blob to a tree of files.

mod apply;
mod attributes;
mod diff;
mod gunzip;
pub(crate) mod tree;
mod unpack;
mod whiteout;

pub use apply::Limits;
pub(crate) use apply::{Copy, Source, compression, inflated, take};
pub(crate) use attributes::{ACL_ACCESS, ACL_DEFAULT};
pub(crate) use diff::output;
pub use diff::{Change, ChangeKind, HIDE_ALL, Hidden, Tree};
pub(crate) use gunzip::Gunzip;
pub use tree::EntryError;
pub(crate) use unpack::Unpacker;
pub(crate) use whiteout::OPAQUE;
