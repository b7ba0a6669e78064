//! Walks through what is below a folder that is copied: what ignore files, `--exclude` and `--parents` leave of it.

use super::error::{FilesError, changed_or, io_error, shown};
use super::fingerprint::FileStamp;
use super::ignore::{Above, Ignore};
use super::pattern::Scratch;
use super::resolve::{PATH, push};
use super::select::Entry;
use super::{Source, SourceKind};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use tare_store::tar::{Kind, Time};
use tare_sys::directory::{Directory, Metadata};

/// What one step may copy: as much as one layer may have.
pub(super) const ENTRIES: usize = 4_000_000;
/// How deep a source may be; layers take 256.
const DEPTH: usize = 255;

/// A walk through what is below a folder.
pub(super) struct Walk<'w> {
    filter: Filter<'w>,
    scratch: &'w mut Scratch,
    left: &'w mut usize,
    /// From the source's root.
    path: Vec<u8>,
    /// Where in `path` what is below the item begins.
    below: usize,
    /// The folders on the way, of which some may turn out not to be meant.
    open: Vec<Open>,
    /// What is found.
    pub(super) entries: Vec<Entry>,
    /// Whether the folder itself is there.
    pub(super) is_alive: bool,
}

/// What says which files are meant.
#[derive(Clone, Copy)]
pub(super) struct Filter<'w> {
    pub(super) source: &'w Source<'w>,
    /// `--exclude`.
    pub(super) exclude: &'w Ignore,
    /// `--parents`: only what this one matches.
    pub(super) include: Option<&'w Ignore>,
}

/// A folder on the way.
struct Open {
    /// Taken when it goes to the entries.
    entry: Option<Entry>,
    /// Whether it is there: not left out, or something in it is not.
    is_alive: bool,
    /// Whether it is meant itself, if it is there.
    is_meant: bool,
}

/// What the rules say of a folder.
#[derive(Clone, Default)]
struct Rules {
    ignore: Above,
    exclude: Above,
    include: Above,
}

impl<'w> Walk<'w> {
    /// `left` is how many entries may be found.
    pub(super) fn new(filter: Filter<'w>, path: &[u8], scratch: &'w mut Scratch, left: &'w mut usize) -> Self {
        let below = if path.is_empty() { 0 } else { path.len() + 1 };
        let (path, open, entries) = (path.to_vec(), Vec::new(), Vec::new());
        Self { filter, scratch, left, path, below, open, entries, is_alive: false }
    }

    pub(super) fn run(&mut self, folder: &Directory) -> Result<(), FilesError> {
        let mut rules = Rules {
            ignore: Above::default(),
            exclude: self.filter.exclude.root(),
            include: self.filter.include.map(Ignore::root).unwrap_or_default(),
        };
        self.is_alive = true;
        if let Some(ignore) = self.filter.source.ignore {
            let (verdict, above) = ignore.above(&self.path, self.scratch);
            self.is_alive = !verdict.ignored;
            rules.ignore = above;
            if verdict.ignored && !ignore.has_exception_below(&self.path, verdict, self.scratch) {
                return Ok(());
            }
        }
        self.folder(folder, &rules)
    }

    fn folder(&mut self, folder: &Directory, rules: &Rules) -> Result<(), FilesError> {
        let mut names = folder.names().map_err(io_error("list", &self.path))?;
        names.sort_unstable();
        let length = self.path.len();
        for name in names {
            self.path.truncate(length);
            push(&mut self.path, name.as_bytes());
            if self.path.len() > PATH || self.open.len() > DEPTH {
                let (length, depth) = (self.path.len(), self.open.len());
                return Err(FilesError::TooDeep { path: shown(&self.path), length, depth });
            }
            self.name(folder, &name, rules)?;
        }
        self.path.truncate(length);
        Ok(())
    }

    fn name(&mut self, folder: &Directory, name: &OsStr, rules: &Rules) -> Result<(), FilesError> {
        let below = &self.path[self.below..];
        let mut inner = Rules::default();
        let (mut is_there, mut is_meant, mut look_inside) = (true, true, true);
        if let Some(ignore) = self.filter.source.ignore {
            let (verdict, above) = ignore.enter(&rules.ignore, &self.path, self.scratch);
            inner.ignore = above;
            is_there = !verdict.ignored;
            look_inside = is_there || ignore.has_exception_below(&self.path, verdict, self.scratch);
        }
        if !look_inside {
            return Ok(());
        }
        if !self.filter.exclude.rules().is_empty() {
            let (verdict, above) = self.filter.exclude.enter(&rules.exclude, below, self.scratch);
            inner.exclude = above;
            if verdict.ignored {
                is_meant = false;
                look_inside = self.filter.exclude.has_exception_below(below, verdict, self.scratch);
            }
        }
        if let Some(include) = self.filter.include {
            let (verdict, above) = include.enter(&rules.include, below, self.scratch);
            inner.include = above;
            if !verdict.ignored {
                is_meant = false;
                look_inside &= include.can_match_below(below, self.scratch);
            }
        }
        if !is_meant && !look_inside && self.is_settled() {
            return Ok(());
        }
        let Some(metadata) = folder.metadata(name).map_err(io_error("inspect", &self.path))? else {
            return Ok(()); // gone meanwhile
        };
        let is_folder = metadata.file_type == FileType::Directory;
        if !is_folder && !is_there {
            return Ok(());
        }
        let place = Place { folder, name, path: &self.path };
        let entry = if is_meant || is_folder {
            describe(self.filter.source.kind, &place, below.to_vec(), &metadata)?
        } else {
            None
        };
        if is_there {
            self.is_alive = true;
            self.revive();
        }
        if !is_folder {
            if let Some(entry) = entry.filter(|_| is_meant) {
                self.emit_open();
                self.emit(entry)?;
            }
            return Ok(());
        }
        self.open.push(Open { entry, is_alive: is_there, is_meant });
        if is_there && is_meant {
            self.emit_open();
        }
        // Whether a folder that is left out is there shows only inside.
        if look_inside || !is_there {
            let child = folder.child(name).map_err(changed_or("open", &self.path))?;
            self.folder(&child, &inner)?;
        }
        self.open.pop();
        self.check_left()
    }

    /// Whether all folders on the way are known to be there.
    fn is_settled(&self) -> bool {
        self.is_alive && self.open.iter().all(|open| open.is_alive)
    }

    /// The folders on the way are there after all, for something in them is.
    fn revive(&mut self) {
        let mut meant = None;
        for (index, open) in self.open.iter_mut().enumerate() {
            if !open.is_alive {
                open.is_alive = true;
                if open.is_meant {
                    meant = Some(index);
                }
            }
        }
        if let Some(last) = meant {
            self.emit_up_to(last + 1);
        }
    }

    /// Takes the folders on the way that are still missing.
    fn emit_open(&mut self) {
        self.emit_up_to(self.open.len());
    }

    fn emit_up_to(&mut self, end: usize) {
        for open in &mut self.open[..end] {
            if let Some(mut entry) = open.entry.take() {
                entry.is_implied = !open.is_meant;
                *self.left = self.left.saturating_sub(1);
                self.entries.push(entry);
            }
        }
    }

    fn emit(&mut self, entry: Entry) -> Result<(), FilesError> {
        *self.left = self.left.saturating_sub(1);
        self.entries.push(entry);
        self.check_left()
    }

    fn check_left(&self) -> Result<(), FilesError> {
        if *self.left == 0 {
            return Err(FilesError::TooMany { path: shown(&self.path[..self.below]), limit: ENTRIES });
        }
        Ok(())
    }
}

/// A name in an open folder, and its path for messages.
pub(super) struct Place<'p> {
    pub(super) folder: &'p Directory,
    pub(super) name: &'p OsStr,
    pub(super) path: &'p [u8],
}

/// Everything that there is to know of a file without reading it. `None` for a socket, which means nothing without who listens.
pub(super) fn describe(
    source: SourceKind,
    place: &Place<'_>,
    below: Vec<u8>,
    metadata: &Metadata,
) -> Result<Option<Entry>, FilesError> {
    let kind = match metadata.file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    };
    // Anybody may make one; overlayfs would hide a file of the image behind it.
    if kind == Kind::CharacterDevice && metadata.device == (0, 0) {
        let what = "a device 0:0, which says in layers that a file is gone";
        return Err(FilesError::Special { path: shown(place.path), what });
    }
    let link = if kind == Kind::Symlink {
        let text = place.folder.read_link(place.name).map_err(changed_or("read the link", place.path))?;
        text.as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let mut entry = Entry {
        path: below,
        kind,
        mode: if kind == Kind::Symlink { 0o777 } else { metadata.mode },
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size: if kind == Kind::File { metadata.size } else { 0 },
        link,
        device: metadata.device,
        identity: (kind == Kind::File && metadata.links > 1).then_some(metadata.identity),
        attributes: BTreeMap::new(),
        is_implied: false,
        stamp: FileStamp::from(metadata),
    };
    if source == SourceKind::Image {
        (entry.uid, entry.gid) = (metadata.uid, metadata.gid);
        entry.mtime = Time { seconds: metadata.mtime.0, nanoseconds: metadata.mtime.1 };
        let attributes = place.folder.attributes(place.name).map_err(io_error("read the attributes of", place.path))?;
        entry.attributes = attributes
            .into_iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value))
            .filter(|(name, _)| is_kept(name))
            .collect();
    }
    Ok(Some(entry))
}

/// Attributes that overlayfs keeps for itself, and labels of this machine, mean nothing in a layer.
pub(super) fn is_kept(attribute: &[u8]) -> bool {
    !attribute.starts_with(b"trusted.overlay.")
        && !attribute.starts_with(b"user.overlay.")
        && attribute != b"security.selinux"
}
