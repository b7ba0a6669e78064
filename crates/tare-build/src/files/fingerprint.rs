//! What a selection is, as far as a build's result depends on it.

use super::error::{FilesError, changed_or, io_error, shown};
use super::resolve::{join, name, parent};
use super::select::{Entry, Selection};
use super::{Source, SourceKind};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tare_spec::Digest;
use tare_store::tar::Kind;
use tare_sys::directory::{Directory, Metadata};

/// Bytes that are read at once.
pub(super) const PIECE: usize = 256 * 1024;
/// Files that a thread takes at once.
const BATCH: usize = 32;
/// What is worth another thread, which costs 50 µs.
const FILES_A_THREAD: usize = 500;
/// Likewise: 2 ms of hashing.
const BYTES_A_THREAD: u64 = 2 << 20;
/// More do not help: memory is the limit then.
const THREADS: usize = 8;

/// The identity of a [`Selection`]: of its names, contents and metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of everything.
    pub digest: Digest,
    /// Of each file, folder and link by itself, by its path in the source.
    pub files: BTreeMap<String, Digest>,
    /// SHA-256 of the contents of each file, item by item in the order of the entries; zeros of what has no contents.
    pub(super) contents: Vec<Vec<[u8; 32]>>,
}

/// Digests of files' contents that are known from before.
pub trait KnownContents {
    /// The SHA-256 of the contents of the file that has this stamp.
    fn get(&mut self, stamp: &FileStamp) -> Option<[u8; 32]>;

    /// Remembers it.
    fn put(&mut self, stamp: &FileStamp, digest: [u8; 32]);
}

/// What changes when somebody changes a file, as far as stat(2) shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileStamp {
    /// Numbers of its file system and its own.
    pub identity: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// Last change of the contents: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of anything.
    pub ctime: (i64, u32),
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self { identity: metadata.identity, size: metadata.size, mtime: metadata.mtime, ctime: metadata.ctime }
    }
}

impl Selection {
    /// Reads all files.
    ///
    /// # Errors
    /// [`FilesError::Changed`] when a file is no longer what it was; of reading.
    pub fn fingerprint(&self, source: &Source<'_>) -> Result<Fingerprint, FilesError> {
        self.fingerprint_knowing(source, &mut Nothing)
    }

    /// As [`Selection::fingerprint`], but does not read files whose digests are known.
    ///
    /// # Errors
    /// As [`Selection::fingerprint`].
    pub fn fingerprint_knowing(
        &self,
        source: &Source<'_>,
        known: &mut dyn KnownContents,
    ) -> Result<Fingerprint, FilesError> {
        let contents = self.contents(source, known)?;
        let mut whole = Sha256::new();
        let mut files = BTreeMap::new();
        whole.update(match self.kind {
            SourceKind::Context => b"context",
            SourceKind::Image => b"image\0\0",
        });
        for (item, digests) in self.items.iter().zip(&contents) {
            // A folder's own name goes nowhere.
            let name = if item.is_folder { &b""[..] } else { &item.name };
            whole.update([u8::from(item.is_folder)]);
            field(&mut whole, name);
            whole.update((item.entries.len() as u64).to_le_bytes());
            let mut linked = HashMap::new();
            for (index, (entry, digest)) in item.entries.iter().zip(digests).enumerate() {
                let own = of_entry(entry, digest);
                whole.update(own);
                field(&mut whole, &entry.path);
                // Which names are the same file counts for everything, but not for the file.
                let first = entry.identity.map_or(index, |identity| *linked.entry(identity).or_insert(index));
                whole.update((first as u64).to_le_bytes());
                files.insert(shown(&join(&item.path, &entry.path)), Digest::from_sha256(own));
            }
        }
        Ok(Fingerprint { digest: Digest::from_sha256(whole.finalize().into()), files, contents })
    }

    /// The digests of all files' contents, each file read once whatever names it has.
    fn contents(&self, source: &Source<'_>, known: &mut dyn KnownContents) -> Result<Vec<Vec<[u8; 32]>>, FilesError> {
        let mut digests: Vec<Vec<[u8; 32]>> = self.items.iter().map(|item| vec![[0; 32]; item.entries.len()]).collect();
        let (mut unknown, mut links) = (Vec::new(), Vec::new());
        for (item, in_item) in self.items.iter().enumerate() {
            let mut linked = HashMap::new();
            for (entry, described) in in_item.entries.iter().enumerate().filter(|(_, entry)| entry.kind == Kind::File) {
                let first = described.identity.map_or(entry, |identity| *linked.entry(identity).or_insert(entry));
                if first < entry {
                    links.push((item, first, entry));
                } else if let Some(digest) = known.get(&described.stamp) {
                    digests[item][entry] = digest;
                } else {
                    unknown.push(Unread {
                        path: join(&in_item.path, &described.path),
                        size: described.size,
                        item,
                        entry,
                    });
                }
            }
        }
        for (unread, digest) in unknown.iter().zip(read_all(source.root, &unknown)?) {
            digests[unread.item][unread.entry] = digest;
            known.put(&self.items[unread.item].entries[unread.entry].stamp, digest);
        }
        for (item, first, entry) in links {
            digests[item][entry] = digests[item][first];
        }
        Ok(digests)
    }
}

fn of_entry(entry: &Entry, contents: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let kind = match entry.kind {
        Kind::File | Kind::HardLink => 0_u8,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::CharacterDevice => 3,
        Kind::BlockDevice => 4,
        Kind::Fifo => 5,
    };
    hasher.update([kind, u8::from(entry.is_implied)]);
    for number in [entry.mode, entry.uid, entry.gid, entry.device.0, entry.device.1, entry.mtime.nanoseconds] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(entry.mtime.seconds.to_le_bytes());
    field(&mut hasher, &entry.link);
    for (name, value) in &entry.attributes {
        field(&mut hasher, name);
        field(&mut hasher, value);
    }
    hasher.update(contents);
    hasher.finalize().into()
}

/// Bytes that cannot be taken for others: their number first.
fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

struct Nothing;

impl KnownContents for Nothing {
    fn get(&mut self, _: &FileStamp) -> Option<[u8; 32]> {
        None
    }

    fn put(&mut self, _: &FileStamp, _: [u8; 32]) {}
}

/// A file that is to be read.
struct Unread {
    path: Vec<u8>,
    size: u64,
    item: usize,
    entry: usize,
}

/// The digests of files' contents, in order. Many or large ones are read by all processors: one of them hashes about 1 GB a second,
/// and opens 150,000 files.
fn read_all(root: &Directory, files: &[Unread]) -> Result<Vec<[u8; 32]>, FilesError> {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let work = bytes / BYTES_A_THREAD + (files.len() / FILES_A_THREAD) as u64;
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let threads = usize::try_from(work).unwrap_or(usize::MAX).clamp(1, processors);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let read = || {
        let mut opener = Opener::new(root);
        let mut buffer = vec![0; PIECE.min(usize::try_from(bytes).unwrap_or(PIECE) + 1)];
        let mut done = Vec::new();
        // Those that lie together are read by the same thread.
        while !failed.load(Ordering::Relaxed) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= files.len() {
                break;
            }
            for (index, file) in files.iter().enumerate().skip(first).take(BATCH) {
                let digest = opener.digest(file, &mut buffer);
                if digest.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                done.push((index, digest));
            }
        }
        done
    };
    let mut done = if threads == 1 {
        read()
    } else {
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(read)).collect();
            let mut done = read();
            for other in others {
                done.extend(other.join().expect("reading files does not panic"));
            }
            done
        })
    };
    done.sort_unstable_by_key(|(index, _)| *index);
    // After a failure some are missing. The first one is told.
    done.into_iter().map(|(_, digest)| digest).collect()
}

/// Opens files by resolved paths one after the other. No link is followed.
pub(super) struct Opener<'a> {
    root: &'a Directory,
    /// The folders down to the last file's.
    open: Vec<(Vec<u8>, Directory)>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(root: &'a Directory) -> Self {
        Self { root, open: Vec::new() }
    }

    /// The file at this path, if it is one and still as large.
    pub(super) fn open(&mut self, path: &[u8], size: u64) -> Result<File, FilesError> {
        let file = self.open_any(path)?;
        if file.metadata().map_err(io_error("inspect", path))?.len() != size {
            return Err(FilesError::Changed { path: shown(path) });
        }
        Ok(file)
    }

    fn open_any(&mut self, path: &[u8]) -> Result<File, FilesError> {
        let folder = self.folder(parent(path)).map_err(changed_or("open", path))?;
        folder.child_file(OsStr::from_bytes(name(path))).map_err(changed_or("open", path))
    }

    fn folder(&mut self, path: &[u8]) -> std::io::Result<&Directory> {
        let mut depth = 0;
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
        while let (Some(name), Some((open, _))) = (names.peek(), self.open.get(depth)) {
            if name != open {
                break;
            }
            names.next();
            depth += 1;
        }
        self.open.truncate(depth);
        for name in names {
            let above = self.open.last().map_or(self.root, |(_, folder)| folder);
            let folder = above.child(OsStr::from_bytes(name))?;
            self.open.push((name.to_vec(), folder));
        }
        Ok(self.open.last().map_or(self.root, |(_, folder)| folder))
    }

    fn digest(&mut self, unread: &Unread, buffer: &mut [u8]) -> Result<[u8; 32], FilesError> {
        let path = &unread.path;
        let mut file = self.open_any(path)?;
        let mut hasher = Sha256::new();
        let mut left = unread.size;
        loop {
            // One more than there should be: a short answer then says that the file ends here.
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1).min(buffer.len());
            match file.read(&mut buffer[..wanted]) {
                Ok(count) if count as u64 > left || (count == 0 && left > 0) => {
                    return Err(FilesError::Changed { path: shown(path) });
                }
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    left -= count as u64;
                    if left == 0 && count < wanted {
                        return Ok(hasher.finalize().into());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("read", path)(error)),
            }
        }
    }
}
