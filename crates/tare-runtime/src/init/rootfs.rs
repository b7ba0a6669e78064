//! The container's root: mounted, entered, and the only way to its files.

use crate::error::{Error, Step};
use crate::request::RootFilesystem;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno as Os;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree};
use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use tare_sys::mount::{Attributes, Propagation, READ_ONLY, WritableOverlay, set_attributes};

/// Symbolic links that a missing path may lead through, as the kernel's own limit.
const MAX_LINKS: usize = 40;

/// A directory that the container's paths are resolved in; nothing leads out of it.
pub(crate) struct Rootfs {
    root: OwnedFd,
}

impl Rootfs {
    /// The calling process's own root, once it is in the container.
    pub(super) fn current() -> Result<Self, Error> {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::step(Step::OpenTarget, "/"))?;
        Ok(Self { root })
    }

    /// Mounts the root file system in this mount namespace, over one of its own directories, which exist for sure and
    /// mean nothing else in this namespace.
    pub(super) fn mount(filesystem: &RootFilesystem) -> Result<Self, Error> {
        let (tree, place) = match filesystem {
            RootFilesystem::Directory(path) => {
                let flags =
                    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
                (open_tree(CWD, path, flags), path)
            }
            RootFilesystem::Overlay { lower, upper, work, volatile } => {
                match (WritableOverlay { lower, upper, work, volatile: *volatile }).mount() {
                    // Before Linux 6.8 layers could not be given one by one.
                    Err(Os::INVAL) => {
                        old_overlay(lower, upper, work, *volatile)
                            .map_err(Error::step(Step::MountRoot, upper.display()))?;
                        let root = rustix::fs::open(upper, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                            .map_err(Error::step(Step::MountRoot, upper.display()))?;
                        return Ok(Self { root });
                    }
                    tree => (tree, upper),
                }
            }
        };
        let failed = || Error::step(Step::MountRoot, place.display());
        let root = tree.map_err(failed())?;
        let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
        set_attributes(&root, true, private).map_err(Error::step(Step::MountRoot, place.display()))?;
        move_mount(&root, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed())?;
        Ok(Self { root })
    }

    /// The root directory itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `path` inside the root. Symbolic links are followed as the container would, but not below /dev, /proc and
    /// /sys, where they lead runtimes astray (CVE-2025-31133, CVE-2025-52565).
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Os> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if is_special(path) {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        loop {
            // EAGAIN: something was renamed while the kernel looked; it makes no promise then.
            match rustix::fs::openat2(&self.root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Os::AGAIN | Os::INTR) => {}
                result => return result,
            }
        }
    }

    /// Opens `path` without access, with its status.
    pub(super) fn find(&self, path: &Path) -> Result<(OwnedFd, Stat), Os> {
        let file = self.open(path, OFlags::PATH)?;
        let status = rustix::fs::fstat(&file)?;
        Ok((file, status))
    }

    /// Opens the directory `path`, after making what is missing of it (mode 0755).
    pub(super) fn make_directory(&self, path: &Path) -> Result<OwnedFd, Error> {
        let failed = |error: Os| match error {
            Os::LOOP => Error::refused(Step::OpenTarget, path.display(), "has a symbolic link in it"),
            error => Error::step(Step::OpenTarget, path.display())(error),
        };
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, directory) {
            Err(Os::NOENT) => {}
            result => return result.map_err(failed),
        }
        let name = |component: Component<'_>| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        };
        let mut rest: VecDeque<OsString> = path.components().filter_map(name).collect();
        let (mut done, mut links) = (PathBuf::from("/"), 0);
        while let Some(component) = rest.pop_front() {
            let next = done.join(&component);
            match self.open(&next, directory) {
                Ok(_) => done = next,
                Err(Os::NOENT) => {
                    let parent = self.open(&done, directory).map_err(failed)?;
                    match rustix::fs::mkdirat(&parent, &component, Mode::from_raw_mode(0o755)) {
                        Ok(()) => done = next,
                        // A symbolic link to something that does not exist, such as /var/run to /run: make that.
                        Err(Os::EXIST) if links < MAX_LINKS && !is_special(path) => {
                            links += 1;
                            let target = rustix::fs::readlinkat(&parent, &component, Vec::new()).map_err(failed)?;
                            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                            if target.is_absolute() {
                                done = PathBuf::from("/");
                            }
                            for component in target.components().rev().filter_map(name) {
                                rest.push_front(component);
                            }
                        }
                        Err(error) => return Err(failed(error)),
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.open(&done, directory).map_err(failed)
    }

    /// Opens the target of a mount, after making what is missing: a directory or an empty file.
    ///
    /// A link of the image that leads from elsewhere into the container's /proc, /sys or /dev is refused: what is
    /// mounted there would stand where the runtime relies on the kernel's own (CVE-2019-19921), and devices would be
    /// made in a volume of the host.
    pub(super) fn make_target(&self, path: &Path, directory: bool) -> Result<OwnedFd, Error> {
        let target = if directory { self.make_directory(path)? } else { self.make_file(path)? };
        if is_special(path) {
            return Ok(target);
        }
        let failed = |error: Os| Error::step(Step::OpenTarget, path.display())(error);
        let device = rustix::fs::fstat(&target).map_err(failed)?.st_dev;
        if device == rustix::fs::fstat(&self.root).map_err(failed)?.st_dev {
            return Ok(target);
        }
        for special in SPECIAL {
            if self.find(Path::new(special)).is_ok_and(|(_, status)| status.st_dev == device) {
                return Err(Error::refused(Step::OpenTarget, path.display(), format!("leads into {special}")));
            }
        }
        Ok(target)
    }

    fn make_file(&self, path: &Path) -> Result<OwnedFd, Error> {
        match self.find(path) {
            Ok((file, status)) if FileType::from_raw_mode(status.st_mode) != FileType::Symlink => return Ok(file),
            Ok(_) | Err(Os::LOOP) => {
                return Err(Error::refused(Step::OpenTarget, path.display(), "is a symbolic link"));
            }
            Err(Os::NOENT) => {}
            Err(error) => return Err(Error::step(Step::OpenTarget, path.display())(error)),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::refused(Step::OpenTarget, path.display(), "has no name"));
        };
        let parent = self.make_directory(parent)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))
            .map_err(Error::step(Step::OpenTarget, path.display()))
    }

    /// Makes this the root of the mount namespace and leaves the old one.
    pub(super) fn pivot(&self, readonly: bool, propagation: (Propagation, bool)) -> Result<(), Error> {
        let failed = |error: Os| Error::step(Step::PivotRoot, "the container's root file system")(error);
        rustix::process::fchdir(&self.root).map_err(failed)?;
        // pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one and is taken off again.
        rustix::process::pivot_root(".", ".").map_err(failed)?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed)?;
        rustix::process::chdir("/").map_err(failed)?;
        let changed = |error: std::io::Error| Error::step(Step::MakeReadOnly, "/")(error);
        let (kind, recursive) = propagation;
        if kind != Propagation::Private {
            let attributes = Attributes { propagation: Some(kind), ..Attributes::default() };
            set_attributes(&self.root, recursive, attributes).map_err(changed)?;
        }
        if readonly {
            set_attributes(&self.root, false, Attributes { set: READ_ONLY, ..Attributes::default() })
                .map_err(changed)?;
        }
        Ok(())
    }
}

/// The folders whose entries the runtime makes or relies on.
const SPECIAL: [&str; 3] = ["/dev", "/proc", "/sys"];

fn is_special(path: &Path) -> bool {
    SPECIAL.into_iter().any(|special| path.starts_with(special))
}

/// Attaches a detached mount to an opened target.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Os> {
    move_mount(mount, "", target, "", tare_sys::exec::attach_flags())
}

/// mount(2) takes a page of options, so the directories are named by descriptors, which are short.
fn old_overlay(lower: &[PathBuf], upper: &Path, work: &Path, volatile: bool) -> Result<(), Os> {
    let lower: Vec<OwnedFd> = lower.iter().map(|path| open_directory(path)).collect::<Result<_, _>>()?;
    let (upper_fd, work_fd) = (open_directory(upper)?, open_directory(work)?);
    let lower_list = lower.iter().map(descriptor_path).collect::<Vec<_>>().join(":");
    let (upper_path, work_path) = (descriptor_path(&upper_fd), descriptor_path(&work_fd));
    let volatile = if volatile { ",volatile" } else { "" };
    let options = format!(
        "lowerdir={lower_list},upperdir={upper_path},workdir={work_path}{volatile},redirect_dir=off,metacopy=off"
    );
    let options = CString::new(options).map_err(|_| Os::INVAL)?;
    rustix::mount::mount("tare", upper, "overlay", MountFlags::empty(), options.as_c_str())
}

fn open_directory(path: &Path) -> Result<OwnedFd, Os> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn descriptor_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
