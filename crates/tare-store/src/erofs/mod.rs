//! Our own writer of EROFS images that hold metadata only: the tree of a layer whose file contents stay where they
//! are, in the layer's uncompressed archive, which the image names as a second device.
//!
//! `index.rs` builds the tree in memory from the archive's headers while the archive passes by, `lookup.rs` finds names
//! in it, `layout.rs` gives everything its place, `image.rs` writes the bytes. The format, with the features used and
//! the kernels that know them, is described in `docs/formats/erofs.md`.

mod image;
mod index;
mod layout;
mod lookup;

pub(crate) use index::Index;

use crate::error::{Context, Result};
use crate::layer::{self, Copy, Limits, Source};
use std::io::{self, Read, Write};
use std::path::Path;
use tare_spec::DiffId;

/// Bytes of a block, of both devices: the unit of tar archives, and the smallest that EROFS has (Linux 6.4).
const BLOCK: u64 = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 9;

/// Inodes begin at multiples of this; the number of an inode is its place in these units.
const SLOT: u64 = 32;

/// Bytes of an inode without its attributes and what else stands behind it.
const INODE: u64 = 64;

/// Bytes of a directory's entry without its name.
const DIRENT: usize = 12;

/// Writes the image of a layer from its archive, compressed or not, of which nothing else is kept; the layer's diff ID.
///
/// # Errors
/// [`crate::Error`]: damaged or hostile archives, and of writing.
pub fn write_index(archive: &mut dyn Read, limits: &Limits, output: &mut dyn Write) -> Result<DiffId> {
    let (mut index, mut count) = (Index::new(), Count(0));
    let name = Path::new("index.erofs");
    let copy = Copy { writer: &mut count, path: name };
    let (_, diff_id) = layer::take(Source::Archive(archive), &mut index, Some(copy), limits)?;
    index.write(count.0, output).context("write", name)?;
    Ok(diff_id)
}

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
