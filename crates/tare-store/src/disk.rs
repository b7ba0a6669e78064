//! How much of the disk things occupy.

use crate::error::{Context, Result};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The unit of `st_blocks` (inode(7)).
const BLOCK: u64 = 512;

/// Bytes that a file or a folder with all below it occupies, as `du` counts them: files with several names once,
/// what vanishes meanwhile not at all.
///
/// # Errors
/// Of the disk.
pub fn occupied(path: &Path) -> Result<u64> {
    sum(path, |metadata| metadata.blocks() * BLOCK)
}

/// Bytes in the regular files of a tree, files with several names once.
pub(crate) fn contents(path: &Path) -> Result<u64> {
    sum(path, |metadata| if metadata.is_file() { metadata.len() } else { 0 })
}

fn sum(path: &Path, count: impl Fn(&Metadata) -> u64) -> Result<u64> {
    let mut linked = BTreeSet::new();
    let mut total = 0;
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.context("inspect", &path)?,
        };
        if !metadata.is_dir() && metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        total += count(&metadata);
        if metadata.is_dir() {
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.context("list", &path)?,
            };
            for entry in entries {
                left.push(entry.context("list", &path)?.path());
            }
        }
    }
    Ok(total)
}
