//! What a step's mounts bind, made in the mount namespace of the process that carries the step out, so that it goes with
//! that process.
//!
//! ```text
//! ROOT/build/work/<id>/mounts/          a file system in memory, in that namespace only
//!                             <n>       what mount n binds: a folder, a file, a secret, a socket
//!                             <n>.tree  the whole of the directories that n is a part of
//! ROOT/build/work/<id>/<n>/             what is written to such directories, to be thrown away
//! ```
//!
//! A part is found by a descriptor that never leaves its directories, whatever links are in them (CVE-2024-23652 and its
//! kin), and what was found is bound, not its path.

use super::agent::Agent;
use super::request::{RunMount, RunSource};
use super::work::WorkFolder;
use crate::error::{Error, Result};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tare_sys::directory::Directory;
use tare_sys::mount::{self, WritableOverlay};

/// The most bytes of a secret: it stays in memory.
const SECRET_LIMIT: u64 = 16 << 20;

/// What was made.
#[derive(Default)]
pub(super) struct Sources {
    /// The place on the host of what each mount binds.
    pub(super) paths: Vec<Option<PathBuf>>,
    /// Agents that listen for the process.
    pub(super) agents: Vec<Agent>,
}

/// Makes what these mounts bind; `secrets` gives the contents of secrets, one after the other.
pub(super) fn prepare(work: &WorkFolder, mounts: &[RunMount], secrets: &mut File) -> Result<Sources> {
    let mut sources = Sources::default();
    let needs_folder = |mount: &RunMount| !matches!(mount.source, RunSource::Folder(_) | RunSource::Temporary { .. });
    if mounts.iter().any(needs_folder) {
        mount::leave_namespace().map_err(Error::system("make a mount namespace"))?;
        let folder = work.make("mounts", 0o700)?;
        attach(&memory().map_err(failed("mount", &folder))?, &folder).map_err(failed("mount", &folder))?;
    }
    for (number, mount) in mounts.iter().enumerate() {
        let place = work.path().join("mounts").join(number.to_string());
        let source = match &mount.source {
            RunSource::Folder(path) => Some(path.clone()),
            RunSource::Temporary { .. } => None,
            RunSource::Tree { lower, path } => {
                let tree = tree(work, number, mount.read_only, lower)?;
                part(&tree, path, &place).map_err(|error| error.of_mount(&mount.target, path))?;
                Some(place)
            }
            RunSource::Secret { length, mode, owner } => {
                if *length > SECRET_LIMIT {
                    let message =
                        format!("mount {}: a secret of {length} bytes, at most {SECRET_LIMIT} fit", mount.target);
                    return Err(Error::invalid(message));
                }
                secret(&place, secrets.take(*length), *mode, *owner)?;
                Some(place)
            }
            RunSource::Agent { socket, mode, owner } => {
                sources.agents.push(Agent::listen(&place, socket, *mode, *owner)?);
                Some(place)
            }
        };
        sources.paths.push(source);
    }
    Ok(sources)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::File { action, path, source: errno.into() }
}

/// A file system in memory that is not written to the disk either when memory is short, where the kernel can promise that
/// (`noswap`, tmpfs(5), Linux 6.4).
fn memory() -> Result<OwnedFd, Errno> {
    let make = |keeps: bool| {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "build")?;
        fsconfig_set_string(&context, "mode", "700")?;
        if keeps {
            fsconfig_set_flag(&context, "noswap")?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    match make(true) {
        Err(Errno::INVAL) => make(false),
        made => made,
    }
}

fn attach(mount: &OwnedFd, place: &Path) -> Result<(), Errno> {
    move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Mounts directories over each other and gives back the root of that. What is written there is thrown away.
fn tree(work: &WorkFolder, number: usize, read_only: bool, lower: &[PathBuf]) -> Result<Directory> {
    let place = work.path().join("mounts").join(format!("{number}.tree"));
    std::fs::create_dir(&place).map_err(|source| Error::file("create", &place, source))?;
    let mount = if read_only {
        mount::stack(lower).map_err(|source| Error::file("mount", &place, source))?
    } else {
        work.make(&number.to_string(), 0o700)?;
        let upper = work.make(&format!("{number}/upper"), 0o755)?;
        let scratch = work.make(&format!("{number}/work"), 0o700)?;
        let overlay = WritableOverlay { lower, upper: &upper, work: &scratch, volatile: true };
        overlay.mount().map_err(failed("mount", &place))?
    };
    // It must have a place: before Linux 6.15 nothing of a mount without one can be bound.
    attach(&mount, &place).map_err(failed("mount", &place))?;
    Directory::open(&place).map_err(|source| Error::file("open", &place, source))
}

/// Binds what is at this path inside a tree to a place that is made for it.
fn part(tree: &Directory, path: &str, place: &Path) -> Result<(), NoPart> {
    let relative = Path::new(path.trim_start_matches('/'));
    let found = tree.handle(relative).map_err(NoPart::Missing)?;
    let status = rustix::fs::fstat(&found).map_err(|errno| NoPart::Missing(errno.into()))?;
    let made = match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => std::fs::create_dir(place),
        FileType::RegularFile => File::create_new(place).map(drop),
        _ => return Err(NoPart::Kind),
    };
    made.map_err(NoPart::Place)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(&found, "", flags).map_err(|errno| NoPart::Place(errno.into()))?;
    attach(&mount, place).map_err(|errno| NoPart::Place(errno.into()))
}

/// Why a part of a tree cannot be mounted.
enum NoPart {
    /// It is not there.
    Missing(io::Error),
    /// It is neither a folder nor a file.
    Kind,
    /// It cannot be bound.
    Place(io::Error),
}

impl NoPart {
    fn of_mount(self, target: &str, path: &str) -> Error {
        match self {
            Self::Missing(source) => Error::MountSource { target: target.to_owned(), path: path.to_owned(), source },
            Self::Kind => {
                Error::invalid(format!("mount {target}: {path:?} of its source is neither a folder nor a file"))
            }
            Self::Place(source) => Error::System { action: "bind the source of a mount", source },
        }
    }
}

fn secret(place: &Path, mut contents: impl Read, mode: u32, owner: (u32, u32)) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(place, flags, Mode::RUSR | Mode::WUSR).map_err(failed("create", place))?;
    let mut file = File::from(file);
    io::copy(&mut contents, &mut file).map_err(|source| Error::file("write", place, source))?;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(failed("set the owner of", place))?;
    let mode = Mode::from_raw_mode(mode & 0o7777);
    rustix::fs::fchmod(&file, mode).map_err(failed("set the mode of", place))
}
