//! A tree of files as files, not as a layer.

use rustix::fs::{FileType, Timespec, Timestamps};
use std::ffi::OsStr;
use std::io;
use tare_sys::directory::{Directory, Metadata};

/// Copies all files of a tree over what is in a folder, and leaves out devices and FIFOs, as BuildKit does. With `rights` owners, all
/// bits of modes and attributes are as they were; without, the copies belong to whoever copies, and have not the bits that would give
/// whoever runs them the rights of whoever copied them.
///
/// # Errors
/// Of reading and writing.
pub fn copy_tree(from: &Directory, to: &Directory, rights: bool) -> io::Result<()> {
    for name in from.names()? {
        let Some(metadata) = from.metadata(&name)? else { continue };
        match metadata.file_type {
            FileType::Directory => {
                if to.metadata(&name)?.is_none_or(|old| old.file_type != FileType::Directory) {
                    to.remove(&name)?;
                    to.create_directory(&name, 0o700)?;
                }
                copy_tree(&from.child(&name)?, &to.child(&name)?, rights)?;
            }
            FileType::RegularFile => {
                to.remove(&name)?;
                let mut file = to.create_file(&name)?;
                io::copy(&mut from.child_file(&name)?, &mut file)?;
            }
            FileType::Symlink => {
                to.remove(&name)?;
                to.create_symlink(&name, &from.read_link(&name)?)?;
                if rights {
                    to.set_owner(&name, metadata.uid, metadata.gid)?;
                }
                continue;
            }
            _ => continue,
        }
        finish(from, to, &name, &metadata, rights)?;
    }
    Ok(())
}

fn finish(from: &Directory, to: &Directory, name: &OsStr, metadata: &Metadata, rights: bool) -> io::Result<()> {
    if rights {
        // In this order: a new owner takes bits away, and a new mode attributes.
        to.set_owner(name, metadata.uid, metadata.gid)?;
        to.set_mode(name, metadata.mode)?;
        for (attribute, value) in from.attributes(name)? {
            to.set_attribute(name, &attribute, &value)?;
        }
    } else {
        to.set_mode(name, metadata.mode & 0o777)?;
    }
    let (seconds, nanoseconds) = metadata.mtime;
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    to.set_times(name, &Timestamps { last_access: time, last_modification: time })
}
