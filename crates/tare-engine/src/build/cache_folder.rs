//! An image layout with one build cache in it. Others may write to the folder: nothing in it is followed, replaced or removed that
//! was not put there as such a cache.

use super::cache_document::ARTIFACT_TYPE;
use super::elsewhere::{limited, verified};
use crate::error::{Error, Result};
use rustix::fs::{FileType, FlockOperation};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tare_spec::Digest;
use tare_spec::image::{Descriptor, Index, MANIFEST_LIMIT, Manifest};
use tare_store::content::Hasher;
use tare_sys::directory::Directory;

const INDEX: &str = "index.json";

/// What a file is called until it is whole. There is one writer, who holds the lock.
const TEMPORARY: &str = ".tare-cache.new";

/// How many caches an old index may name; ours name one.
const MOST_CACHES: usize = 16;

/// The folder, locked.
pub(super) struct CacheFolder {
    path: PathBuf,
    layout: Directory,
    blobs: Directory,
    /// What the cache that was there consists of.
    old: BTreeSet<Digest>,
}

impl CacheFolder {
    /// Opens a folder, or makes one.
    ///
    /// # Errors
    /// That it holds anything else than a cache.
    pub(super) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|source| Error::file("create", path, source))?;
        let layout = Directory::open(path).map_err(|source| Error::file("open", path, source))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&layout, FlockOperation::LockExclusive))
            .map_err(|errno| Error::file("lock", path, errno.into()))?;
        let index = match layout.child_file(OsStr::new(INDEX)).and_then(|file| limited(file, MANIFEST_LIMIT)) {
            Ok(bytes) => Index::parse(&bytes, None).ok().map(|index| index.manifests),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
            Err(error) => return Err(Error::file("read", &path.join(INDEX), error)),
        };
        let is_ours = |entry: &Descriptor| entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE);
        let Some(caches) = index.filter(|entries| entries.iter().all(is_ours)) else {
            let path = path.display();
            return Err(Error::invalid(format!(
                "{path} holds an image layout that is no build cache of tare; name another folder"
            )));
        };
        let blobs = layout.child_or_new(OsStr::new("blobs"), 0o777);
        let blobs = blobs.map_err(|source| Error::file("open", &path.join("blobs"), source))?;
        let mut folder = Self { path: path.to_owned(), layout, blobs, old: BTreeSet::new() };
        for entry in caches.iter().take(MOST_CACHES) {
            // Of one that cannot be read nobody knows what belongs to it.
            let Ok(bytes) = verified(entry, |_| limited(folder.blob(&entry.digest)?, MANIFEST_LIMIT)) else { continue };
            let Ok(manifest) = Manifest::parse(&bytes, None) else { continue };
            if manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE) {
                let parts = manifest.layers.iter().chain([&manifest.config, entry]);
                folder.old.extend(parts.map(|part| part.digest.clone()));
            }
        }
        Ok(folder)
    }

    /// Puts a blob there, unless it is there. One that is damaged is replaced.
    pub(super) fn put(&self, descriptor: &Descriptor, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let digest = &descriptor.digest;
        if self.blob(digest).is_ok_and(|file| is_whole(file, descriptor)) {
            return Ok(());
        }
        let folder = self.blobs.child_or_new(OsStr::new(digest.algorithm().name()), 0o777);
        folder
            .and_then(|folder| write(&folder, OsStr::new(digest.hex()), fill))
            .map_err(|source| Error::file("write", &super::elsewhere::blob_path(&self.path, digest), source))
    }

    /// Has the layout tell of the cache, now that all of it is there, and removes what the one before had and it has not.
    pub(super) fn tell(&self, index: &[u8], kept: &BTreeSet<Digest>) -> Result<()> {
        for (name, bytes) in [("oci-layout", &br#"{"imageLayoutVersion":"1.0.0"}"#[..]), (INDEX, index)] {
            write(&self.layout, OsStr::new(name), |file| file.write_all(bytes))
                .map_err(|source| Error::file("write", &self.path.join(name), source))?;
        }
        for digest in self.old.difference(kept) {
            self.remove(digest)
                .map_err(|source| Error::file("remove", &super::elsewhere::blob_path(&self.path, digest), source))?;
        }
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> io::Result<File> {
        self.blobs.child(OsStr::new(digest.algorithm().name()))?.child_file(OsStr::new(digest.hex()))
    }

    fn remove(&self, digest: &Digest) -> io::Result<()> {
        let (folder, name) = (OsStr::new(digest.algorithm().name()), OsStr::new(digest.hex()));
        if self.blobs.find(folder)?.is_none_or(|found| found.file_type != FileType::Directory) {
            return Ok(());
        }
        let folder = self.blobs.child(folder)?;
        match folder.find(name)? {
            Some(found) if found.file_type == FileType::RegularFile => folder.remove_file(name),
            _ => Ok(()),
        }
    }
}

/// Whether a file is what a descriptor says.
fn is_whole(file: File, descriptor: &Descriptor) -> bool {
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    let (mut file, mut buffer, mut size) = (file.take(descriptor.size + 1), vec![0; 64 << 10], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return size == descriptor.size && hasher.finish() == descriptor.digest,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It is written anew.
            Err(_) => return false,
        }
    }
}

/// Writes a file so that it is there wholly or not at all.
fn write(folder: &Directory, name: &OsStr, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = OsStr::new(TEMPORARY);
    // One that was killed has left it.
    folder.remove_file(temporary)?;
    let mut file = folder.create_file_with(temporary, 0o666)?;
    fill(&mut file).and_then(|()| folder.rename(temporary, name)).inspect_err(|_| {
        // What matters is why it could not be written.
        let _ = folder.remove_file(temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tare_spec::image::media_type;
    use tare_store::sha256;

    fn put(folder: &CacheFolder, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::new(media_type::OCI_LAYER, sha256(bytes), bytes.len() as u64);
        folder.put(&descriptor, |file| file.write_all(bytes))?;
        Ok(descriptor)
    }

    /// Writes a cache of one layer.
    fn export(path: &Path, layer: &[u8]) -> Result<()> {
        let folder = CacheFolder::open(path)?;
        let layer = put(&folder, layer)?;
        let config = put(&folder, b"{}")?;
        let kept = BTreeSet::from([layer.digest.clone(), config.digest.clone()]);
        let manifest = super::super::cache_export::manifest(config, vec![layer]);
        let mut entry = put(&folder, &manifest)?;
        let kept: BTreeSet<Digest> = kept.into_iter().chain([entry.digest.clone()]).collect();
        (entry.media_type, entry.artifact_type) = (media_type::OCI_MANIFEST.to_owned(), Some(ARTIFACT_TYPE.to_owned()));
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        folder.tell(index.to_string().as_bytes(), &kept)
    }

    fn blob(path: &Path, bytes: &[u8]) -> PathBuf {
        super::super::elsewhere::blob_path(path, &sha256(bytes))
    }

    #[test]
    fn only_what_the_cache_before_had_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        export(path, b"one").unwrap();
        let blobs = path.join("blobs/sha256");
        let foreign = blob(path, b"foreign");
        fs::write(&foreign, "foreign").unwrap();
        fs::write(blobs.join("notes"), "").unwrap();
        fs::create_dir(blobs.join("folder")).unwrap();
        // Killed while it wrote.
        fs::write(blobs.join(TEMPORARY), "").unwrap();
        export(path, b"two").unwrap();
        assert!(!blob(path, b"one").exists() && blob(path, b"two").exists() && blob(path, b"{}").exists());
        assert!(foreign.exists() && blobs.join("notes").exists() && blobs.join("folder").exists());
        assert!(!blobs.join(TEMPORARY).exists());
    }

    #[test]
    fn another_layout_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Descriptor::new(media_type::OCI_MANIFEST, sha256(b"image"), 5);
        for index in [serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string(), "{}".to_owned()] {
            fs::write(folder.path().join(INDEX), &index).unwrap();
            let error = export(folder.path(), b"one").unwrap_err().to_string();
            assert!(error.ends_with("is no build cache of tare; name another folder"), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(INDEX)).unwrap(), index);
        }
    }

    #[test]
    fn no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("cache"), folder.path().join("victim"));
        export(&path, b"one").unwrap();
        fs::rename(path.join("blobs/sha256"), &victim).unwrap();
        symlink(&victim, path.join("blobs/sha256")).unwrap();
        assert!(export(&path, b"two").is_err());
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 3);

        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        for name in [TEMPORARY, "oci-layout"] {
            symlink(&file, path.join(name)).unwrap();
        }
        export(&path, b"one").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(!fs::symlink_metadata(path.join("oci-layout")).unwrap().is_symlink());
    }

    #[test]
    fn a_damaged_blob_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        export(folder.path(), b"one").unwrap();
        for damage in ["onf", "one and more", ""] {
            fs::write(blob(folder.path(), b"one"), damage).unwrap();
            export(folder.path(), b"one").unwrap();
            assert_eq!(fs::read(blob(folder.path(), b"one")).unwrap(), b"one");
        }
    }
}
