//! Beginning as one of the program's other selves: a monitor, or what carries out a step of a build.

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Takes one of the standard descriptors, which carries something else than a standard stream, and leaves /dev/null in
/// its place.
pub(crate) fn take(number: u8) -> Result<OwnedFd> {
    let system = |errno: Errno| Error::System { action: "take what the starter handed over", source: errno.into() };
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(system)?;
    let (taken, replaced) = match number {
        0 => (rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3), rustix::stdio::dup2_stdin(&null)),
        _ => (rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3), rustix::stdio::dup2_stdout(&null)),
    };
    replaced.map_err(system)?;
    taken.map_err(system)
}

/// Leaves the starter's terminal, whose signals are not meant for this process, and takes a name: executed through a
/// descriptor, it would be listed under that number.
pub(crate) fn begin(name: &CStr) -> Result<()> {
    let system = |action| move |errno: Errno| Error::System { action, source: errno.into() };
    rustix::process::setsid().map_err(system("start a session"))?;
    rustix::thread::set_name(name).map_err(system("name the process"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}
