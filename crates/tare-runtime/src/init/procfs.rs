//! A procfs that nobody else can reach.

use crate::error::{Error, Step};
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use tare_sys::mount::Attributes;

/// A new mount of the process id namespace's procfs, attached nowhere: what is mounted over the container's /proc
/// cannot redirect what is written here (CVE-2019-19921, CVE-2025-52881).
pub(super) struct ProcFs(OwnedFd);

impl ProcFs {
    pub(super) fn open() -> Result<Self, Error> {
        super::mounts::new_file_system("proc", None, &[], Attributes::default())
            .map(Self)
            .map_err(Error::step(Step::Mount, "a private procfs"))
    }

    /// Writes to a file below it.
    pub(super) fn write(&self, path: &Path, value: &str, step: Step) -> Result<(), Error> {
        let object = format!("{} = {value}", path.display());
        let failed = || Error::step(step, &object);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve).map_err(failed())?;
        let kind = rustix::fs::fstatfs(&file).map_err(failed())?.f_type;
        if kind != PROC_SUPER_MAGIC {
            return Err(Error::refused(step, path.display(), format!("is not on procfs but on {kind:#x}")));
        }
        rustix::io::write(&file, value.as_bytes()).map_err(failed())?;
        Ok(())
    }
}
