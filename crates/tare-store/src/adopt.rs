//! Layers that come without a descriptor: what they are is found out here.

use crate::archive::ReadAt;
use crate::hash::Hasher;
use crate::layer;
use crate::tar::TarError;
use crate::{BlobSource, Error, Result, Spool, Store};
use std::fs::File;
use std::io::{self, Read};
use tare_spec::DiffId;
use tare_spec::digest::Algorithm;
use tare_spec::image::{Compression, Descriptor, media_type};

impl Store {
    /// Takes a layer in that was spooled: an archive, plain or compressed with gzip or zstd, and keeps it as it is.
    /// Returns its descriptor, with Docker's media types where the image's others are Docker's, and its diff ID.
    ///
    /// The caller holds a [`crate::Lease`].
    ///
    /// # Errors
    /// Those of [`Store::take_layer`].
    pub fn adopt_layer(&self, spool: &mut Spool, docker: bool) -> Result<(Descriptor, DiffId)> {
        let mut layer = spool.descriptor(media_type::OCI_LAYER)?;
        let file = spool.rewound()?;
        let unreadable =
            |source| Error::Archive { layer: layer.digest.to_string(), source: TarError::Read { offset: 0, source } };
        let mut magic = [0; 6];
        let count = ReadAt::read_at(&file, &mut magic, 0).map_err(unreadable)?;
        let compression = layer::compression(&magic[..count])
            .map_err(|compression| Error::Compression { layer: layer.digest.to_string(), compression })?;
        let diff_id = match compression {
            Compression::None => DiffId(layer.digest.clone()),
            Compression::Gzip | Compression::Zstd => diff_id(&layer, spool.rewound()?)?,
        };
        layer.media_type = match (compression, docker) {
            (Compression::None, false) => media_type::OCI_LAYER,
            (Compression::Gzip, false) => media_type::OCI_LAYER_GZIP,
            (Compression::Zstd, false) => media_type::OCI_LAYER_ZSTD,
            (Compression::None, true) => media_type::DOCKER_LAYER,
            (Compression::Gzip, true) => media_type::DOCKER_LAYER_GZIP,
            (Compression::Zstd, true) => media_type::DOCKER_LAYER_ZSTD,
        }
        .to_owned();
        self.take_layer(&layer, &diff_id, &Whole(&file), &|_| {})?;
        Ok((layer, diff_id))
    }
}

/// The digest of what a layer inflates to.
fn diff_id(layer: &Descriptor, file: File) -> Result<DiffId> {
    let unreadable =
        |source| Error::Archive { layer: layer.digest.to_string(), source: TarError::Read { offset: 0, source } };
    let limit = layer::Limits::default().inflated(layer.size);
    let mut contents = layer::inflated(layer, file)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let (mut buffer, mut total) = (vec![0; 256 << 10], 0_u64);
    loop {
        match contents.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(DiffId(hasher.finish())),
            count => {
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
        }
        if total > limit {
            return Err(Error::Bomb { layer: layer.digest.to_string(), size: layer.size, limit, unit: "bytes" });
        }
    }
}

/// A file as the source of one blob.
struct Whole<'a>(&'a File);

impl BlobSource for Whole<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(crate::archive::Cursor::new(self.0, offset)))
    }
}
