//! Images on disk: blobs, layers and names.
//!
//! Content enters verified or not at all, by rename; whatever a crash leaves is swept by the next
//! [`Store::open`] or collected by the next removal. The tree on disk and its locks are drawn at the top of
//! `store.rs`, the formats are described in `docs/formats/`.

mod adopt;
mod archive;
mod blob;
mod check;
mod compress;
pub mod content;
mod disk;
mod erofs;
mod error;
mod gc;
mod hash;
mod images;
mod inflate;
mod layer;
mod parallel;
mod pending;
mod pipe;
mod platforms;
mod record;
mod snapshot;
mod store;
pub mod tar;
mod temporary;
mod transfer;

pub use adopt::LayerWriter;
pub use archive::{Archive, ArchiveError, ArchiveInput, LoadProgress, Loaded, ReadAt, Saved};
pub use blob::Spool;
pub use check::{Checked, Damage, Damaged};
pub use disk::occupied;
pub use erofs::write_index;
pub use error::{Error, Result};
pub use gc::{Collected, DiskUsage, Garbage, Removal};
pub use hash::sha256;
pub use images::{Facts, Found, ImageOutline, ImageRecord, ImageSummary};
pub use inflate::Inflated;
pub use layer::{Change, ChangeKind, EntryError, HIDE_ALL, Hidden, Limits, Tree};
pub use pending::Intention;
pub use pipe::PipeWriter;
pub use platforms::Part;
pub use snapshot::{LayerInfo, Layers, Mounted, Snapshotter};
pub use store::{Backend, Lease, Store, StoreOptions};
pub use transfer::{BlobSource, Taken};
