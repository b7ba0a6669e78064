//! /dev.

use super::rootfs::{Rootfs, attach};
use crate::error::{Error, Step};
use crate::plan::{DEFAULT_DEVICES, MountPlan, Source};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno as Os;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use tare_spec::runtime::Device;

/// Links that every container has (config-linux.md, "Dev symbolic links", and devpts).
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Whether /dev is the host's, which is then left as it is.
pub(super) fn has_host_dev(mounts: &[MountPlan]) -> bool {
    mounts
        .iter()
        .rev()
        .find(|mount| mount.target == Path::new("/dev"))
        .is_some_and(|mount| matches!(mount.source, Source::Bind { .. }))
}

/// Makes what every container has in /dev, and opens it.
pub(super) fn create_defaults(root: &Rootfs) -> Result<OwnedFd, Error> {
    let dev = root.make_directory(Path::new("/dev"))?;
    for (name, major, minor) in DEFAULT_DEVICES {
        make_node(&dev, OsStr::new(name), FileType::CharacterDevice, makedev(major, minor), 0o666)
            .map_err(|error| failed(&Path::new("/dev").join(name), error))?;
    }
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Os::EXIST) => {}
            Err(error) => return Err(Error::step(Step::CreateDevice, format_args!("/dev/{name}"))(error)),
        }
    }
    Ok(dev)
}

/// Makes the devices that the configuration names.
pub(super) fn create(root: &Rootfs, devices: &[Device]) -> Result<(), Error> {
    for device in devices {
        let (Some(folder), Some(name)) = (device.path.parent(), device.path.file_name()) else { continue };
        let folder = root.make_directory(folder)?;
        let file_type = match device.device_type.as_str() {
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let number = makedev(device.major as u32, device.minor as u32);
        make_node(&folder, name, file_type, number, device.file_mode.unwrap_or(0o666) & 0o7777)
            .map_err(|error| failed(&device.path, error))?;
        if device.uid.or(device.gid).is_some() {
            let (uid, gid) = (Uid::from_raw(device.uid.unwrap_or(0)), Gid::from_raw(device.gid.unwrap_or(0)));
            rustix::fs::chownat(&folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Error::step(Step::CreateDevice, device.path.display()))?;
        }
    }
    Ok(())
}

fn failed(path: &Path, error: Os) -> Error {
    match error {
        Os::EXIST => Error::refused(Step::CreateDevice, path.display(), "there is something else already"),
        error => Error::step(Step::CreateDevice, path.display())(error),
    }
}

/// The same device that is there already is fine; anything else is EEXIST.
fn make_node(folder: &OwnedFd, name: &OsStr, file_type: FileType, number: u64, mode: u32) -> Result<(), Os> {
    let number = if file_type == FileType::Fifo { 0 } else { number };
    match rustix::fs::mknodat(folder, name, file_type, Mode::from_raw_mode(mode), number) {
        Err(Os::EXIST) => {}
        result => return result,
    }
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == file_type && (file_type == FileType::Fifo || found.st_rdev == number) {
        Ok(())
    } else {
        Err(Os::EXIST)
    }
}

/// Binds the terminal to /dev/console: both ends by descriptor, the target newly made (CVE-2025-52565).
pub(super) fn bind_console(dev: &OwnedFd, terminal: &OwnedFd) -> Result<(), Error> {
    let failed = |error: Os| failed(Path::new("/dev/console"), error);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let target = match rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o600)) {
        // In a /dev that came with the image: only a file or a device, not followed.
        Err(Os::EXIST) => {
            rustix::fs::openat(dev, "console", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        }
        target => target,
    }
    .map_err(failed)?;
    let found = rustix::fs::fstat(&target).map_err(failed)?;
    if !matches!(FileType::from_raw_mode(found.st_mode), FileType::RegularFile | FileType::CharacterDevice) {
        return Err(failed(Os::EXIST));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(terminal, "", flags).map_err(failed)?;
    attach(&mount, &target).map_err(failed)
}
