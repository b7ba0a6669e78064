//! Images made of a tree of files in a tar archive.

use super::commit::image_name;
use crate::engine::Engine;
use crate::error::Result;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use tare_registry::{Client, ClientOptions};
use tare_spec::image::{Config, Descriptor, History, ImageConfig, Manifest, RootFs, media_type};
use tare_spec::{ImageId, Platform};

/// Where an archive to import comes from.
#[derive(Debug)]
pub enum ImportSource {
    /// An open file or pipe, and what it is called.
    File(File, String),
    /// An `http` or `https` URL.
    Url(String),
}

/// What to make an image of.
#[derive(Debug)]
pub struct ImportRequest {
    /// The archive.
    pub source: ImportSource,
    /// The name that the image gets.
    pub reference: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// Instructions of Dockerfiles that say how containers of the image run.
    pub changes: Vec<String>,
    /// What the files are for; the host's when absent.
    pub platform: Option<Platform>,
}

impl Engine {
    /// Makes an image of one layer out of a tar archive of files, plain or compressed with gzip or zstd, which is kept as
    /// it is. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::Build`] for changes that cannot be; [`Error::Store`] for what is no archive of files, or a hostile one;
    /// [`Error::Registry`] for a URL that cannot be read. Nothing is left then.
    pub fn import(&self, request: ImportRequest) -> Result<ImageId> {
        let reference = request.reference.as_deref().map(image_name).transpose()?;
        let config = tare_build::change(Config::default(), &request.changes)?;
        let store = self.store()?;
        let lease = store.lease()?;
        let imported = self.import_held(request, config, reference.as_ref());
        drop(lease);
        imported.map_err(|error| {
            let collected = self.collect();
            error.after(collected.err().into_iter().collect())
        })
    }

    fn import_held(
        &self,
        request: ImportRequest,
        config: Config,
        reference: Option<&tare_spec::Reference>,
    ) -> Result<ImageId> {
        let store = self.store()?;
        let (mut archive, name): (Box<dyn Read>, String) = match request.source {
            ImportSource::File(file, name) => (Box::new(file), name),
            ImportSource::Url(url) => (Client::new(ClientOptions::of_host()?).download(&url)?, url),
        };
        let (layer, diff_id) = store.ingest_layer(&mut *archive, false)?;
        let platform = request.platform.unwrap_or_else(Platform::host);
        let now = jiff::Timestamp::now().to_string();
        let message = request.message.filter(|message| !message.is_empty());
        let image = ImageConfig {
            created: Some(now.clone()),
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: Some(config),
            rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
            history: vec![History {
                created: Some(now),
                comment: Some(message.unwrap_or_else(|| format!("Imported from {name}"))),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, layer.digest.clone(), 0),
            layers: vec![layer],
            annotations: BTreeMap::new(),
        };
        self.put_new_image(&image, manifest, reference)
    }
}
