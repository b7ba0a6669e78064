//! How much of the disk things occupy.

use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The unit of `st_blocks` (inode(7)).
const BLOCK: u64 = 512;
/// Bytes of a path after which it begins anew at a descriptor: with one more name it stays below `PATH_MAX`.
const LONG: usize = 3072;

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
    // Containers and images may nest directories deeper than paths are long.
    let mut left: Vec<(Option<Rc<OwnedFd>>, PathBuf)> = vec![(None, path.to_owned())];
    while let Some((base, path)) = left.pop() {
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
            let (base, path) = if path.as_os_str().len() > LONG { anew(&path)? } else { (base, path) };
            for entry in entries {
                let name = entry.context("list", &path)?.file_name();
                left.push((base.clone(), path.join(name)));
            }
        }
    }
    Ok(total)
}

/// A short path of the same directory, good while the descriptor is open.
fn anew(path: &Path) -> Result<(Option<Rc<OwnedFd>>, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from).context("open", path)?;
    let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Ok((Some(Rc::new(directory)), short.into()))
}
