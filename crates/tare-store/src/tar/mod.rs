//! The tar format as layers use it: ustar with PAX records, and GNU's long names and sparse files.
//!
//! Our own, because layers are hostile: every header extension is bounded before it is read, PAX values may
//! hold any byte (a capability set often holds a newline), and nothing here knows a file system.
//! Where archives are ambiguous the reading is that of Go's `archive/tar`, so that a layer means here what it
//! means to every other engine.

mod header;
mod reader;
mod sparse;
mod writer;

pub use header::{Kind, TarError};
pub use reader::{Entry, Reader, Time};
pub use sparse::Segment;
pub use writer::{Member, Writer};

/// Headers, contents and padding come in blocks of this many bytes.
pub const BLOCK: usize = 512;
