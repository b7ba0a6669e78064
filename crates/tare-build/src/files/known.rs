//! What files of a context contained when they were read last, so that those that did not change are not read again.
//!
//! One file for each context, `docs/formats/build-contents.md`. It is a cache: whoever finds it damaged begins a new one, and
//! of two builds that write it at the same time the later one wins.

use super::fingerprint::{FileStamp, KnownContents};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 16] = b"tare contents 1\n";
/// Bytes of a file's record.
const RECORD: usize = 16 + 8 + 12 + 12 + 32 + 1;
/// Files that are remembered; what is more is read each time.
const FILES: usize = 4_000_000;
/// Builds that a file may be left out of before it is forgotten.
const BUILDS: u8 = 16;
/// Seconds that a file must not have changed for before it is remembered. Clocks of file systems have steps, of up to two seconds:
/// within one, a file may change again and look the same.
const SETTLED: i64 = 2;

/// Digests of the contents of files, kept from build to build.
pub struct ContentCache {
    path: PathBuf,
    /// By the file's identity.
    files: HashMap<(u64, u64), Known>,
    is_changed: bool,
    /// Seconds since 1970.
    began: i64,
}

struct Known {
    stamp: FileStamp,
    digest: [u8; 32],
    /// How many builds have not asked for it in a row.
    unused: u8,
}

impl ContentCache {
    /// What is known from earlier builds; nothing, if there were none or the file is damaged.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        // What cannot be read is computed again.
        let files = fs::read(path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Self { path: path.to_owned(), files, is_changed: false, began }
    }

    /// How many files are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Keeps what is known for the next build. Writes only when there is something new. Atomic, but not durable: a power cut costs
    /// time, no more.
    ///
    /// # Errors
    /// Of writing; the next build reads more files then.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let mut bytes = MAGIC.to_vec();
        let mut files: Vec<&Known> = self.files.values().filter(|known| known.unused < BUILDS).collect();
        files.sort_unstable_by_key(|known| known.stamp);
        for Known { stamp, digest, unused } in files {
            let FileStamp { identity, size, mtime, ctime } = stamp;
            for number in [identity.0, identity.1, *size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for (seconds, nanoseconds) in [mtime, ctime] {
                bytes.extend_from_slice(&seconds.to_le_bytes());
                bytes.extend_from_slice(&nanoseconds.to_le_bytes());
            }
            bytes.extend_from_slice(digest);
            bytes.push(*unused);
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        let temporary = self.path.with_extension(format!("{}.new", std::process::id()));
        let written = File::create(&temporary).and_then(|mut file| file.write_all(&bytes));
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, &self.path)) {
            // The failure matters more than what is left of it.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.is_changed = false;
        Ok(())
    }
}

impl KnownContents for ContentCache {
    fn get(&mut self, stamp: &FileStamp) -> Option<[u8; 32]> {
        let known = self.files.get_mut(&stamp.identity).filter(|known| known.stamp == *stamp)?;
        known.unused = 0;
        Some(known.digest)
    }

    fn put(&mut self, stamp: &FileStamp, digest: [u8; 32]) {
        if stamp.ctime.0.max(stamp.mtime.0) > self.began - SETTLED {
            return;
        }
        if self.files.len() < FILES || self.files.contains_key(&stamp.identity) {
            self.files.insert(stamp.identity, Known { stamp: *stamp, digest, unused: 0 });
            self.is_changed = true;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<HashMap<(u64, u64), Known>> {
    let (contents, sum) = bytes.split_last_chunk::<32>()?;
    let records = contents.strip_prefix(MAGIC)?;
    if records.len() % RECORD != 0 || *sum != <[u8; 32]>::from(Sha256::digest(contents)) {
        return None;
    }
    let mut files = HashMap::with_capacity(records.len() / RECORD);
    for mut record in records.chunks_exact(RECORD) {
        let long = |record: &mut &[u8]| {
            let (number, rest) = record.split_first_chunk()?;
            *record = rest;
            Some(u64::from_le_bytes(*number))
        };
        let time = |record: &mut &[u8]| {
            let seconds = long(record)?.cast_signed();
            let (number, rest) = record.split_first_chunk()?;
            *record = rest;
            Some((seconds, u32::from_le_bytes(*number)))
        };
        let identity = (long(&mut record)?, long(&mut record)?);
        let size = long(&mut record)?;
        let stamp = FileStamp { identity, size, mtime: time(&mut record)?, ctime: time(&mut record)? };
        let (digest, rest) = record.split_first_chunk()?;
        // One more build, until somebody asks.
        files.insert(identity, Known { stamp, digest: *digest, unused: rest.first()?.saturating_add(1) });
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, time: i64) -> FileStamp {
        FileStamp { identity: (1, number), size: number, mtime: (time, 7), ctime: (time - 1, 8) }
    }

    #[test]
    fn what_is_saved_is_known_for_the_same_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contents");
        let mut cache = ContentCache::load(&path);
        assert!(cache.is_empty());
        cache.save().unwrap();
        assert!(!path.exists());
        cache.put(&stamp(1, 1000), [1; 32]);
        cache.put(&stamp(2, -5), [2; 32]);
        // Changed a moment ago, or in the future.
        cache.put(&stamp(3, cache.began), [3; 32]);
        cache.put(&stamp(4, cache.began + 1000), [4; 32]);
        cache.save().unwrap();
        let mut cache = ContentCache::load(&path);
        assert_eq!(cache.len(), 2);
        assert_eq!((cache.get(&stamp(1, 1000)), cache.get(&stamp(2, -5))), (Some([1; 32]), Some([2; 32])));
        assert_eq!((cache.get(&stamp(1, 1001)), cache.get(&stamp(3, 1000))), (None, None));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_nobody_asks_for_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contents");
        let mut cache = ContentCache::load(&path);
        cache.put(&stamp(1, 1000), [1; 32]);
        cache.save().unwrap();
        for build in 2..40 {
            let mut cache = ContentCache::load(&path);
            cache.put(&stamp(build, 1000), [2; 32]);
            cache.save().unwrap();
        }
        let mut cache = ContentCache::load(&path);
        assert_eq!((cache.len(), cache.get(&stamp(1, 1000))), (usize::from(BUILDS), None));
    }

    #[test]
    fn damage_is_as_if_there_were_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contents");
        let mut cache = ContentCache::load(&path);
        cache.put(&stamp(1, 1000), [1; 32]);
        cache.save().unwrap();
        let sound = fs::read(&path).unwrap();
        for at in [0, 16, 40, 100, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(ContentCache::load(&path).is_empty(), "{at}");
            fs::write(&path, &sound[..at]).unwrap();
            assert!(ContentCache::load(&path).is_empty(), "{at}");
        }
        fs::write(&path, &sound).unwrap();
        assert_eq!(ContentCache::load(&path).len(), 1);
    }
}
