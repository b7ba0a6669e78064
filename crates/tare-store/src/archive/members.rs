//! The files of an archive: where each of them lies, found by its headers alone.

use super::ArchiveError;
use crate::hash::Hasher;
use crate::tar::{Kind, Reader, TarError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use tare_spec::Digest;
use tare_spec::digest::Algorithm;

/// More files than two thousand images have.
const MEMBERS: usize = 1 << 17;
/// Longer names are of no file that a document names: a blob's has 141 bytes at most.
const NAME: usize = 300;
/// Bytes read at once: a header with its extensions.
const HEADERS: usize = 2048;
/// Docker's links lead to a file at once.
const LINKS: usize = 8;

/// Bytes that can be read from anywhere, by several threads.
pub trait ReadAt: Sync + Send {
    /// Reads some bytes from this offset on; 0 at the end.
    ///
    /// # Errors
    /// As `pread(2)`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// How many bytes there are.
    ///
    /// # Errors
    /// As `fstat(2)`.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        (&self[start..]).read(buffer)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Where a file's contents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// An archive of images, opened: its files are known, none has been read.
pub struct Archive<'a> {
    bytes: Box<dyn ReadAt + 'a>,
    files: BTreeMap<String, Location>,
    links: BTreeMap<String, String>,
}

impl std::fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl<'a> Archive<'a> {
    /// Reads the headers of an uncompressed tar archive that begins at `start`.
    ///
    /// # Errors
    /// [`ArchiveError`]: damage, files that go on after the archive's end, two of one name, too many.
    pub fn open(bytes: impl ReadAt + 'a, start: u64) -> Result<Self, ArchiveError> {
        let mut this = Self { bytes: Box::new(bytes), files: BTreeMap::new(), links: BTreeMap::new() };
        let size = this.bytes.size().map_err(ArchiveError::Read)?;
        let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
        let cursor = Cursor { bytes: &*this.bytes, start, position: start };
        let mut reader = Reader::new(BufReader::with_capacity(HEADERS, cursor));
        let mut count = 0;
        while let Some(entry) = reader.next_entry().map_err(ArchiveError::Tar)? {
            count += 1;
            if count > MEMBERS {
                return Err(ArchiveError::Members { limit: MEMBERS });
            }
            let offset = start + reader.offset();
            if entry.sparse.is_some() {
                return Err(ArchiveError::Tar(TarError::Type { offset, name: "sparse file".to_owned() }));
            }
            if offset.checked_add(entry.size).is_none_or(|end| end > size) {
                return Err(ArchiveError::Tar(TarError::Truncated { offset: size - start.min(size), what: "a file" }));
            }
            reader.pass_over().map_err(ArchiveError::Tar)?;
            // A name that is none of ours is nobody's here: it is never looked for.
            let Some(path) = std::str::from_utf8(&entry.path).ok().filter(|path| path.len() <= NAME) else { continue };
            let Ok(path) = plain(path, "") else { continue };
            let new = match entry.kind {
                Kind::File => files.insert(path.clone(), Location { offset, size: entry.size }).is_none(),
                Kind::Symlink | Kind::HardLink => {
                    let Ok(link) = String::from_utf8(entry.link) else { continue };
                    // A hard link's target counts from the root, a symbolic link's from its folder.
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let folder = if entry.kind == Kind::Symlink { folder } else { "" };
                    let Ok(target) = plain(&link, folder) else { continue };
                    links.insert(path.clone(), target).is_none()
                }
                _ => true,
            };
            if !new || (files.contains_key(&path) && links.contains_key(&path)) {
                return Err(ArchiveError::Duplicate { path });
            }
        }
        (this.files, this.links) = (files, links);
        Ok(this)
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    /// Where the file is that a document names.
    pub(super) fn find(&self, path: &str) -> Result<Location, ArchiveError> {
        let shown = || path.chars().take(NAME).collect();
        let mut at = plain(path, "").map_err(|()| ArchiveError::Climbs { path: shown() })?;
        for _ in 0..LINKS {
            match (self.files.get(&at), self.links.get(&at)) {
                (Some(location), _) => return Ok(*location),
                (None, Some(target)) => at.clone_from(target),
                (None, None) => return Err(ArchiveError::Missing { path: shown() }),
            }
        }
        Err(ArchiveError::Link { path: shown() })
    }

    /// Reads a document of at most `limit` bytes.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let location = self.find(path)?;
        if location.size > limit {
            return Err(ArchiveError::Size { path: path.to_owned(), size: location.size, limit });
        }
        let mut bytes = Vec::with_capacity(location.size as usize);
        self.stream(location, 0).read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        Ok(bytes)
    }

    /// Reads a document of at most `limit` bytes that has this digest.
    pub(super) fn verified(&self, path: &str, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.read(path, limit)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        match hasher.finish() {
            actual if actual == *digest => Ok(bytes),
            actual => Err(ArchiveError::Digest { path: path.to_owned(), expected: digest.clone(), actual }),
        }
    }

    /// A file's contents from this byte of it on.
    pub(super) fn stream(&self, location: Location, from: u64) -> impl Read + Send + use<'_> {
        let position = location.offset + from.min(location.size);
        let left = location.size.saturating_sub(from);
        Cursor { bytes: &*self.bytes, start: location.offset, position }.take(left)
    }

    /// The digest of a file.
    pub(super) fn digest(&self, location: Location) -> Result<Digest, ArchiveError> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut stream = self.stream(location, 0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match stream.read(&mut buffer).map_err(ArchiveError::Read)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}

/// A path without its `.` and empty components, counted from `folder`; what climbs out of the archive is none.
fn plain(path: &str, folder: &str) -> Result<String, ()> {
    let mut components: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop().ok_or(())?),
            name => components.push(name),
        }
    }
    if components.is_empty() { Err(()) } else { Ok(components.join("/")) }
}

/// A place in the archive, from which is read on.
struct Cursor<'a> {
    bytes: &'a dyn ReadAt,
    start: u64,
    position: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let outside = || io::Error::from(io::ErrorKind::InvalidInput);
        self.position = match to {
            SeekFrom::Start(offset) => self.start.checked_add(offset),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self.bytes.size()?.checked_add_signed(distance),
        }
        .ok_or_else(outside)?;
        self.position.checked_sub(self.start).ok_or_else(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Member, Time, Writer};

    fn archive(members: &[(&str, Kind, &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, kind, text) in members {
            let link = if *kind == Kind::File { Vec::new() } else { text.as_bytes().to_vec() };
            let size = if *kind == Kind::File { text.len() as u64 } else { 0 };
            let (path, mtime) = (path.as_bytes().to_vec(), Time::default());
            let (attributes, device) = (BTreeMap::new(), (0, 0));
            let member =
                Member { path, kind: *kind, link, mode: 0o644, uid: 0, gid: 0, mtime, size, device, attributes };
            writer.append(&member, &mut text.as_bytes()).unwrap();
        }
        writer.finish().unwrap()
    }

    fn text(archive: &Archive<'_>, path: &str) -> String {
        String::from_utf8(archive.read(path, 100).unwrap()).unwrap()
    }

    #[test]
    fn files_are_found_by_name_and_through_links() {
        let bytes = archive(&[
            ("./a/layer.tar", Kind::File, "one"),
            ("b/layer.tar", Kind::Symlink, "../a/layer.tar"),
            ("c", Kind::HardLink, "./a/layer.tar"),
            ("b", Kind::Directory, ""),
            ("empty", Kind::File, ""),
        ]);
        let archive = Archive::open(&bytes[..], 0).unwrap();
        for path in ["a/layer.tar", "/a//layer.tar", "b/layer.tar", "b/../a/layer.tar", "c"] {
            assert_eq!(text(&archive, path), "one", "{path}");
        }
        assert_eq!(text(&archive, "empty"), "");
        assert!(matches!(archive.read("b", 9), Err(ArchiveError::Missing { .. })));
        assert!(matches!(archive.read("a/layer.tar", 2), Err(ArchiveError::Size { size: 3, limit: 2, .. })));
        let mut rest = String::new();
        archive.stream(archive.find("c").unwrap(), 1).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "ne");
    }

    #[test]
    fn an_archive_may_begin_anywhere_in_its_file() {
        let bytes = [&b"before"[..], &archive(&[("a", Kind::File, "one")])].concat();
        assert_eq!(text(&Archive::open(&bytes[..], 6).unwrap(), "a"), "one");
    }

    #[test]
    fn what_leads_out_of_the_archive_or_in_circles_is_no_file() {
        let bytes = archive(&[
            ("../up", Kind::File, "x"),
            ("out", Kind::Symlink, "../etc/passwd"),
            ("round", Kind::Symlink, "about"),
            ("about", Kind::Symlink, "round"),
            ("absolute", Kind::Symlink, "/etc/passwd"),
        ]);
        let archive = Archive::open(&bytes[..], 0).unwrap();
        assert!(matches!(archive.find("../up"), Err(ArchiveError::Climbs { .. })));
        assert!(matches!(archive.find("up"), Err(ArchiveError::Missing { .. })));
        assert!(matches!(archive.find("out"), Err(ArchiveError::Missing { .. })));
        assert!(matches!(archive.find("absolute"), Err(ArchiveError::Missing { .. })));
        assert!(matches!(archive.find("round"), Err(ArchiveError::Link { .. })));
    }

    #[test]
    fn two_files_of_one_name_and_cut_files_are_refused() {
        for second in [("./a", Kind::File, "two"), ("a", Kind::Symlink, "b")] {
            let bytes = archive(&[("a", Kind::File, "one"), second]);
            assert!(matches!(Archive::open(&bytes[..], 0), Err(ArchiveError::Duplicate { .. })));
        }
        let bytes = archive(&[("a", Kind::File, "one")]);
        assert!(matches!(Archive::open(&bytes[..514], 0), Err(ArchiveError::Tar(TarError::Truncated { .. }))));
        assert!(matches!(Archive::open(&b"no archive"[..], 0), Err(ArchiveError::Tar(_))));
    }
}
