//! From a tree of files to an archive: what a container changed as a layer, or all that it sees.
//!
//! The tree is hostile: names are taken from open directories, never resolved. The archive depends on the tree
//! only: members in the order of their names' bytes, each folder before what is in it.

use super::tree::{DEPTH, EntryError, PATH};
use super::whiteout::OPAQUE;
use crate::error::{Error, Result, is_full};
use crate::tar::{Kind, Member, Time, Writer};
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use tare_sys::directory::{Directory, Metadata};

/// A tree, and what it lies over.
pub struct Tree<'a> {
    /// The upper directory of an overlay, or any tree.
    pub upper: &'a Directory,
    /// What lies below an upper directory; none for a tree that is whole by itself.
    pub lower: Option<&'a Directory>,
    /// Paths without leading slash that are left out with all below them.
    pub skip: &'a dyn Fn(&[u8]) -> bool,
    /// The latest time that a member of an archive carries: later ones become this one, so that what was made just now looks
    /// the same whenever it is made.
    pub latest: Option<Time>,
}

/// Names that whiteouts hide in lower layers, by the path of their folder without leading slash.
pub type Hidden = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// In place of a name: all of the folder.
pub const HIDE_ALL: &[u8] = b".wh..opq";

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is another one, or has other metadata; of a folder also: something below it changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// A path that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Without leading slash.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

impl Tree<'_> {
    /// What differs from the tree below, as Docker's `diff` has it, sorted by path.
    ///
    /// # Errors
    /// [`Error::Tree`].
    pub fn changes(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        // For each open folder: where its own entry would stand, and whether it is there.
        let mut open: Vec<(usize, bool)> = Vec::new();
        self.walk(&mut |step, path| {
            let mut push = |kind| changes.push(Change { path: path.to_vec(), kind });
            match step {
                Step::Enter { change, .. } => {
                    open.push((changes.len(), change.is_some()));
                    change.into_iter().for_each(|kind| changes.push(Change { path: path.to_vec(), kind }));
                }
                Step::Leave => {
                    let (at, told) = open.pop().unwrap_or_default();
                    if !told && changes.len() > at {
                        changes.insert(at, Change { path: path.to_vec(), kind: ChangeKind::Modified });
                    }
                }
                Step::Node { change, .. } => change.into_iter().for_each(push),
                Step::Gone { hidden: true, .. } => push(ChangeKind::Deleted),
                Step::Gone { hidden: false, .. } => {}
            }
            Ok(())
        })?;
        Ok(changes)
    }

    /// Writes the tree as the members of an archive, whiteouts in their form in layers. Folders of the tree below in
    /// which nothing changed are left out. Returns how many members were written.
    ///
    /// # Errors
    /// [`Error::Tree`], [`Error::Output`], [`Error::NoSpace`].
    pub fn write<W: Write>(&self, writer: &mut Writer<W>) -> Result<u64> {
        self.write_hiding(&Hidden::new(), writer)
    }

    /// Writes the tree like [`Tree::write`], with more whiteouts: each right after its folder.
    ///
    /// # Errors
    /// As [`Tree::write`].
    pub fn write_hiding<W: Write>(&self, hidden: &Hidden, writer: &mut Writer<W>) -> Result<u64> {
        let (waiting, linked) = (Vec::new(), BTreeMap::new());
        let mut archive = Archive { writer, latest: self.latest, waiting, written: 0, linked };
        // Before what else is in the folder, as the image specification's `layer.md` asks for.
        let hide = |archive: &mut Archive<'_, W>, path: &[u8]| {
            hidden.get(path).into_iter().flatten().try_for_each(|name| archive.whiteout(path, name))
        };
        hide(&mut archive, b"")?;
        self.walk(&mut |step, path| match step {
            Step::Enter { folder, metadata, change, opaque } => {
                let attributes = attributes(folder.own_attributes(), path)?;
                archive.waiting.push(archive.member(path, metadata, Kind::Directory, attributes));
                if change.is_some() {
                    archive.flush()?;
                }
                if opaque {
                    archive.whiteout(path, HIDE_ALL)?;
                }
                hide(&mut archive, path)
            }
            Step::Leave => {
                // What still waits has nothing in it; what does not has been written.
                if archive.waiting.last().is_some_and(|folder| folder.path == path) {
                    archive.waiting.pop();
                }
                Ok(())
            }
            Step::Node { parent, name, metadata, .. } => {
                archive.node(parent, name, path, &metadata, self.lower.is_some())
            }
            Step::Gone { marked: false, .. } => Ok(()),
            Step::Gone { .. } => {
                let (folder, name) = split(path);
                archive.whiteout(folder, name)
            }
        })?;
        Ok(archive.written)
    }

    fn walk(&self, visit: Visit<'_>) -> Result<()> {
        self.folder(&Place { upper: self.upper, lower: self.lower, opaque: false, depth: 1 }, &mut Vec::new(), visit)
    }

    fn folder(&self, place: &Place<'_>, path: &mut Vec<u8>, visit: Visit<'_>) -> Result<()> {
        let Place { upper, lower, opaque, depth } = *place;
        let length = path.len();
        let failed = |action| {
            let path = path.clone();
            move |source| failure(&path, EntryError::Io { action, source })
        };
        let mut names = upper.names().map_err(failed("list the folder"))?;
        if opaque && let Some(lower) = lower {
            // What the folder hides is gone unless it is there again.
            let hidden = lower.names().map_err(failed("list the folder below"))?;
            names.extend(hidden);
        }
        names.sort();
        names.dedup();
        for name in names {
            path.truncate(length);
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            if (self.skip)(path) {
                continue;
            }
            if path.len() > PATH || depth > DEPTH {
                return Err(failure(path, EntryError::PathLimit { length: path.len(), depth }));
            }
            self.name(place, &name, path, visit)?;
        }
        path.truncate(length);
        Ok(())
    }

    fn name(&self, place: &Place<'_>, name: &OsStr, path: &mut Vec<u8>, visit: Visit<'_>) -> Result<()> {
        let Place { upper, lower, depth, .. } = *place;
        let failed = |action| {
            let path = path.clone();
            move |source| failure(&path, EntryError::Io { action, source })
        };
        let below = match lower {
            Some(lower) => lower.metadata(name).map_err(failed("inspect what lies below"))?,
            None => None,
        };
        let Some(metadata) = upper.metadata(name).map_err(failed("inspect it"))? else {
            // Gone since the folder was listed, or hidden by an opaque folder, which says it for all.
            return if below.is_some() && place.opaque {
                visit(Step::Gone { hidden: true, marked: false }, path)
            } else {
                Ok(())
            };
        };
        if self.lower.is_some() && is_whiteout(&metadata) {
            return visit(Step::Gone { hidden: below.is_some(), marked: true }, path);
        }
        let change = match &below {
            None => Some(ChangeKind::Added),
            Some(below) if differs(below, &metadata) => Some(ChangeKind::Modified),
            Some(_) => None,
        };
        if metadata.file_type != FileType::Directory {
            return visit(Step::Node { parent: upper, name, metadata, change }, path);
        }
        let folder = match upper.child(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(failed("open it"))?,
        };
        let is_folder = below.is_some_and(|below| below.file_type == FileType::Directory);
        let lower = match lower.filter(|_| is_folder) {
            Some(lower) => Some(lower.child(name).map_err(failed("open what lies below"))?),
            None => None,
        };
        let marks = if self.lower.is_some() { marks(&folder, path)? } else { false };
        visit(Step::Enter { folder: &folder, metadata: &metadata, change, opaque: marks }, path)?;
        let inner = Place { upper: &folder, lower: lower.as_ref(), opaque: marks, depth: depth + 1 };
        self.folder(&inner, path, visit)?;
        visit(Step::Leave, path)
    }
}

/// A folder that is being walked.
struct Place<'a> {
    upper: &'a Directory,
    lower: Option<&'a Directory>,
    opaque: bool,
    depth: usize,
}

type Visit<'a> = &'a mut dyn FnMut(Step<'_>, &[u8]) -> Result<()>;

/// What the walk comes by.
enum Step<'a> {
    Enter {
        folder: &'a Directory,
        metadata: &'a Metadata,
        change: Option<ChangeKind>,
        opaque: bool,
    },
    Leave,
    Node {
        parent: &'a Directory,
        name: &'a OsStr,
        metadata: Metadata,
        change: Option<ChangeKind>,
    },
    /// Nothing is there any more: whether something was, and whether a whiteout of its own says so.
    Gone {
        hidden: bool,
        marked: bool,
    },
}

/// The archive in the making.
struct Archive<'a, W> {
    writer: &'a mut Writer<W>,
    latest: Option<Time>,
    /// Folders, the outer ones first, that are written when there is something in them.
    waiting: Vec<Member>,
    written: u64,
    /// The first name of each file that has several.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Archive<'_, W> {
    fn flush(&mut self) -> Result<()> {
        for folder in std::mem::take(&mut self.waiting) {
            self.append(&folder)?;
        }
        Ok(())
    }

    fn member(&self, path: &[u8], metadata: &Metadata, kind: Kind, attributes: BTreeMap<Vec<u8>, Vec<u8>>) -> Member {
        let mtime = Time { seconds: metadata.mtime.0, nanoseconds: metadata.mtime.1 };
        Member {
            path: path.to_vec(),
            kind,
            link: Vec::new(),
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: self.latest.map_or(mtime, |latest| mtime.min(latest)),
            size: 0,
            device: (0, 0),
            attributes,
        }
    }

    fn append(&mut self, member: &Member) -> Result<()> {
        self.written += 1;
        self.writer.append(member, &mut io::empty()).map_err(output)
    }

    fn whiteout(&mut self, folder: &[u8], name: &[u8]) -> Result<()> {
        self.flush()?;
        let mut path = folder.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(b".wh.");
        path.extend_from_slice(name);
        let empty = Metadata {
            file_type: FileType::RegularFile,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            ctime: (0, 0),
            device: (0, 0),
            identity: (0, 0),
            links: 1,
        };
        let empty = self.member(&path, &empty, Kind::File, BTreeMap::new());
        self.append(&empty)
    }

    fn node(
        &mut self,
        parent: &Directory,
        name: &OsStr,
        path: &[u8],
        metadata: &Metadata,
        is_layer: bool,
    ) -> Result<()> {
        let failed = |action| move |source| failure(path, EntryError::Io { action, source });
        if is_layer && name.as_bytes().starts_with(b".wh.") {
            return Err(failure(path, EntryError::Reserved));
        }
        let kind = match metadata.file_type {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // A socket's file means nothing without who listens; archives have none.
            _ => return Ok(()),
        };
        self.flush()?;
        if kind == Kind::File && metadata.links > 1 {
            if let Some(first) = self.linked.get(&metadata.identity) {
                let link = first.clone();
                let link = Member { link, ..self.member(path, metadata, Kind::HardLink, BTreeMap::new()) };
                return self.append(&link);
            }
            self.linked.insert(metadata.identity, path.to_vec());
        }
        let attributes = attributes(parent.attributes(name), path)?;
        let mut member = self.member(path, metadata, kind, attributes);
        match kind {
            Kind::File => {
                let file = parent.child_file(name).map_err(failed("open it"))?;
                // Its size when it was opened counts; a file that shrinks meanwhile ends with zeros.
                member.size = file.metadata().map_err(failed("inspect it"))?.len();
                self.written += 1;
                self.writer.append_file(&member, &file).map_err(output)
            }
            Kind::Symlink => {
                member.link = parent.read_link(name).map_err(failed("read the link"))?.as_bytes().to_vec();
                self.append(&member)
            }
            _ => {
                member.device = metadata.device;
                self.append(&member)
            }
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// overlayfs' mark of a name that is gone: a character device 0/0.
fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type == FileType::CharacterDevice && metadata.device == (0, 0)
}

/// Whether the folder hides what lies below it. What overlayfs keeps elsewhere cannot be archived from here; without
/// its options `redirect_dir` and `metacopy` it does not.
fn marks(folder: &Directory, path: &[u8]) -> Result<bool> {
    let attributes = folder.own_attributes();
    let attributes =
        attributes.map_err(|source| failure(path, EntryError::Io { action: "read its attributes", source }))?;
    if attributes.iter().any(|(name, _)| name == "trusted.overlay.redirect") {
        return Err(failure(path, EntryError::Redirected));
    }
    Ok(attributes.iter().any(|(name, value)| name == OPAQUE && value == b"y"))
}

/// The attributes that an archive gets: none of overlayfs' own, no labels of this machine.
fn attributes(found: io::Result<Vec<(OsString, Vec<u8>)>>, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let found = found.map_err(|source| failure(path, EntryError::Io { action: "read its attributes", source }))?;
    let mut kept = BTreeMap::new();
    for (name, value) in found {
        let name = name.as_bytes();
        if name == b"trusted.overlay.metacopy" {
            return Err(failure(path, EntryError::Redirected));
        }
        if !name.starts_with(b"trusted.overlay.") && name != b"security.selinux" {
            kept.insert(name.to_vec(), value);
        }
    }
    Ok(kept)
}

/// Whether two files of one name differ, as Docker compares them: of folders neither size nor time count.
fn differs(a: &Metadata, b: &Metadata) -> bool {
    let is_folder = a.file_type == FileType::Directory;
    a.file_type != b.file_type
        || (a.mode, a.uid, a.gid, a.device) != (b.mode, b.uid, b.gid, b.device)
        || (!is_folder && (a.size, a.mtime) != (b.size, b.mtime))
}

fn failure(path: &[u8], source: EntryError) -> Error {
    Error::Tree { path: String::from_utf8_lossy(path).chars().take(200).collect(), source }
}

pub(crate) fn output(source: io::Error) -> Error {
    if is_full(&source) {
        return Error::NoSpace { what: "the archive".to_owned(), path: "the output's folder".into(), source };
    }
    Error::Output { source }
}
