//! Writing to the disk early, so that a later fsync has little left to wait for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Has the kernel begin to write these bytes of a file to the disk, and does not wait for it. Promises nothing about the
/// disk: fsync does.
///
/// C: `int sync_file_range(int fd, off_t offset, off_t nbytes, unsigned flags)`, sync_file_range(2), Linux 2.6.17; no
/// fallback, file systems that cannot do it say so.
///
/// # Errors
/// EIO, ENOSPC of earlier writes, ESPIPE for what is no file, EINVAL for what does not fit 63 bits.
pub fn start(file: &impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let outside = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (offset, length) = (i64::try_from(offset).map_err(outside)?, i64::try_from(length).map_err(outside)?);
    // SAFETY: rustix has no sync_file_range. The call takes no pointers, and the descriptor is open while it is borrowed.
    let result =
        unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
