//! How files become the members of a layer.
//!
//! A layer has the files that are copied, the folders that are made for them, and the folders above that the image has already, as
//! they are there. Members are written in the order of their paths, each once, with nothing in them that depends on when and where;
//! only archives are unpacked in their own order.

use super::chmod::Chmod;
use super::error::{FilesError, shown};
use super::fingerprint::{Fingerprint, Opener, PIECE};
use super::overlay::{Contents, NewFolder, Overlay};
use super::resolve::{Seen, join, parent};
use super::select::{Entry, Item, Selection};
use super::{Below, Destination, Inline, InlineContents, Source, SourceKind};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tare_store::tar::{Kind, Member, Time, Writer};

/// Writes the members of one layer. What is copied later takes the place of what was copied before.
///
/// Files are read when the layer is written, at the latest by [`Copier::finish`]. The writer gets many small pieces: give it a
/// buffer.
pub struct Copier<'a, W: Write> {
    pub(super) destination: Destination,
    chmod: Option<Chmod>,
    /// See [`Below::time`].
    pub(super) time: Time,
    pub(super) overlay: Overlay<'a>,
    pub(super) writer: Writer<W>,
    openers: Vec<Opener<'a>>,
    /// How many items were copied: files are the same only within one.
    items: u64,
    pub(super) written: u64,
}

/// Something of a selection.
struct Found<'f> {
    kind: SourceKind,
    entry: &'f Entry,
    /// Its path in the source.
    origin: Vec<u8>,
    digest: &'f [u8; 32],
}

impl<'a, W: Write> Copier<'a, W> {
    /// Begins a layer.
    ///
    /// # Errors
    /// [`FilesError::Mode`].
    pub fn new(below: Below<'a>, destination: Destination, writer: Writer<W>) -> Result<Self, FilesError> {
        let chmod = destination.mode.as_ref().map(Chmod::parse).transpose()?;
        let lower = below.root.filter(|_| !destination.link);
        let (overlay, time) = (Overlay::new(lower), below.time);
        Ok(Self { destination, chmod, time, overlay, writer, openers: Vec::new(), items: 0, written: 0 })
    }

    /// Copies a selection to the destination.
    ///
    /// # Errors
    /// What the image has in the way; [`FilesError::Reserved`]; of reading. That a file changed since `fingerprint` was taken may
    /// show only when the layer is written.
    pub fn tree(
        &mut self,
        source: &Source<'a>,
        selection: &Selection,
        fingerprint: &Fingerprint,
    ) -> Result<(), FilesError> {
        debug_assert_eq!(selection.items.len(), fingerprint.contents.len(), "a fingerprint of another selection");
        self.openers.push(Opener::new(source.root));
        for (item, digests) in selection.items.iter().zip(&fingerprint.contents) {
            self.items += 1;
            self.item(selection, item, digests)?;
        }
        Ok(())
    }

    fn item(&mut self, selection: &Selection, item: &Item, digests: &[[u8; 32]]) -> Result<(), FilesError> {
        let (kind, path) = (selection.kind, &item.path);
        let found = item.entries.iter().zip(digests);
        let mut found = found.map(|(entry, digest)| Found { kind, entry, origin: join(path, &entry.path), digest });
        if !item.is_folder {
            let Some(found) = found.next() else { return Ok(()) };
            let entry = found.entry;
            if selection.unpack && entry.kind == Kind::File && self.unpack(&found.origin, entry, found.digest)? {
                return Ok(());
            }
            let path = self.landing(Some(&item.name), &found.origin)?;
            return self.leaf(path, found);
        }
        let base = self.landing(None, path)?;
        found.try_for_each(|found| {
            let path = join(&base, &found.entry.path);
            if found.entry.kind == Kind::Directory { self.folder(path, &found) } else { self.leaf(path, found) }
        })
    }

    /// Copies one file to the destination.
    ///
    /// # Errors
    /// As [`Copier::tree`].
    pub fn inline(&mut self, inline: &Inline) -> Result<(), FilesError> {
        let name = inline.name.as_bytes();
        if inline.unpack && self.unpack_inline(inline)? {
            return Ok(());
        }
        let failed = |source| FilesError::Io { action: "read", path: shown(name), source };
        let (contents, size) = match &inline.contents {
            InlineContents::Bytes(bytes) => (Contents::Bytes(bytes.as_slice().into()), bytes.len() as u64),
            InlineContents::File(file) => {
                let size = file.metadata().map_err(failed)?.len();
                (Contents::File(Arc::new(file.try_clone().map_err(failed)?)), size)
            }
        };
        let path = self.landing(Some(name), name)?;
        if self.overlay.see(&path)? == Seen::Folder {
            return Err(FilesError::FileOverFolder { destination: shown(&path), origin: shown(name) });
        }
        let (uid, gid) = self.destination.owner.unwrap_or_default();
        let mode = self.chmod.as_ref().map_or(inline.mode, |chmod| chmod.apply(inline.mode, false)) & 0o7777;
        let folder = NewFolder { mode, owner: (uid, gid), time: self.time };
        self.overlay.put(Member { kind: Kind::File, size, ..folder.member(&path) }, contents)
    }

    /// Makes what is missing of an absolute path, as WORKDIR does: links are followed, and what is there stays as it is.
    ///
    /// # Errors
    /// [`FilesError::Parent`] when something of it is no folder.
    pub fn directory(&mut self, path: &str, owner: (u32, u32)) -> Result<(), FilesError> {
        let resolved = self.overlay.resolve(path.as_bytes())?;
        self.overlay.make_folders(&resolved, &NewFolder { mode: 0o755, owner, time: self.time })
    }

    /// Writes what is not written yet. Returns how many members the layer has: none, when nothing was to be done.
    ///
    /// # Errors
    /// [`FilesError::Changed`], [`FilesError::Output`]; of reading.
    pub fn finish(mut self) -> Result<(Writer<W>, u64), FilesError> {
        self.flush()?;
        Ok((self.writer, self.written))
    }

    pub(super) fn new_folder(&self) -> NewFolder {
        let mode = self.chmod.as_ref().map_or(0o755, Chmod::of_new_folders);
        NewFolder { mode, owner: self.destination.owner.unwrap_or_default(), time: self.time }
    }

    /// A file of the source that was added last.
    pub(super) fn open_last(&mut self, path: &[u8], size: u64) -> Result<File, FilesError> {
        let source = self.openers.last_mut().expect("files come from a source that was added");
        source.open(path, size)
    }

    /// Where something is to be put: a folder's contents into the destination; anything else, which has a name, there or into the
    /// folder that is there. Makes the folders that are missing.
    fn landing(&mut self, name: Option<&[u8]>, origin: &[u8]) -> Result<Vec<u8>, FilesError> {
        let destination = self.destination.path.clone().into_bytes();
        let new = self.new_folder();
        let ensured = if self.destination.into { &destination[..] } else { parent(&destination) };
        let ensured = self.overlay.resolve(ensured)?;
        self.overlay.make_folders(&ensured, &new)?;
        let resolved = self.overlay.resolve(&destination)?;
        let seen = self.overlay.see(&resolved)?;
        match name {
            None if matches!(seen, Seen::Folder | Seen::Missing) => {
                self.overlay.make_folders(&resolved, &new)?;
                Ok(resolved)
            }
            None => Err(FilesError::FolderOverFile { destination: shown(&resolved), origin: shown(origin) }),
            Some(name) => {
                let path = if seen == Seen::Folder { join(&resolved, name) } else { resolved };
                self.overlay.make_folders(parent(&path), &new)?;
                Ok(path)
            }
        }
    }

    /// A folder below the one that is copied. Where the image has one, it becomes like that of the source.
    fn folder(&mut self, path: Vec<u8>, found: &Found<'_>) -> Result<(), FilesError> {
        let entry = found.entry;
        let member = self.member(path, found);
        let member = match self.overlay.see(&member.path)? {
            Seen::Missing => member,
            Seen::Folder => {
                let existing = self.overlay.existing(&member.path)?;
                if entry.is_implied {
                    Member { mode: entry.mode, ..existing }
                } else {
                    let mut attributes = existing.attributes;
                    attributes.extend(member.attributes.clone());
                    Member { attributes, ..member }
                }
            }
            Seen::Link(_) | Seen::Other => {
                return Err(FilesError::FolderOverFile {
                    destination: shown(&member.path),
                    origin: shown(&found.origin),
                });
            }
        };
        self.overlay.put(member, Contents::None)
    }

    fn leaf(&mut self, path: Vec<u8>, found: Found<'_>) -> Result<(), FilesError> {
        if self.overlay.see(&path)? == Seen::Folder {
            return Err(FilesError::FileOverFolder { destination: shown(&path), origin: shown(&found.origin) });
        }
        let member = self.member(path, &found);
        let contents = if found.entry.kind == Kind::File {
            let group = found.entry.identity.map(|identity| (self.items, identity));
            Contents::Source { source: self.openers.len() - 1, path: found.origin, digest: *found.digest, group }
        } else {
            Contents::None
        };
        self.overlay.put(member, contents)
    }

    fn member(&self, path: Vec<u8>, found: &Found<'_>) -> Member {
        let entry = found.entry;
        let (uid, gid) = self.destination.owner.unwrap_or((entry.uid, entry.gid));
        let mode = match &self.chmod {
            Some(chmod) if entry.kind != Kind::Symlink => chmod.apply(entry.mode, entry.kind == Kind::Directory),
            _ => entry.mode,
        };
        Member {
            path,
            kind: entry.kind,
            link: entry.link.clone(),
            mode,
            uid,
            gid,
            mtime: match found.kind {
                SourceKind::Context => self.time,
                SourceKind::Image => self.not_later(entry.mtime),
            },
            size: entry.size,
            device: entry.device,
            attributes: entry.attributes.clone(),
        }
    }

    /// Times from elsewhere stay, but nothing is newer than the build.
    pub(super) fn not_later(&self, time: Time) -> Time {
        let is_later = (time.seconds, time.nanoseconds) > (self.time.seconds, self.time.nanoseconds);
        if is_later { self.time } else { time }
    }

    /// Writes what is not written yet.
    pub(super) fn flush(&mut self) -> Result<(), FilesError> {
        let new = self.overlay.take_new();
        if !new.is_empty()
            && self.written == 0
            && let Some(root) = self.overlay.remarkable_root()?
        {
            self.append(&root, &mut io::empty())?;
        }
        // The first name of each file that has several.
        let mut linked: HashMap<(u64, (u64, u64)), Vec<u8>> = HashMap::new();
        for (member, contents) in new {
            match contents {
                Contents::None => self.append(&member, &mut io::empty())?,
                Contents::Bytes(bytes) => self.append(&member, &mut &*bytes)?,
                Contents::File(file) => {
                    let mut at = At { file: &file, offset: 0 };
                    self.append_checked(&member, &mut at, None, &member.path)?;
                }
                Contents::Source { source, path, digest, group } => {
                    if let Some(first) = group.and_then(|group| linked.get(&group)) {
                        let member = Member {
                            kind: Kind::HardLink,
                            link: first.clone(),
                            size: 0,
                            attributes: BTreeMap::new(),
                            ..member
                        };
                        self.append(&member, &mut io::empty())?;
                        continue;
                    }
                    if let Some(group) = group {
                        linked.insert(group, member.path.clone());
                    }
                    let mut file = self.openers[source].open(&path, member.size)?;
                    self.append_checked(&member, &mut file, Some(&digest), &path)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn append(&mut self, member: &Member, contents: &mut dyn Read) -> Result<(), FilesError> {
        self.written += 1;
        self.writer.append(member, contents).map_err(FilesError::Output)
    }

    /// Writes a file whose contents may have changed.
    fn append_checked(
        &mut self,
        member: &Member,
        contents: &mut dyn Read,
        digest: Option<&[u8; 32]>,
        path: &[u8],
    ) -> Result<(), FilesError> {
        let mut hashed = Hashed { inner: contents, hasher: digest.is_some().then(Sha256::new), count: 0, failed: None };
        self.written += 1;
        let outcome = self.writer.append(member, &mut hashed);
        if let Some(source) = hashed.failed {
            return Err(FilesError::Io { action: "read", path: shown(path), source });
        }
        if hashed.count < member.size {
            outcome
                .or_else(|error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) })
                .map_err(FilesError::Output)?;
            return Err(FilesError::Changed { path: shown(path) });
        }
        outcome.map_err(FilesError::Output)?;
        if hashed.finish().as_ref() == digest { Ok(()) } else { Err(FilesError::Changed { path: shown(path) }) }
    }
}

/// Hashes what passes, and keeps a failure of reading apart from one of writing.
pub(super) struct Hashed<'r> {
    pub(super) inner: &'r mut dyn Read,
    pub(super) hasher: Option<Sha256>,
    pub(super) count: u64,
    pub(super) failed: Option<io::Error>,
}

impl Hashed<'_> {
    pub(super) fn finish(self) -> Option<[u8; 32]> {
        self.hasher.map(|hasher| hasher.finalize().into())
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&buffer[..count]);
                }
                self.count += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// A file from a place on, whatever others do with its position.
struct At<'f> {
    file: &'f File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(PIECE);
        let count = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
