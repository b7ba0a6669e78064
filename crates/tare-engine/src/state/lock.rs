//! Advisory locks on files (flock(2)): they go with their holder, however it ends.

use crate::error::{Error, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A held lock.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing it releases the lock.
    _file: File,
}

/// Waits for the lock; `None` when its folder does not exist (any more).
pub(crate) fn acquire(path: &Path) -> Result<Option<Lock>> {
    take(path, FlockOperation::LockExclusive).map(|taken| match taken {
        Taken::Held(lock) => Some(lock),
        Taken::NoFolder => None,
        Taken::Busy => unreachable!("a blocking flock does not report EWOULDBLOCK"),
    })
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The lock is ours.
    Held(Lock),
    /// Somebody holds it.
    Busy,
    /// Its folder does not exist.
    NoFolder,
}

/// Takes the lock if nobody holds it.
pub(crate) fn attempt(path: &Path) -> Result<Taken> {
    take(path, FlockOperation::NonBlockingLockExclusive)
}

fn take(path: &Path, operation: FlockOperation) -> Result<Taken> {
    loop {
        let file = match File::options().write(true).create(true).truncate(false).mode(0o600).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Taken::NoFolder),
            Err(source) => return Err(Error::file("open", path, source)),
        };
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Taken::Busy),
            Err(errno) => return Err(Error::file("lock", path, errno.into())),
        }
        // Who held it may have removed the file together with what it protected: then the lock means nothing.
        let ours = file.metadata().map_err(|source| Error::file("stat", path, source))?;
        match std::fs::metadata(path) {
            Ok(named) if named.ino() == ours.ino() && named.dev() == ours.dev() => {
                return Ok(Taken::Held(Lock { _file: file }));
            }
            _ => {}
        }
    }
}

/// Whether somebody holds the lock now. The file is not made.
pub(crate) fn is_held(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::file("open", path, source)),
    };
    // A shared lock, so that two who look at once do not take each other for the holder.
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(Error::file("lock", path, errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let lock = acquire(&path).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(matches!(attempt(&path).unwrap(), Taken::Busy));
        drop(lock);
        assert!(!is_held(&path).unwrap());
        assert!(matches!(attempt(&path).unwrap(), Taken::Held(_)));
    }

    #[test]
    fn waiting_for_what_gets_removed_ends() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("object");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("lock");
        let lock = acquire(&path).unwrap().unwrap();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || acquire(&path).unwrap().is_none()
        });
        std::fs::remove_dir_all(&folder).unwrap();
        drop(lock);
        assert!(waiter.join().unwrap());
    }
}
