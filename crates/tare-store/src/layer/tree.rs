//! What the entries of an archive make of a tree, whatever the tree is made of: files on a disk or an index in memory.
//!
//! The archive is hostile. Parents are resolved inside the tree, links included; the last component is created, never
//! followed. What several entries make of one name is decided as containerd does: the later one wins, two directories
//! merge. Layers stand by themselves, so that one tree serves every image that has the layer; a hard link can therefore
//! only name a file of its own layer, which is all that the specification allows (`layer.md`: a layer's changeset is an
//! archive of its own).

use super::whiteout::{self, Meaning};
use super::{Limits, OPAQUE, attributes};
use crate::tar::{Entry, Kind, Reader, TarError, Time};
use std::collections::BTreeMap;
use std::io::{self, BufRead};
use tare_spec::ErrorKind;

/// Deeper trees than any real one: removing and syncing them must stay cheap.
pub(super) const DEPTH: usize = 256;
/// `PATH_MAX` less the closing NUL: of a path and of a symbolic link's target.
pub(crate) const PATH: usize = 4095;
/// `NAME_MAX`.
pub(crate) const NAME: usize = 255;
/// Largest device numbers that a device node holds (`MINORBITS` of the kernel and what is left of 32).
const DEVICE: (u32, u32) = (0xfff, 0xf_ffff);
/// Pieces of equal size that all sparse files of a layer are described in, see [`Pieces`]: 64 GiB in pieces of 4 KiB.
const PIECES: u64 = 1 << 24;
/// What an attribute takes in memory besides its bytes: two allocations and its place in a map. Without it an archive
/// of tiny attributes, which compresses well, would take twenty times the bytes that it is allowed.
const ATTRIBUTE: usize = 128;
/// The most that [`Limits::memory`] can mean: indexes count their text in 32 bits.
const MEMORY: u64 = 1 << 31;

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
    /// A component of its path is longer than any file system's names.
    #[error("its path has a name of {length} bytes, at most {NAME} are taken")]
    NameLimit {
        /// Bytes of the name.
        length: usize,
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
    /// A symbolic link that no kernel would make.
    #[error("symbolic link to a target of {length} bytes: expected 1 to {PATH}")]
    Target {
        /// Bytes of the target.
        length: usize,
    },
    /// A device number that no device node holds.
    #[error("device number {major}:{minor}, at most {}:{} are taken", DEVICE.0, DEVICE.1)]
    Device {
        /// Its first part.
        major: u32,
        /// Its second part.
        minor: u32,
    },
    /// An attribute that no kernel would set.
    #[error("extended attribute {name:?}: {reason}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A sparse file whose holes cannot be described.
    #[error("sparse file {reason}")]
    Sparse {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that a layer cannot have, because its name means something there.
    #[error("its name begins with \".wh.\", which in layers says that a file is gone")]
    Reserved,
    /// A file whose contents overlayfs keeps under another name or in another layer.
    #[error("overlayfs keeps it elsewhere: its options redirect_dir and metacopy must be off")]
    Redirected,
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
            | Self::NameLimit { .. }
            | Self::Root
            | Self::Parent { .. }
            | Self::HardLink { .. }
            | Self::Target { .. }
            | Self::Device { .. }
            | Self::Attribute { .. }
            | Self::Sparse { .. }
            | Self::Reserved
            | Self::Redirected
            | Self::Whiteout => ErrorKind::InvalidParameter,
            Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

pub(crate) type Outcome<T> = Result<T, EntryError>;

/// Why a file's contents were not taken in.
pub(crate) enum Stop {
    Archive(TarError),
    Entry(EntryError),
}

impl From<TarError> for Stop {
    fn from(error: TarError) -> Self {
        Self::Archive(error)
    }
}

impl From<EntryError> for Stop {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

/// Why filling a tree stopped.
pub(crate) enum Failure {
    Archive(TarError),
    Entry { path: String, source: EntryError },
    Bomb { limit: u64, unit: &'static str },
}

/// What the archive held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes in the tree's regular files, each file once whatever names it has.
    pub(crate) size: u64,
}

/// What a name is, without following it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Directory,
    /// A character device 0/0, which overlayfs takes for a hidden name.
    Whiteout,
    Other,
}

/// A tree in the making. Names are single, not `.` or `..`, at most [`NAME`] bytes, without `/` and NUL.
pub(crate) trait Tree {
    /// A directory of the tree, which stays valid until it is removed.
    type Directory: Clone;

    fn root(&mut self) -> Outcome<Self::Directory>;

    /// The directory that a path leads to, symbolic links followed inside the tree; `None` when it leads nowhere or to
    /// something else. An error for what the kernel answers otherwise: too many links, a name too long.
    fn resolve(&mut self, path: &[u8]) -> Outcome<Option<Self::Directory>>;

    /// The directory of this name, which exists.
    fn child(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<Self::Directory>;

    fn find(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<Option<Found>>;

    /// Removes what this name is with everything below it.
    fn remove(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<()>;

    /// Makes a directory, of which [`Tree::describe`] says the rest.
    fn create_directory(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<Self::Directory>;

    /// Owner, mode, attributes and time of the directory at this path; attributes that it has already and the entry has
    /// not stay.
    fn describe(&mut self, directory: &Self::Directory, path: &[u8], entry: &Entry) -> Outcome<()>;

    fn set_opaque(&mut self, directory: &Self::Directory) -> Outcome<()>;

    /// Makes a regular file with the contents that the reader is at.
    fn create_file<R: BufRead>(
        &mut self,
        parent: &Self::Directory,
        name: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), Stop>;

    /// Makes a symbolic link, device or FIFO.
    fn create_node(&mut self, parent: &Self::Directory, name: &[u8], entry: &Entry) -> Outcome<()>;

    /// Another name for `source` in `folder`, which exists and is no directory.
    fn create_hard_link(
        &mut self,
        parent: &Self::Directory,
        name: &[u8],
        folder: &Self::Directory,
        source: &[u8],
    ) -> Outcome<()>;

    /// Whatever must follow the last entry; the path of what failed.
    fn finish(&mut self) -> Result<(), (Vec<u8>, EntryError)>;

    /// Bytes in the tree's regular files; asked for after entries have replaced others.
    fn size(&mut self) -> Outcome<u64>;
}

/// Fills a tree from an archive, up to the archive's end mark.
pub(crate) fn fill<T: Tree, R: BufRead>(
    tree: &mut T,
    reader: &mut Reader<R>,
    limits: &Limits,
) -> Result<Filled, Failure> {
    let memory = limits.memory.min(MEMORY);
    let mut filler =
        Filler { tree, left: limits.entries, memory, pieces: PIECES, size: 0, replaced: false, parent: None };
    let mut entries = 0;
    let root = filler.tree.root().and_then(|root| filler.tree.describe(&root, b"", &implied()));
    root.map_err(|error| failure(b"/", error))?;
    while let Some(mut entry) = reader.next_entry().map_err(Failure::Archive)? {
        entries += 1;
        let path = std::mem::take(&mut entry.path);
        filler.entry(&path, &mut entry, reader).map_err(|halt| match halt {
            Halt::Entries => Failure::Bomb { limit: limits.entries, unit: "entries" },
            Halt::Memory => Failure::Bomb { limit: memory, unit: "bytes of names and attributes" },
            Halt::Stop(Stop::Archive(error)) => Failure::Archive(error),
            Halt::Stop(Stop::Entry(error)) => failure(&path, error),
        })?;
    }
    let (mut size, replaced) = (filler.size, filler.replaced);
    tree.finish().map_err(|(path, error)| failure(&path, error))?;
    if replaced {
        size = tree.size().map_err(|error| failure(b"/", error))?;
    }
    Ok(Filled { entries, size })
}

struct Filler<'a, T: Tree> {
    tree: &'a mut T,
    /// Entries and directories that only occur in their paths.
    left: u64,
    /// Bytes that names, targets, attributes and maps may still take.
    memory: u64,
    pieces: u64,
    size: u64,
    replaced: bool,
    /// The directory of the previous entry: most entries share it with the next.
    parent: Option<(Vec<u8>, T::Directory)>,
}

enum Halt {
    Entries,
    Memory,
    Stop(Stop),
}

impl<E: Into<Stop>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Stop(error.into())
    }
}

impl<T: Tree> Filler<'_, T> {
    fn entry<R: BufRead>(&mut self, path: &[u8], entry: &mut Entry, reader: &mut Reader<R>) -> Result<(), Halt> {
        self.count()?;
        let components = components(path)?;
        match whiteout::meaning(&components) {
            Meaning::Plain => {}
            Meaning::Ignored => return Ok(()),
            Meaning::Malformed => return Err(EntryError::Whiteout.into()),
            Meaning::Opaque => {
                let parent = self.parent(&components[..components.len() - 1])?;
                self.weigh(OPAQUE.len() + ATTRIBUTE)?;
                return Ok(self.tree.set_opaque(&parent)?);
            }
            Meaning::Whiteout(name) => {
                check_name(name)?;
                let parent = self.parent(&components[..components.len() - 1])?;
                self.weigh(name.len() + OPAQUE.len() + ATTRIBUTE)?;
                return Ok(self.hide(&parent, name)?);
            }
        }
        let Some((name, folders)) = components.split_last() else {
            if entry.kind != Kind::Directory {
                return Err(EntryError::Root.into());
            }
            attributes::settle(entry)?;
            self.weigh(weight(path, entry))?;
            let root = self.tree.root()?;
            return Ok(self.tree.describe(&root, path, entry)?);
        };
        check_name(name)?;
        let parent = self.parent(folders)?;
        if entry.kind == Kind::HardLink {
            self.weigh(name.len())?;
            return Ok(self.hard_link(entry, &components, &parent, name)?);
        }
        self.check(entry)?;
        self.weigh(weight(if entry.kind == Kind::Directory { path } else { name }, entry))?;
        let replaced = self.make_room(&parent, name, entry.kind)?;
        match entry.kind {
            Kind::File => {
                self.tree.create_file(&parent, name, entry, reader)?;
                self.size += entry.size;
            }
            Kind::Directory => {
                let directory = match replaced {
                    Some(Found::Directory) => self.tree.child(&parent, name)?,
                    _ => self.tree.create_directory(&parent, name)?,
                };
                if replaced == Some(Found::Whiteout) {
                    self.tree.set_opaque(&directory)?;
                }
                self.tree.describe(&directory, path, entry)?;
            }
            Kind::Symlink | Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                self.tree.create_node(&parent, name, entry)?;
            }
            Kind::HardLink => {} // done above
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Halt> {
        self.left = self.left.checked_sub(1).ok_or(Halt::Entries)?;
        Ok(())
    }

    /// Refuses more than memory should hold, whatever the tree keeps of it.
    fn weigh(&mut self, bytes: usize) -> Result<(), Halt> {
        self.memory = self.memory.checked_sub(bytes as u64).ok_or(Halt::Memory)?;
        Ok(())
    }

    /// Refuses what one backend or another could not make.
    fn check(&mut self, entry: &mut Entry) -> Outcome<()> {
        attributes::settle(entry)?;
        let length = entry.link.len();
        if entry.kind == Kind::Symlink && (length == 0 || length > PATH) {
            return Err(EntryError::Target { length });
        }
        let (major, minor) = entry.device;
        if major > DEVICE.0 || minor > DEVICE.1 {
            return Err(EntryError::Device { major, minor });
        }
        if entry.sparse.is_some() {
            let pieces = Pieces::of(entry).ok_or(EntryError::Sparse { reason: "with holes of broken blocks" })?;
            self.pieces =
                self.pieces.checked_sub(pieces.count).ok_or(EntryError::Sparse { reason: "in too many pieces" })?;
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &[&[u8]], parent: &T::Directory, name: &[u8]) -> Outcome<()> {
        let missing = || EntryError::HardLink { target: shown(&entry.link) };
        let target = components(&entry.link)?;
        if target == path {
            return Ok(());
        }
        let (source, folders) = target.split_last().ok_or_else(missing)?;
        check_name(source)?;
        let folder = self.tree.resolve(&folders.join(&b'/'))?.ok_or_else(missing)?;
        match self.tree.find(&folder, source)? {
            Some(Found::Directory) | None => return Err(missing()),
            Some(_) => {}
        }
        self.make_room(parent, name, entry.kind)?;
        // What made room may have been the target, by another way to its folder.
        self.tree.find(&folder, source)?.ok_or_else(missing)?;
        self.tree.create_hard_link(parent, name, &folder, source)
    }

    /// Removes what stands in the way of a new entry, and says what it was. A directory stays for a directory.
    fn make_room(&mut self, parent: &T::Directory, name: &[u8], kind: Kind) -> Outcome<Option<Found>> {
        let Some(found) = self.tree.find(parent, name)? else { return Ok(None) };
        if found == Found::Directory && kind == Kind::Directory {
            return Ok(Some(found));
        }
        self.parent = None;
        self.replaced = true;
        self.tree.remove(parent, name)?;
        Ok(Some(match found {
            Found::Directory => Found::Other,
            found => found,
        }))
    }

    /// Hides a name of the lower layers. What this layer itself has under that name stays (`layer.md`: whiteouts apply
    /// to lower layers only): a directory then starts afresh, anything else hides by being there.
    fn hide(&mut self, parent: &T::Directory, name: &[u8]) -> Outcome<()> {
        match self.tree.find(parent, name)? {
            None => self.tree.create_node(parent, name, &hidden()),
            Some(Found::Directory) => {
                let directory = self.tree.child(parent, name)?;
                self.tree.set_opaque(&directory)
            }
            Some(_) => Ok(()),
        }
    }

    /// The directory that an entry lies in; what of it is missing is made.
    fn parent(&mut self, folders: &[&[u8]]) -> Result<T::Directory, Halt> {
        let is_cached = |cached: &[u8]| {
            if folders.is_empty() {
                return cached.is_empty();
            }
            let mut names = cached.split(|byte| *byte == b'/');
            folders.iter().all(|folder| names.next() == Some(folder)) && names.next().is_none()
        };
        if let Some((cached, directory)) = &self.parent
            && is_cached(cached)
        {
            return Ok(directory.clone());
        }
        let path = folders.join(&b'/');
        let directory = match self.tree.resolve(&path)? {
            Some(directory) => directory,
            None => self.make_parents(folders)?,
        };
        self.parent = Some((path, directory.clone()));
        Ok(directory)
    }

    fn make_parents(&mut self, folders: &[&[u8]]) -> Result<T::Directory, Halt> {
        let mut at = self.tree.root()?;
        for (index, name) in folders.iter().enumerate() {
            let path = folders[..=index].join(&b'/');
            if let Some(directory) = self.tree.resolve(&path)? {
                at = directory;
                continue;
            }
            check_name(name)?;
            let found = self.tree.find(&at, name)?;
            match found {
                None => {}
                Some(Found::Whiteout) => self.tree.remove(&at, name)?,
                Some(_) => return Err(EntryError::Parent { parent: shown(&path) }.into()),
            }
            self.count()?;
            self.weigh(path.len() + OPAQUE.len() + ATTRIBUTE)?;
            let directory = self.tree.create_directory(&at, name)?;
            self.tree.describe(&directory, &path, &implied())?;
            if found == Some(Found::Whiteout) {
                self.tree.set_opaque(&directory)?;
            }
            at = directory;
        }
        Ok(at)
    }
}

/// A sparse file cut into pieces of one size, each wholly in a run or wholly a hole: what an EROFS image can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// The size is `1 << bits`, 512 bytes or more.
    pub(crate) bits: u32,
    /// How many there are, the last one perhaps cut by the file's end.
    pub(crate) count: u64,
}

impl Pieces {
    /// The largest pieces that fit; `None` when a run begins or ends within a block of the archive, which no archiver
    /// does and nothing could map.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let edges = entry.sparse.iter().flat_map(|segments| segments.iter()).fold(0, |edges, segment| {
            let end = segment.offset + segment.length;
            edges | segment.offset | if end == entry.size { 0 } else { end }
        });
        // The most that the field in an image's inode says: 31 above the block size.
        let bits = edges.trailing_zeros().min(9 + 31);
        (bits >= 9).then(|| Self { bits, count: entry.size.div_ceil(1 << bits) })
    }
}

/// What an entry takes in memory until the tree is done; of directories trees keep the whole path.
fn weight(name: &[u8], entry: &Entry) -> usize {
    let attributes = entry.attributes.iter().map(|(name, value)| name.len() + value.len() + ATTRIBUTE);
    let map = entry.sparse.as_deref().map_or(0, size_of_val);
    name.len() + entry.link.len() + attributes.sum::<usize>() + map
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

fn check_name(name: &[u8]) -> Outcome<()> {
    if name.len() > NAME { Err(EntryError::NameLimit { length: name.len() }) } else { Ok(()) }
}

/// A directory that only occurs in paths of other entries. Its time is fixed, so that a layer is the same tree
/// wherever and whenever it is taken in.
fn implied() -> Entry {
    Entry {
        path: Vec::new(),
        kind: Kind::Directory,
        link: Vec::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size: 0,
        sparse: None,
        device: (0, 0),
        attributes: BTreeMap::new(),
    }
}

/// What overlayfs takes for a hidden name.
fn hidden() -> Entry {
    Entry { kind: Kind::CharacterDevice, mode: 0, ..implied() }
}

fn failure(path: &[u8], source: EntryError) -> Failure {
    Failure::Entry { path: shown(path), source }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}
