//! ADD's archives: what is in them becomes part of the layer as if it had been unpacked at the destination.
//!
//! The archive is hostile. Its paths are resolved with the destination as their root, through the links that the image and the
//! archive itself have there, as Docker's change of root does; the last component is made, never followed, and takes the place of
//! what was there. Members are written in the archive's own order, later ones over earlier ones, for their contents can be read
//! only once.

use super::Inline;
use super::InlineContents;
use super::copier::{Copier, Hashed};
use super::error::{FilesError, shown};
use super::overlay::{Contents, NewFolder};
use super::resolve::{Seen, join, name, parent, resolve};
use super::select::Entry;
use super::walk::is_kept;
use sha2::Sha256;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use tare_spec::ErrorKind;
use tare_store::tar::{self, Kind, Member, TarError};
use tare_store::{Inflated, Limits};

/// What an entry takes in memory besides its names and attributes, until the layer is done.
const ENTRY: u64 = 512;

/// Why an archive is not unpacked. Paths are cut to 300 characters.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is damaged.
    #[error("it is damaged")]
    Damaged(#[from] TarError),
    /// A path that goes up further than it went down.
    #[error("{path:?} leads out of it")]
    Climbs {
        /// The path.
        path: String,
    },
    /// Its root is something else than a folder.
    #[error("its root is no folder")]
    Root,
    /// A hard link to something that is no file.
    #[error("{path:?} is a hard link to {target:?}, which is no file of it")]
    HardLink {
        /// The link.
        path: String,
        /// What it should be the same as.
        target: String,
    },
    /// A device by which overlayfs would hide a file.
    #[error("{path:?} is a device 0:0, which says in layers that a file is gone")]
    Device {
        /// The device.
        path: String,
    },
    /// It becomes larger than any real one.
    #[error("{size} bytes hold more than {limit} {unit}")]
    Bomb {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
}

impl ArchiveError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// Where an archive's bytes are, to be read more than once.
enum Raw<'r> {
    File(&'r File),
    Bytes(&'r [u8]),
}

/// An archive from its beginning on.
struct RawReader<'r> {
    raw: &'r Raw<'r>,
    offset: u64,
}

impl Read for RawReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.raw {
            Raw::File(file) => file.read_at(buffer, self.offset)?,
            Raw::Bytes(bytes) => {
                let start = usize::try_from(self.offset).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)?
            }
        };
        self.offset += count as u64;
        Ok(count)
    }
}

/// Ends a stream that becomes too long.
struct Bounded<'b, R> {
    inner: R,
    left: &'b Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.get().checked_sub(count as u64) {
            Some(left) => self.left.set(left),
            None => {
                self.left.set(0);
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(count)
    }
}

impl<W: Write> Copier<'_, W> {
    /// Unpacks a file of the last source, if it is an archive.
    pub(super) fn unpack(&mut self, path: &[u8], entry: &Entry, digest: &[u8; 32]) -> Result<bool, FilesError> {
        let file = self.open_last(path, entry.size)?;
        self.unpack_raw(path, &Raw::File(&file), entry.size, Some(digest))
    }

    pub(super) fn unpack_inline(&mut self, inline: &Inline) -> Result<bool, FilesError> {
        let origin = inline.name.as_bytes();
        match &inline.contents {
            InlineContents::Bytes(bytes) => self.unpack_raw(origin, &Raw::Bytes(bytes), bytes.len() as u64, None),
            InlineContents::File(file) => {
                let failed = |source| FilesError::Io { action: "inspect", path: shown(origin), source };
                let size = file.metadata().map_err(failed)?.len();
                self.unpack_raw(origin, &Raw::File(file), size, None)
            }
        }
    }

    fn unpack_raw(
        &mut self,
        origin: &[u8],
        raw: &Raw<'_>,
        size: u64,
        digest: Option<&[u8; 32]>,
    ) -> Result<bool, FilesError> {
        let limits = Limits::default();
        if !is_archive(raw, limits.inflated(size)) {
            return Ok(false);
        }
        let root = self.overlay.resolve(self.destination.path.clone().as_bytes())?;
        let owner = self.destination.owner.unwrap_or_default();
        self.overlay.make_folders(&root, &NewFolder { mode: 0o755, owner, time: self.time })?;
        self.flush()?;
        let mut reader = RawReader { raw, offset: 0 };
        let hasher = digest.map(|_| <Sha256 as sha2::Digest>::new());
        let mut hashed = Hashed { inner: &mut reader, hasher, count: 0, failed: None };
        let left = Cell::new(limits.inflated(size));
        let outcome = Inflated::new(&mut hashed)
            .map_err(|source| TarError::Read { offset: 0, source }.into())
            .map_err(Halt::Archive)
            .and_then(|stream| {
                let stream = Bounded { inner: stream, left: &left };
                let mut archive = Archive {
                    copier: self,
                    root: &root,
                    entries: limits.entries,
                    memory: limits.memory,
                    bytes: limits.inflated(size),
                };
                archive.all(&mut tar::Reader::new(BufReader::with_capacity(256 * 1024, stream)))
            });
        if let Some(source) = hashed.failed.take() {
            return Err(FilesError::Io { action: "read", path: shown(origin), source });
        }
        if matches!(outcome, Ok(()) | Err(Halt::Archive(ArchiveError::Damaged(_)))) {
            // What follows the archive's end in the file counts for its digest; and one that changed may be damaged by that.
            io::copy(&mut hashed, &mut io::sink()).map_err(|source| FilesError::Io {
                action: "read",
                path: shown(origin),
                source,
            })?;
            if hashed.count != size || hashed.finish().as_ref() != digest {
                return Err(FilesError::Changed { path: shown(origin) });
            }
        }
        let bomb = |limit, unit| ArchiveError::Bomb { size, limit, unit };
        let source = match outcome {
            Ok(()) => return Ok(true),
            Err(Halt::Files(error)) => return Err(error),
            Err(_) if left.get() == 0 => bomb(limits.inflated(size), "bytes"),
            Err(Halt::Bytes) => bomb(limits.inflated(size), "bytes"),
            Err(Halt::Entries) => bomb(limits.entries, "entries"),
            Err(Halt::Memory) => bomb(limits.memory, "bytes of names and attributes"),
            Err(Halt::Archive(error)) => error,
        };
        Err(FilesError::Archive { path: shown(origin), source })
    }
}

/// Whether something is an archive: whether, uncompressed, it begins with a header. Everything else is copied as it is.
fn is_archive(raw: &Raw<'_>, limit: u64) -> bool {
    let left = Cell::new(limit);
    let Ok(stream) = Inflated::new(RawReader { raw, offset: 0 }) else { return false };
    matches!(tar::Reader::new(BufReader::new(Bounded { inner: stream, left: &left })).next_entry(), Ok(Some(_)))
}

/// Why unpacking stopped.
enum Halt {
    Files(FilesError),
    Archive(ArchiveError),
    Bytes,
    Entries,
    Memory,
}

impl From<FilesError> for Halt {
    fn from(error: FilesError) -> Self {
        Self::Files(error)
    }
}

impl From<ArchiveError> for Halt {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<TarError> for Halt {
    fn from(error: TarError) -> Self {
        Self::Archive(error.into())
    }
}

/// An archive that is being unpacked.
struct Archive<'c, 'a, W: Write> {
    copier: &'c mut Copier<'a, W>,
    /// Where it is unpacked: a resolved path.
    root: &'c [u8],
    /// What it may still have: entries, bytes of memory, bytes of contents with the holes of sparse files.
    entries: u64,
    memory: u64,
    bytes: u64,
}

impl<W: Write> Archive<'_, '_, W> {
    fn all<R: BufRead>(&mut self, reader: &mut tar::Reader<R>) -> Result<(), Halt> {
        while let Some(entry) = reader.next_entry()? {
            self.entries = self.entries.checked_sub(1).ok_or(Halt::Entries)?;
            let attributes = entry.attributes.iter().map(|(name, value)| name.len() + value.len());
            let names = 3 * (self.root.len() + entry.path.len()) + entry.link.len();
            let weight = (names + attributes.sum::<usize>()) as u64 + ENTRY;
            self.memory = self.memory.checked_sub(weight).ok_or(Halt::Memory)?;
            self.bytes = self.bytes.checked_sub(entry.size).ok_or(Halt::Bytes)?;
            self.entry(entry, reader)?;
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, entry: tar::Entry, reader: &mut tar::Reader<R>) -> Result<(), Halt> {
        let written = inside(&entry.path)?;
        if written.is_empty() {
            // The destination stays as it is.
            return if entry.kind == Kind::Directory { Ok(()) } else { Err(ArchiveError::Root.into()) };
        }
        if entry.kind == Kind::CharacterDevice && entry.device == (0, 0) {
            return Err(ArchiveError::Device { path: shown(&entry.path) }.into());
        }
        let folder = self.folder(parent(&written))?;
        let path = join(&folder, name(&written));
        if entry.kind == Kind::HardLink {
            return self.hard_link(&entry, path);
        }
        let (uid, gid) = self.copier.destination.owner.unwrap_or((entry.uid, entry.gid));
        let mut member = Member {
            path,
            kind: entry.kind,
            link: entry.link,
            mode: entry.mode,
            uid,
            gid,
            mtime: self.copier.not_later(entry.mtime),
            size: entry.size,
            device: entry.device,
            attributes: entry.attributes,
        };
        member.attributes.retain(|name, _| is_kept(name));
        if member.kind == Kind::Directory {
            return self.directory(member);
        }
        self.replace(&member.path)?;
        self.copier.overlay.put_written(member.clone())?;
        let mut contents = MemberContents { reader, failed: None };
        let outcome = self.copier.append(&member, &mut contents);
        if let Some(error) = contents.failed {
            return Err(error.into());
        }
        Ok(outcome?)
    }

    /// The folder that a path leads to, links included; what of it is missing is made.
    fn folder(&mut self, path: &[u8]) -> Result<Vec<u8>, FilesError> {
        let found = self.resolve(path)?;
        let folder = join(self.root, &found);
        self.copier.overlay.make_folders(&folder, &NewFolder { mode: 0o755, owner: (0, 0), time: self.copier.time })?;
        Ok(folder)
    }

    /// As if the destination were the root.
    fn resolve(&mut self, path: &[u8]) -> Result<Vec<u8>, FilesError> {
        let (root, overlay) = (self.root, &mut self.copier.overlay);
        resolve(path, &mut |path| overlay.see(&join(root, path)))
    }

    fn directory(&mut self, mut member: Member) -> Result<(), Halt> {
        let overlay = &mut self.copier.overlay;
        if overlay.see(&member.path)? == Seen::Folder {
            let mut attributes = overlay.existing(&member.path)?.attributes;
            attributes.append(&mut member.attributes);
            member.attributes = attributes;
        }
        let path = member.path.clone();
        overlay.put(member, Contents::None)?;
        let hides = overlay.hides_folder(&path)?;
        self.copier.flush()?;
        if hides {
            // Something else was here for a moment, and took what the image has with it.
            let new = NewFolder { mode: 0, owner: (0, 0), time: self.copier.time };
            let marker = Member { kind: Kind::File, ..new.member(&join(&path, b".wh..wh..opq")) };
            self.copier.append(&marker, &mut io::empty())?;
        }
        Ok(())
    }

    /// Makes room at a path for something that is no folder.
    fn replace(&mut self, path: &[u8]) -> Result<(), FilesError> {
        self.copier.overlay.forget_below(path);
        self.copier.overlay.keep_parents(path)?;
        self.copier.flush()
    }

    fn hard_link(&mut self, entry: &tar::Entry, path: Vec<u8>) -> Result<(), Halt> {
        let missing = || ArchiveError::HardLink { path: shown(&entry.path), target: shown(&entry.link) };
        let written = inside(&entry.link)?;
        let folder = self.resolve(parent(&written))?;
        let target = join(&join(self.root, &folder), name(&written));
        if target == path {
            return Ok(());
        }
        if written.is_empty() || target.starts_with(&[&path[..], b"/"].concat()) {
            return Err(missing().into());
        }
        let overlay = &mut self.copier.overlay;
        if overlay.node(&target).is_none() {
            // Layers have hard links to files of their own only: the image's becomes one of them.
            let (member, file) = overlay.lower_file(&target)?.ok_or_else(missing)?;
            self.bytes = self.bytes.checked_sub(member.size).ok_or(Halt::Bytes)?;
            overlay.put(member, Contents::File(file.into()))?;
        }
        let Some(node) = overlay.node(&target).filter(|node| node.member.kind != Kind::Directory) else {
            return Err(missing().into());
        };
        let kind = node.member.kind;
        // Another name of a link, too, is what a later member sees here.
        let seen = node.member.clone();
        self.replace(&path)?;
        let attributes = BTreeMap::new();
        let member =
            Member { path: path.clone(), kind: Kind::HardLink, link: target, size: 0, attributes, ..seen.clone() };
        self.copier.append(&member, &mut io::empty())?;
        let link = if kind == Kind::Symlink { seen.link } else { member.link.clone() };
        Ok(self.copier.overlay.put_written(Member {
            kind: if kind == Kind::Symlink { kind } else { Kind::HardLink },
            link,
            ..member
        })?)
    }
}

/// Contents of the current member; what is wrong with the archive is kept apart.
struct MemberContents<'r, R> {
    reader: &'r mut tar::Reader<R>,
    failed: Option<TarError>,
}

impl<R: BufRead> Read for MemberContents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::InvalidData.into()
        })
    }
}

/// A path of an archive without `.` and `..`, from the archive's root.
fn inside(path: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            // Docker keeps those of absolute paths at the root.
            b".." if components.pop().is_none() && !path.starts_with(b"/") => {
                return Err(ArchiveError::Climbs { path: shown(path) });
            }
            b".." => {}
            _ => components.push(component),
        }
    }
    Ok(components.join(&b'/'))
}
