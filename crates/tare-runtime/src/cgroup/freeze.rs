//! Holding a container's processes still for a moment.

use super::Cgroup;
use crate::error::{Error, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Os;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tare_sys::clone::{Child, CloneOptions, spawn};

/// How long the kernel may need: a process that waits for a disk stops when the disk has answered.
const FROZEN_WITHIN: Duration = Duration::from_secs(10);

/// Processes that stand still until this is dropped, or until whoever froze them ends in any way: a process of its
/// own watches over that.
#[derive(Debug)]
#[must_use = "the processes stand still only while this lives"]
pub struct Frozen {
    switch: OwnedFd,
    guard: Child,
}

impl Cgroup {
    /// Freezes all processes of the container and waits until they stand still (kernel documentation,
    /// `cgroup-v2.rst`, `cgroup.freeze`; Linux 5.2). `None` where cgroup v2 is not mounted.
    ///
    /// # Errors
    /// When the kernel refuses, or processes do not stop within ten seconds; they go on then.
    pub fn freeze(&self) -> Result<Option<Frozen>, Error> {
        let Some(directory) = self.v2_directory() else { return Ok(None) };
        let failed = |error: Os| Error::step(Step::FreezeCgroup, directory.display())(error);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let switch = match rustix::fs::open(directory.join("cgroup.freeze"), flags, Mode::empty()) {
            Err(Os::NOENT) => return Ok(None),
            result => result.map_err(failed)?,
        };
        let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(failed)?;
        let guard = spawn(CloneOptions::default(), || {
            // A signal from the terminal is for the command, not for who cleans up after it.
            let _ = rustix::process::setsid();
            while poll(&mut [PollFd::new(&us, PollFlags::IN)], None).is_err() {}
            u8::from(rustix::io::write(&switch, b"0").is_err())
        })
        .map_err(|error| failed(Os::from_io_error(&error).unwrap_or(Os::IO)))?;
        let frozen = Frozen { switch, guard };
        rustix::io::write(&frozen.switch, b"1").map_err(failed)?;
        wait(&directory).map_err(failed)?;
        Ok(Some(frozen))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Nothing refuses this but a cgroup that is gone, and its processes with it.
        let _ = rustix::io::write(&self.switch, b"0");
        let _ = pidfd_send_signal(&self.guard.pidfd, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.guard.pidfd.as_fd()), WaitIdOptions::EXITED)
        });
    }
}

/// Returns when `cgroup.events` says that all processes stand still.
fn wait(directory: &Path) -> Result<(), Os> {
    let deadline = Instant::now() + FROZEN_WITHIN;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let events = rustix::fs::open(directory.join("cgroup.events"), flags, Mode::empty())?;
    loop {
        let mut text = [0; 256];
        let count = rustix::io::pread(&events, &mut text, 0)?;
        if String::from_utf8_lossy(&text[..count]).contains("frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Os::TIMEDOUT);
        }
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], left.as_ref()) {
            Ok(_) | Err(Os::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
