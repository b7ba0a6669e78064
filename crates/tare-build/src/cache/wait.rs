//! Waiting for what somebody else has locked.

use super::failed;
use crate::error::{Error, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Between two tries for a lock. Waiting in flock(2) cannot be ended from another thread, and has no time limit; so little is no time beside
/// what others hold such locks for, and the tries cost nothing.
const BETWEEN: Duration = Duration::from_millis(30);

/// How somebody waits.
pub struct Wait<'a> {
    /// Called once a wait, when it begins.
    pub begins: &'a dyn Fn(),
    /// Called when the lock is there, if there was a wait.
    pub ends: &'a dyn Fn(),
    /// Asked between tries: whether it is not wanted any more.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl Wait<'_> {
    /// Locks a file, shared or else exclusively.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; of the disk.
    pub(crate) fn lock(&self, file: &File, path: &Path, shared: bool) -> Result<()> {
        let operation =
            if shared { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
        let mut waits = false;
        loop {
            match rustix::fs::flock(file, operation) {
                Ok(()) if waits => {
                    (self.ends)();
                    return Ok(());
                }
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(failed("lock", path)(errno.into())),
            }
            if (self.is_cancelled)() {
                return Err(Error::Cancelled);
            }
            if !std::mem::replace(&mut waits, true) {
                (self.begins)();
            }
            std::thread::sleep(BETWEEN);
        }
    }
}
