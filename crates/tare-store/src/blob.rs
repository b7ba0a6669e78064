//! Manifests, indexes and configurations: small documents, kept byte for byte.
//!
//! `ROOT/blobs/<algorithm>/<hex>` enters by rename when digest and size match, and is read-only from then on.
//! See `docs/formats/blobs.md`.

use crate::Store;
use crate::error::{Context, Error, Result, is_full};
use crate::hash::{BlobReader, Hasher};
use crate::temporary::TemporaryFile;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use tare_spec::Digest;
use tare_spec::image::Descriptor;

impl Store {
    /// Stores a blob after verifying its digest and size.
    ///
    /// Atomic, durable and idempotent: one that is there is not read again. It stays only while a [`crate::Lease`]
    /// is held, or once an image refers to it.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Digest`], [`Error::Read`], [`Error::NoSpace`].
    pub fn put_blob(&self, descriptor: &Descriptor, contents: &mut dyn Read) -> Result<()> {
        let target = self.blob_path(&descriptor.digest);
        if target.try_exists().context("inspect", &target)? {
            return Ok(());
        }
        self.replace_blob(descriptor, contents)
    }

    /// Like [`Store::put_blob`], and takes the place of one that is there, which may be damaged: it stays until the new
    /// one is whole.
    ///
    /// # Errors
    /// As [`Store::put_blob`].
    pub fn replace_blob(&self, descriptor: &Descriptor, contents: &mut dyn Read) -> Result<()> {
        let target = self.blob_path(&descriptor.digest);
        let mut file = TemporaryFile::create(&self.path("blobs/temporary"), "blob")?;
        let mut reader = BlobReader::new(contents, descriptor);
        match io::copy(&mut reader, file.file()) {
            Ok(_) => {}
            Err(_) if reader.is_broken() => {} // finish() has the cause
            Err(source) if is_full(&source) => {
                let what = format!("blob {}", descriptor.digest);
                return Err(Error::NoSpace { what, path: self.path("blobs"), source });
            }
            result => result.map(drop).context("write", file.path())?,
        }
        reader.finish()?;
        file.persist(&target)
    }

    /// Stores bytes under their own SHA-256 digest and returns their descriptor.
    ///
    /// # Errors
    /// As [`Store::put_blob`].
    pub fn put_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::new(media_type, crate::sha256(bytes), bytes.len() as u64);
        self.put_blob(&descriptor, &mut &*bytes)?;
        Ok(descriptor)
    }

    /// Bytes that a blob occupies on the disk; 0 for one that is not there.
    ///
    /// # Errors
    /// Of the disk.
    pub fn blob_disk(&self, digest: &Digest) -> Result<u64> {
        crate::occupied(&self.blob_path(digest))
    }

    /// Reads a blob of at most `limit` bytes and verifies it again: disks forget, too.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::BlobLimit`], [`Error::Damaged`].
    pub fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::BlobMissing { digest: digest.clone() });
            }
            result => result.context("open", &path)?,
        };
        let size = file.metadata().context("inspect", &path)?.len();
        if size > limit {
            return Err(Error::BlobLimit { digest: digest.clone(), size, limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(limit).read_to_end(&mut bytes).context("read", &path)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        match hasher.finish() {
            actual if actual == *digest => Ok(bytes),
            actual => Err(Error::Damaged { digest: digest.clone(), actual }),
        }
    }

    /// A layer that is being written, to be applied afterwards: spooled to the disk, gone when dropped.
    ///
    /// # Errors
    /// Of the disk.
    pub fn spool(&self) -> Result<Spool> {
        Ok(Spool { file: TemporaryFile::create(&self.path("blobs/temporary"), "layer")?, size: 0 })
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<()> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", &path),
        }
    }
}

/// See [`Store::spool`].
pub struct Spool {
    file: TemporaryFile,
    size: u64,
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.file().write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spool {
    /// The descriptor of what was written.
    ///
    /// # Errors
    /// Of reading it back.
    pub fn descriptor(&mut self, media_type: &str) -> Result<Descriptor> {
        let mut hasher = Hasher::new(tare_spec::digest::Algorithm::Sha256);
        let mut buffer = vec![0; 128 * 1024];
        let mut file = self.rewound()?;
        loop {
            match file.read(&mut buffer).context("read", self.file.path())? {
                0 => return Ok(Descriptor::new(media_type, hasher.finish(), self.size)),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// What was written, from its start.
    ///
    /// # Errors
    /// Of seeking.
    pub fn rewound(&mut self) -> Result<File> {
        let copy = self.file.file().rewind().and_then(|()| self.file.file().try_clone());
        copy.context("rewind", self.file.path())
    }
}
