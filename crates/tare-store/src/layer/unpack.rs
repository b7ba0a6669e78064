//! Entries of an archive to files below one directory.
//!
//! The archive is hostile. Parents are resolved by the kernel inside the target, links included; the last
//! component is created, never followed. What several entries make of one name is decided as containerd does:
//! the later one wins, two directories merge. Layers are unpacked each by itself, so that one tree serves every
//! image that has the layer; a hard link can therefore only name a file of its own layer, which is all that the
//! specification allows (`layer.md`: a layer's changeset is an archive of its own).

use super::whiteout::{self, Meaning};
use crate::error::is_full;
use crate::tar::{Entry, Kind, Reader, TarError, Time};
use rustix::fs::{FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use tare_spec::ErrorKind;
use tare_sys::directory::{Directory, device_number};

/// Deeper trees than any real one: removing and syncing them must stay cheap.
const DEPTH: usize = 256;
/// `PATH_MAX` less the closing NUL.
const PATH: usize = 4095;

/// Why an entry is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Its path goes up.
    #[error("its path contains \"..\"")]
    Climbs,
    /// Its path is longer or deeper than any real one.
    #[error("its path has {length} bytes and {depth} components, at most {PATH} and {DEPTH} are taken")]
    PathLimit {
        /// Bytes of the path.
        length: usize,
        /// Its components.
        depth: usize,
    },
    /// The archive's root is something else than a directory.
    #[error("the root of a layer is a directory")]
    Root,
    /// One of its parents is no directory.
    #[error("its parent {parent:?} is not a directory")]
    Parent {
        /// The parent.
        parent: String,
    },
    /// A hard link to something that is not in this layer.
    #[error("hard link to {target:?}, which is not a file of this layer")]
    HardLink {
        /// The target as written.
        target: String,
    },
    /// A whiteout of no name.
    #[error("malformed whiteout")]
    Whiteout,
    /// A system call failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl EntryError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Climbs
            | Self::PathLimit { .. }
            | Self::Root
            | Self::Parent { .. }
            | Self::HardLink { .. }
            | Self::Whiteout => ErrorKind::InvalidParameter,
            Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

/// Why unpacking stopped.
pub(super) enum Failure {
    Archive(TarError),
    Entry { path: String, source: EntryError },
    Entries,
    Full(io::Error),
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes in files.
    pub(crate) size: u64,
}

/// The unpacking of one layer.
pub(super) struct Unpacker<'a> {
    root: &'a Directory,
    limit: u64,
    done: Unpacked,
    /// The directory of the previous entry: most entries share it with the next.
    parent: Option<(Vec<u8>, Rc<Directory>)>,
    /// Directories' times, set at the end because every entry changes its parent's.
    times: Vec<(Vec<u8>, Time)>,
    buffer: Vec<u8>,
}

type Outcome<T> = Result<T, EntryError>;

impl<'a> Unpacker<'a> {
    pub(super) fn new(root: &'a Directory, limit: u64) -> Self {
        Self { root, limit, done: Unpacked::default(), parent: None, times: Vec::new(), buffer: vec![0; 256 * 1024] }
    }

    pub(super) fn run<R: Read>(mut self, reader: &mut Reader<R>) -> Result<Unpacked, Failure> {
        while let Some(entry) = reader.next_entry().map_err(Failure::Archive)? {
            if self.done.entries == self.limit {
                return Err(Failure::Entries);
            }
            self.done.entries += 1;
            let contents = self.entry(&entry).map_err(|error| failure(&entry, error))?;
            if let Some(file) = contents {
                self.contents(&entry, file, reader)?;
            }
        }
        self.parent = None;
        for (path, time) in std::mem::take(&mut self.times) {
            let set = self.finished(&path).and_then(|directory| match directory {
                Some(directory) => directory.set_own_times(&timestamps(time)).map_err(io_error("set the times")),
                None => Ok(()),
            });
            set.map_err(|error| failure_at(&path, error))?;
        }
        Ok(self.done)
    }

    /// The directory that an entry made, unless a later one put something else in its place.
    fn finished(&self, path: &[u8]) -> Outcome<Option<Directory>> {
        let components = components(path)?;
        let Some((name, folders)) = components.split_last() else { return self.resolve(b".") };
        let Some(parent) = self.resolve(&folders.join(&b'/'))? else { return Ok(None) };
        match parent.find(OsStr::from_bytes(name)).map_err(io_error("inspect the directory"))? {
            Some(found) if found.file_type == FileType::Directory => {
                parent.child(OsStr::from_bytes(name)).map(Some).map_err(io_error("open the directory"))
            }
            _ => Ok(None),
        }
    }

    /// Creates everything but a file's contents and what must follow them.
    fn entry(&mut self, entry: &Entry) -> Outcome<Option<File>> {
        let components = components(&entry.path)?;
        match whiteout::meaning(&components) {
            Meaning::Plain => {}
            Meaning::Ignored => return Ok(None),
            Meaning::Malformed => return Err(EntryError::Whiteout),
            Meaning::Opaque => {
                let parent = self.parent(&components[..components.len() - 1])?;
                return set_opaque(&parent).map(|()| None);
            }
            Meaning::Whiteout(name) => {
                let parent = self.parent(&components[..components.len() - 1])?;
                return hide(&parent, OsStr::from_bytes(name)).map(|()| None);
            }
        }
        let Some((name, folders)) = components.split_last() else {
            if entry.kind != Kind::Directory {
                return Err(EntryError::Root);
            }
            self.directory(self.root, entry)?;
            return Ok(None);
        };
        let name = OsStr::from_bytes(name);
        let parent = self.parent(folders)?;
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, &components, &parent, name).map(|()| None);
        }
        let replaced = self.make_room(&parent, name, entry.kind)?;
        match entry.kind {
            Kind::File => {
                return parent.create_file(name).map(Some).map_err(io_error("create the file"));
            }
            Kind::Directory => {
                if replaced != Replaced::Directory {
                    parent.create_directory(name, 0o700).map_err(io_error("create the directory"))?;
                }
                let directory = parent.child(name).map_err(io_error("open the directory"))?;
                if replaced == Replaced::Whiteout {
                    set_opaque(&directory)?;
                }
                self.directory(&directory, entry)?;
            }
            Kind::Symlink => {
                parent
                    .create_symlink(name, OsStr::from_bytes(&entry.link))
                    .map_err(io_error("create the symbolic link"))?;
                set_metadata(&parent, name, entry)?;
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                let (file_type, device) = match entry.kind {
                    Kind::CharacterDevice => (FileType::CharacterDevice, entry.device),
                    Kind::BlockDevice => (FileType::BlockDevice, entry.device),
                    _ => (FileType::Fifo, (0, 0)),
                };
                parent
                    .create_node(name, file_type, device_number(device.0, device.1))
                    .map_err(io_error("create the device or FIFO"))?;
                set_metadata(&parent, name, entry)?;
            }
            Kind::HardLink => {} // done above
        }
        Ok(None)
    }

    fn contents<R: Read>(&mut self, entry: &Entry, mut file: File, reader: &mut Reader<R>) -> Result<(), Failure> {
        let fail = |action| move |source| failure(entry, EntryError::Io { action, source });
        loop {
            match reader.read(&mut self.buffer).map_err(Failure::Archive)? {
                0 => break,
                count => file.write_all(&self.buffer[..count]).map_err(fail("write the file"))?,
            }
        }
        self.done.size += entry.size;
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        // Changing the owner takes away setuid and capabilities: it comes first.
        rustix::fs::fchown(&file, Some(owner.0), Some(owner.1))
            .map_err(io::Error::from)
            .map_err(fail("set the owner"))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
            .map_err(io::Error::from)
            .map_err(fail("set the mode"))?;
        attributes(&entry.attributes, |name, value| {
            Ok(rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())?)
        })
        .map_err(|error| failure(entry, error))?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(io::Error::from).map_err(fail("set the times"))
    }

    fn directory(&mut self, directory: &Directory, entry: &Entry) -> Outcome<()> {
        directory
            .set_own(entry.uid, entry.gid, entry.mode)
            .map_err(io_error("set the owner and mode of the directory"))?;
        attributes(&entry.attributes, |name, value| directory.set_own_attribute(name, value))?;
        self.times.push((entry.path.clone(), entry.mtime));
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &[&[u8]], parent: &Directory, name: &OsStr) -> Outcome<()> {
        let missing = || EntryError::HardLink { target: shown(&entry.link) };
        let target = components(&entry.link)?;
        if target == path {
            return Ok(());
        }
        let (source, folders) = target.split_last().ok_or_else(missing)?;
        let source = OsStr::from_bytes(source);
        let folder =
            self.root.resolve(Path::new(OsStr::from_bytes(&folders.join(&b'/')))).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(),
                    _ => EntryError::Io { action: "open the folder of the hard link's target", source: error },
                }
            })?;
        match folder.find(source).map_err(io_error("find the hard link's target"))? {
            Some(found) if found.file_type != FileType::Directory => {}
            _ => return Err(missing()),
        }
        self.make_room(parent, name, entry.kind)?;
        parent.create_hard_link(name, &folder, source).map_err(io_error("create the hard link"))
    }

    /// Removes what stands in the way of a new entry.
    fn make_room(&mut self, parent: &Directory, name: &OsStr, kind: Kind) -> Outcome<Replaced> {
        let Some(found) = parent.find(name).map_err(io_error("inspect what the entry replaces"))? else {
            return Ok(Replaced::Nothing);
        };
        if found.file_type == FileType::Directory && kind == Kind::Directory {
            return Ok(Replaced::Directory);
        }
        self.parent = None;
        parent.remove(name).map_err(io_error("remove what the entry replaces"))?;
        let whiteout = found.file_type == FileType::CharacterDevice && found.device == 0;
        Ok(if whiteout { Replaced::Whiteout } else { Replaced::Nothing })
    }

    /// Opens the directory that an entry lies in, and makes what of it is missing.
    fn parent(&mut self, folders: &[&[u8]]) -> Outcome<Rc<Directory>> {
        let path = folders.join(&b'/');
        if let Some((cached, directory)) = &self.parent
            && *cached == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.resolve(&path)? {
            Some(directory) => directory,
            None => self.make_parents(folders)?,
        };
        let directory = Rc::new(directory);
        self.parent = Some((path, Rc::clone(&directory)));
        Ok(directory)
    }

    fn make_parents(&self, folders: &[&[u8]]) -> Outcome<Directory> {
        let mut at = self.root.resolve(Path::new(".")).map_err(io_error("open the layer's root"))?;
        for (index, name) in folders.iter().enumerate() {
            let path = folders[..=index].join(&b'/');
            if let Some(directory) = self.resolve(&path)? {
                at = directory;
                continue;
            }
            let name = OsStr::from_bytes(name);
            let whiteout = match at.find(name).map_err(io_error("inspect a parent"))? {
                None => false,
                Some(found) if found.file_type == FileType::CharacterDevice && found.device == 0 => true,
                Some(_) => return Err(EntryError::Parent { parent: shown(&path) }),
            };
            if whiteout {
                at.remove(name).map_err(io_error("remove a whiteout"))?;
            }
            at.create_directory(name, 0o755).map_err(io_error("create a parent"))?;
            let directory = at.child(name).map_err(io_error("open a parent"))?;
            directory.set_own(0, 0, 0o755).map_err(io_error("set the mode of a parent"))?;
            if whiteout {
                set_opaque(&directory)?;
            }
            at = directory;
        }
        Ok(at)
    }

    /// A directory inside the layer, or `None` when the path leads nowhere or to something else.
    fn resolve(&self, path: &[u8]) -> Outcome<Option<Directory>> {
        match self.root.resolve(Path::new(OsStr::from_bytes(path))) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(EntryError::Io { action: "open its parent", source }),
        }
    }
}

/// What an entry took the place of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    Nothing,
    Directory,
    Whiteout,
}

/// Hides a name of the lower layers. What this layer itself has under that name stays (`layer.md`: whiteouts
/// apply to lower layers only): a directory then starts afresh, anything else hides by being there.
fn hide(parent: &Directory, name: &OsStr) -> Outcome<()> {
    match parent.find(name).map_err(io_error("inspect what the whiteout names"))? {
        None => parent.create_node(name, FileType::CharacterDevice, 0).map_err(io_error("create the whiteout")),
        Some(found) if found.file_type == FileType::Directory => {
            set_opaque(&parent.child(name).map_err(io_error("open the directory"))?)
        }
        Some(_) => Ok(()),
    }
}

fn set_opaque(directory: &Directory) -> Outcome<()> {
    directory.set_own_attribute(OsStr::new(whiteout::OPAQUE), b"y").map_err(io_error("make the directory opaque"))
}

/// Owner, mode, attributes and times of what is neither a file nor a directory.
fn set_metadata(parent: &Directory, name: &OsStr, entry: &Entry) -> Outcome<()> {
    parent.set_owner(name, entry.uid, entry.gid).map_err(io_error("set the owner"))?;
    if entry.kind != Kind::Symlink {
        parent.set_mode(name, entry.mode).map_err(io_error("set the mode"))?;
    }
    attributes(&entry.attributes, |attribute, value| parent.set_attribute(name, attribute, value))?;
    parent.set_times(name, &timestamps(entry.mtime)).map_err(io_error("set the times"))
}

fn attributes(attributes: &BTreeMap<Vec<u8>, Vec<u8>>, set: impl Fn(&OsStr, &[u8]) -> io::Result<()>) -> Outcome<()> {
    for (name, value) in attributes {
        if whiteout::is_foreign_attribute(name) {
            continue;
        }
        match set(OsStr::from_bytes(name), value) {
            // A file system without such attributes: other engines go on as well, but a program that silently
            // lost its capabilities would fail later for no visible reason.
            Err(error)
                if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) && name != b"security.capability" => {}
            result => result.map_err(io_error("set an extended attribute"))?,
        }
    }
    Ok(())
}

/// The components of a path without empty ones and `.`; absolute paths count from the layer's root.
fn components(path: &[u8]) -> Outcome<Vec<&[u8]>> {
    let components: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if components.contains(&&b".."[..]) {
        return Err(EntryError::Climbs);
    }
    if path.len() > PATH || components.len() > DEPTH {
        return Err(EntryError::PathLimit { length: path.len(), depth: components.len() });
    }
    Ok(components)
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> EntryError {
    move |source| EntryError::Io { action, source }
}

fn failure(entry: &Entry, error: EntryError) -> Failure {
    failure_at(&entry.path, error)
}

fn failure_at(path: &[u8], error: EntryError) -> Failure {
    match error {
        EntryError::Io { source, .. } if is_full(&source) => Failure::Full(source),
        source => Failure::Entry { path: shown(path), source },
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}
