//! Small files: read whole, replaced atomically.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Whether a write must outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// File and folder are synced before it is reported.
    Durable,
    /// It may vanish with the power.
    Volatile,
}

/// Reads a file as text; `None` when it does not exist.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::file("read", path, source)),
    }
}

/// Reads a record; `None` when it does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// Replaces a record.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, durability: Durability) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("records have string keys and no failing fields");
    bytes.push(b'\n');
    replace(path, &bytes, 0o600, durability)
}

/// Replaces a file by another in one step: readers see the old content or the new one.
///
/// The temporary name is fixed, so callers hold the lock of what they write.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        if durability == Durability::Durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)
    })();
    if let Err(source) = written {
        // What could not be written must not stay; when it never came to be, there is nothing to remove.
        let _ = std::fs::remove_file(&temporary);
        return Err(Error::file("write", path, source));
    }
    match (durability, path.parent()) {
        (Durability::Durable, Some(parent)) => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Makes names in a folder durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| Error::file("sync", path, source))
}

/// Makes a folder and those above it, readable by their owner only.
///
/// Looks first whether it is there: a mkdir in vain takes the parent's lock.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::file("create", path, source))
}

/// Removes a folder with all that is in it, however deep a container made it; it may be gone already.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    tare_sys::directory::remove_tree(path).map_err(|source| Error::file("remove", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_json(&path, &"old", Durability::Durable).unwrap();
        std::fs::create_dir(dir.path().join("state.new")).unwrap();
        assert!(write_json(&path, &"new", Durability::Durable).is_err());
        assert_eq!(read_json::<String>(&path).unwrap().as_deref(), Some("old"));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        std::fs::write(&path, "{").unwrap();
        assert!(read_json::<String>(&path).unwrap_err().to_string().contains("record.json"));
    }
}
