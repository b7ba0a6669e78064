//! What builders leave in the folders of the cache that were killed: half a record, the file of a claim.

use super::failed;
use super::prune::remove_file;
use crate::error::Result;
use crate::executor::Folders;
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Takes it away. What somebody writes or holds right now is locked, and stays.
///
/// # Errors
/// Of the disk.
pub fn sweep(folders: &Folders) -> Result<()> {
    for (folder, keeps_records) in [(folders.cache(), true), (folders.last(), true), (folders.running(), false)] {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed("list", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(failed("list", &folder))?.path();
            let is_record = path.extension().is_some_and(|extension| extension == "json");
            if !(keeps_records && is_record) {
                sweep_one(&path)?;
            }
        }
    }
    Ok(())
}

fn sweep_one(path: &Path) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) }; // gone meanwhile
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_named(&file, path)? {
        return Ok(());
    }
    remove_file(path)
}

/// Whether a path names this open file. Who has it locked can be sure that it stays so, since others remove it only when they have the lock.
pub(crate) fn is_named(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().map_err(failed("inspect", path))?;
    Ok(fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_or_a_record_stays() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path());
        sweep(&folders).unwrap();
        for folder in [folders.cache(), folders.last(), folders.running()] {
            fs::create_dir_all(&folder).unwrap();
            for name in ["a.json", "a.12-ThreadId(3)", "held"] {
                fs::write(folder.join(name), "").unwrap();
            }
        }
        let held = File::open(folders.running().join("held")).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        sweep(&folders).unwrap();
        let names = |folder: &Path| {
            fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&folders.cache()), ["a.json"]);
        assert_eq!(names(&folders.last()), ["a.json"]);
        assert_eq!(names(&folders.running()), ["held"]);
    }
}
