//! Images out of one file.

use crate::engine::Engine;
use crate::error::Result;
use tare_spec::Platform;

pub use tare_store::{ArchiveInput, LoadProgress, Loaded};

impl Engine {
    /// Takes the images of an archive in: of `save`, of Docker, Podman or skopeo, or an OCI image layout; plain or
    /// compressed with gzip or zstd. Of an image for several platforms it is the one for `platform`, or for this
    /// machine. Each image is verified and durable when `progress` is told of it.
    ///
    /// # Errors
    /// [`crate::Error::Store`] for what is no such archive, or a damaged or hostile one. Images before the one that
    /// failed stay; nothing is left of that one.
    pub fn load_images(
        &self,
        input: ArchiveInput<'_>,
        platform: Option<&Platform>,
        progress: &dyn LoadProgress,
    ) -> Result<()> {
        let store = self.store()?;
        let lease = store.lease()?;
        let loaded = store.open_archive(input).and_then(|archive| store.load_archive(&archive, platform, progress));
        drop(lease);
        loaded.map_err(|error| {
            let collected = self.collect();
            crate::Error::from(error).after(collected.err().into_iter().collect())
        })
    }
}
