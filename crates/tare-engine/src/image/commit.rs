//! Images made of containers.

use crate::container::Loaded;
use crate::container::changes::{is_of_runtime, open};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::record::Status;
use std::collections::BTreeMap;
use tare_runtime::cgroup::Cgroup;
use tare_spec::image::{Config, Empty, History, ImageConfig, Manifest};
use tare_spec::{ImageId, Reference};
use tare_store::{LayerWriter, Tree};

/// What to make an image of.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The container.
    pub container: String,
    /// The name that the image gets.
    pub reference: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// Instructions of Dockerfiles that change how containers of the image run.
    pub changes: Vec<String>,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
}

/// What a commit made.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The image.
    pub id: ImageId,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// Why there is no layer.
enum Unwritten {
    /// The container changed nothing.
    Unchanged,
    Failed(Error),
}

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<tare_store::Error> for Unwritten {
    fn from(error: tare_store::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Engine {
    /// Makes an image of a container: its image's layers, and one with what the container changed. What is mounted in
    /// the container is not part of it. Durable when it returns.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchContainer`]; [`crate::Error::NoSuchImage`] when the container's image was removed;
    /// [`crate::Error::Build`] for changes that cannot be; [`crate::Error::Store`].
    pub fn commit(&self, request: &CommitRequest) -> Result<Committed> {
        self.commit_all(request).map_err(|error| {
            let collected = self.collect();
            error.after(collected.err().into_iter().collect())
        })
    }

    fn commit_all(&self, request: &CommitRequest) -> Result<Committed> {
        let reference = request.reference.as_deref().map(image_name).transpose()?;
        let loaded = self.load(&self.resolve(&request.container)?)?;
        let store = self.store()?;
        let lease = store.lease()?;
        let base = self.find_image(&loaded.record.image_id.to_string())?.image;
        let mut manifest = store.manifest(&base.manifest)?;
        let mut image = base.config;
        image.config = Some(tare_build::change(config(&loaded, image.config.take()), &request.changes)?);
        let now = jiff::Timestamp::now().to_string();
        let mut warnings = Vec::new();
        let docker = manifest.media_type.starts_with("application/vnd.docker.");
        let made = match store
            .write_layer(docker, |writer| self.write_changes(&loaded, writer, request.pause, &mut warnings))
        {
            Ok((layer, diff_id, ())) => {
                manifest.layers.push(layer);
                image.rootfs.diff_ids.push(diff_id);
                true
            }
            Err(Unwritten::Unchanged) => false,
            Err(Unwritten::Failed(error)) => return Err(error),
        };
        image.created = Some(now.clone());
        image.author = request.author.clone().filter(|author| !author.is_empty());
        image.history.push(History {
            created: Some(now),
            author: image.author.clone(),
            created_by: Some(loaded.record.command.join(" ")),
            comment: request.message.clone().filter(|message| !message.is_empty()),
            empty_layer: !made,
        });
        let id = self.put_new_image(&image, manifest, reference.as_ref())?;
        drop(lease);
        Ok(Committed { id, warnings })
    }

    /// Writes what the container changed.
    fn write_changes(
        &self,
        loaded: &Loaded,
        writer: &mut LayerWriter,
        pause: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(), Unwritten> {
        let upper = open(&loaded.paths.upper())?;
        let image = self.image_view(loaded)?;
        let lower = image.as_ref().map(|view| &view.root);
        let mut frozen = None;
        if pause && loaded.state.status == Status::Running {
            frozen = Cgroup::open(&loaded.record.id).and_then(|cgroup| cgroup.freeze()).map_err(Error::from)?;
            if frozen.is_none() {
                warnings.push(
                    "the container was not paused, as cgroup v2 is not mounted: files that it wrote meanwhile may be incomplete"
                        .to_owned(),
                );
            }
        }
        // An image without layers lies over nothing; its container's whiteouts are whiteouts all the same.
        let count = Tree { upper: &upper, lower, skip: &is_of_runtime, latest: None }.write(writer)?;
        drop(frozen);
        if count > 0 { Ok(()) } else { Err(Unwritten::Unchanged) }
    }

    /// Stores configuration and manifest of an image whose layers are in the store, and names it.
    pub(super) fn put_new_image(
        &self,
        image: &ImageConfig,
        mut manifest: Manifest,
        reference: Option<&Reference>,
    ) -> Result<ImageId> {
        let store = self.store()?;
        let encode = "image documents are structures of strings and numbers";
        let bytes = serde_json::to_vec(image).expect(encode);
        manifest.config = store.put_bytes(&manifest.config.media_type, &bytes)?;
        // They spoke of the image that this one was made of.
        manifest.annotations = BTreeMap::new();
        let bytes = serde_json::to_vec(&manifest).expect(encode);
        let manifest = store.put_bytes(&manifest.media_type, &bytes)?;
        Ok(store.put_named_image(&manifest.digest, None, reference.map_or(&[], std::slice::from_ref))?.0)
    }
}

/// A name for a new image: with a tag, without a digest.
pub(super) fn image_name(name: &str) -> Result<Reference> {
    let reference = Reference::parse(name)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    Ok(reference.with_default_tag())
}

/// The image's configuration with the container's wishes over it, without what belongs to this container only.
fn config(loaded: &Loaded, of_image: Option<Config>) -> Config {
    let mut config = of_image.unwrap_or_default();
    let record = &loaded.record;
    let spec = &record.spec;
    let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    config.entrypoint = some(&record.entrypoint);
    config.cmd = some(&record.command);
    for variable in &spec.env {
        let Some((name, _)) = variable.split_once('=') else { continue };
        let prefix = format!("{name}=");
        match config.env.iter_mut().find(|other| other.starts_with(&prefix)) {
            Some(other) => other.clone_from(variable),
            None => config.env.push(variable.clone()),
        }
    }
    if let Some(path) = &spec.working_dir {
        config.working_dir.clone_from(path);
    }
    config.user.clone_from(&record.user);
    config.labels.clone_from(&record.labels);
    config.exposed_ports = record.exposed.iter().map(|port| (port.clone(), Empty {})).collect();
    if spec.stop_signal.is_some() {
        config.stop_signal.clone_from(&spec.stop_signal);
    }
    config
}
