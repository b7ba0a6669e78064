//! The store's own small JSON files: versioned, bounded, replaced whole.

use crate::error::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The version that this program writes and the newest that it reads.
pub(crate) const VERSION: u32 = 1;

/// Far above any record: an image of ten thousand layers.
const LIMIT: u64 = 1 << 20;

/// The bytes of a large record that is not unusual.
const USUAL: usize = 8 << 10;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// The record as it stands in its file.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(&Versioned { version: VERSION, record })
        .expect("records are structures of strings and numbers");
    bytes.push(b'\n');
    bytes
}

/// Reads a record; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.context("open", path)?,
    };
    // Most records are smaller: one call reads them, and one more sees their end.
    let mut bytes = Vec::with_capacity(USUAL);
    file.take(LIMIT).read_to_end(&mut bytes).context("read", path)?;
    let damaged = |source| Error::Record { path: path.to_owned(), source };
    let parsed = serde_json::from_slice::<Versioned<T>>(&bytes);
    // A record of a newer program may have another form; its version is what it is refused for.
    let version = match &parsed {
        Ok(versioned) => versioned.version,
        Err(_) => serde_json::from_slice::<VersionOnly>(&bytes).map_err(damaged)?.version,
    };
    if version > VERSION {
        return Err(Error::Version { path: path.to_owned(), version, known: VERSION });
    }
    Ok(Some(parsed.map_err(damaged)?.record))
}

/// Creates a folder of mode 0700 with its parents. Looks first: a mkdir in vain takes the parent's lock.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).context("create", path)
}
