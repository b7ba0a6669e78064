//! Standard input and output: terminals, pipes, nothing.

use super::rootfs::Rootfs;
use crate::channel::ChildEnd;
use crate::error::{Error, Step};
use crate::request::Stdio;
use rustix::fs::{FileType, OFlags, Uid, makedev};
use rustix::io::Errno as Os;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::os::fd::OwnedFd;
use std::path::Path;
use tare_sys::exec::become_stdio;

/// Opens a new pseudo-terminal of the container's devpts, gives one end to the parent, and returns the other.
pub(super) fn open_terminal(root: &Rootfs, size: (u16, u16), channel: &ChildEnd) -> Result<OwnedFd, Error> {
    let path = Path::new("/dev/pts/ptmx");
    let failed = |error: Os| match error {
        Os::LOOP => Error::refused(Step::OpenTerminal, path.display(), "has a symbolic link in it"),
        error => Error::step(Step::OpenTerminal, path.display())(error),
    };
    let parent_end = root.open(path, OFlags::RDWR | OFlags::NOCTTY).map_err(failed)?;
    let status = rustix::fs::fstat(&parent_end).map_err(failed)?;
    // A file of that name that is no multiplexer could be anything the container wants us to talk to.
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice || status.st_rdev != makedev(5, 2) {
        return Err(Error::refused(Step::OpenTerminal, path.display(), "is not the terminal multiplexer"));
    }
    rustix::pty::unlockpt(&parent_end).map_err(failed)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&parent_end, flags).map_err(failed)?;
    let (rows, columns) = size;
    if rows != 0 && columns != 0 {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).map_err(failed)?;
    }
    channel.send_console(&parent_end).map_err(failed)?;
    Ok(terminal)
}

/// Makes the terminal, or what `stdio` says, descriptors 0 to 2.
pub(super) fn attach(root: &Rootfs, stdio: &Stdio, terminal: Option<OwnedFd>, uid: u32) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::step(Step::AttachStdio, "the process")(error);
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal)
            .map_err(Error::step(Step::OpenTerminal, "as controlling terminal"))?;
        own(&terminal, uid)?;
        for number in 0..3 {
            become_stdio(&terminal, number).map_err(failed)?;
        }
        return Ok(());
    }
    let (stdin, stdout, stderr) = match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => (stdin.as_ref(), Some(stdout), Some(stderr)),
        Stdio::Null | Stdio::Terminal { .. } => (None, None, None),
    };
    // The caller's null device is the host's: through the descriptor, the container's root could change its mode and
    // owner. The container's own does the same.
    let mut given = [stdin, stdout, stderr];
    for file in &mut given {
        if let Some(null) = *file
            && super::paths::is_null(null).map_err(Error::step(Step::AttachStdio, "the process"))?
        {
            *file = None;
        }
    }
    let null = if given.iter().any(Option::is_none) { Some(open_null(root)?) } else { None };
    // A descriptor that is itself 0 to 2 must not be overwritten before it is used, so all are moved up first.
    let mut moved = Vec::with_capacity(3);
    for file in given {
        let file = file.or(null.as_ref()).expect("the null device was opened for what is missing");
        moved.push(rustix::io::fcntl_dupfd_cloexec(file, 3).map_err(Error::step(Step::AttachStdio, "the process"))?);
    }
    for (number, (file, given)) in moved.iter().zip(given).enumerate() {
        if given.is_some() {
            own(file, uid)?;
        }
        become_stdio(file, number as u8).map_err(failed)?;
    }
    Ok(())
}

/// Lets the process's user open /dev/stdout and its like.
fn own(file: &OwnedFd, uid: u32) -> Result<(), Error> {
    let status = rustix::fs::fstat(file).map_err(Error::step(Step::AttachStdio, "the process"))?;
    // Devices of the host, and files that have the right owner, stay as they are.
    if status.st_uid == uid || status.st_rdev == makedev(1, 3) {
        return Ok(());
    }
    match rustix::fs::fchown(file, Some(Uid::from_raw(uid)), None) {
        // File systems that are read-only or have no owners: what the process may open is then theirs to say.
        Ok(()) | Err(Os::ROFS | Os::PERM | Os::INVAL) => Ok(()),
        Err(error) => Err(Error::step(Step::AttachStdio, "the process")(error)),
    }
}

/// The container's own null device, so that no descriptor of the host's /dev stays open.
fn open_null(root: &Rootfs) -> Result<OwnedFd, Error> {
    let null = root.open(Path::new("/dev/null"), OFlags::RDWR).map_err(Error::step(Step::AttachStdio, "/dev/null"))?;
    super::paths::check_null(&null)?;
    Ok(null)
}
