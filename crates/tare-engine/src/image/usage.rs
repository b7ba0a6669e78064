//! What images and containers take on the disk.

use super::ImageSummary;
use super::prune::ImagePrune;
use crate::container::view::{ContainerSummary, ListFilter};
use crate::engine::Engine;
use crate::error::Result;
use crate::state::record::Status;
use std::collections::BTreeMap;
use tare_spec::image::Manifest;
use tare_spec::{DiffId, Digest};

/// What everything takes: `images.size`, `containers.size`, `builds` and `registry` are together as many bytes as `du` counts in
/// the root directory.
#[derive(Clone, Debug)]
pub struct DiskUsage {
    /// Images: layers, blobs and records, unfinished pulls included.
    pub images: Usage<ImageUsage>,
    /// Containers: what they wrote, their logs, records and networks.
    pub containers: Usage<ContainerUsage>,
    /// The build cache: records, folders of mounts, and the layers that nothing else has.
    pub builds: u64,
    /// What is kept for others by a registry whose content is below the root directory, as it is unless told otherwise.
    pub registry: u64,
    /// Of what images take: what interrupted pulls have got so far.
    pub partial: u64,
}

/// What objects of a kind take.
#[derive(Clone, Debug)]
pub struct Usage<T> {
    /// The objects.
    pub items: Vec<T>,
    /// How many of them are in use: images that containers have, containers that run.
    pub active: usize,
    /// Bytes on the disk.
    pub size: u64,
    /// Bytes that removing all that is not in use would free.
    pub reclaimable: u64,
}

/// What an image takes.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: ImageSummary,
    /// Bytes on the disk of its layers and blobs.
    pub size: u64,
    /// Of these, what other images have, too.
    pub shared: u64,
    /// How many containers it has.
    pub containers: usize,
}

/// What a container takes.
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    /// The container.
    pub container: ContainerSummary,
    /// Bytes on the disk: what it wrote, its log and records.
    pub size: u64,
}

impl Engine {
    /// What everything takes on the disk.
    ///
    /// # Errors
    /// When records or folders cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let store = self.store()?;
        let usage = store.disk_usage()?;
        let users = self.image_users()?;
        let mut parts: Vec<(ImageSummary, Parts)> = Vec::new();
        let mut holders = Holders::default();
        for image in self.images(&super::ImageFilter::default())? {
            // An image whose manifest is damaged has its layers all the same; `system check` tells.
            let part = Parts::new(&image, store.manifest(&image.manifest).ok().as_ref());
            holders.add(&part);
            parts.push((image, part));
        }
        let of_builds: u64 = self.build_layers()?;
        let items: Vec<ImageUsage> = parts
            .into_iter()
            .map(|(image, part)| {
                let containers = users.get(&image.id).copied().unwrap_or(0);
                let blobs = part.blobs.iter().map(|blob| (usage.blobs.get(blob), holders.blobs.get(blob)));
                let layers = part.layers.iter().map(|layer| (usage.layers.get(layer), holders.layers.get(layer)));
                let (mut size, mut shared) = (0, 0);
                for (disk, holders) in blobs.chain(layers) {
                    let disk = disk.copied().unwrap_or(0);
                    size += disk;
                    shared += if holders.is_some_and(|&count| count > 1) { disk } else { 0 };
                }
                ImageUsage { image, size, shared, containers }
            })
            .collect();
        let prune = ImagePrune { all: true, ..ImagePrune::default() };
        let images = Usage {
            active: items.iter().filter(|item| item.containers > 0).count(),
            size: usage.total.saturating_sub(of_builds),
            reclaimable: self.plan_image_prune(&prune)?.disk(),
            items,
        };
        let total = tare_store::occupied(&self.paths.root)?;
        let registry = tare_store::occupied(&self.paths.registry())?;
        let folder = tare_store::occupied(self.build_folders().root())?;
        let containers = self.container_usage(total.saturating_sub(usage.total + registry + folder))?;
        Ok(DiskUsage { images, containers, builds: folder + of_builds, registry, partial: usage.partial })
    }

    fn container_usage(&self, size: u64) -> Result<Usage<ContainerUsage>> {
        let mut items = Vec::new();
        for container in self.list(&ListFilter { all: true, ..ListFilter::default() })?.containers {
            let size = tare_store::occupied(&self.paths.container(&container.id).directory)?;
            items.push(ContainerUsage { container, size });
        }
        let runs = |item: &&ContainerUsage| item.container.state.status == Status::Running;
        let active = items.iter().filter(runs).count();
        let reclaimable = items.iter().filter(|item| !runs(item)).map(|item| item.size).sum();
        Ok(Usage { items, active, size, reclaimable })
    }
}

/// What an image consists of, each thing once.
struct Parts {
    layers: Vec<DiffId>,
    blobs: Vec<Digest>,
}

impl Parts {
    fn new(image: &ImageSummary, manifest: Option<&Manifest>) -> Self {
        let mut layers = image.layers.clone();
        let mut blobs = vec![image.id.0.clone(), image.manifest.clone()];
        blobs.extend(image.index.clone());
        blobs.extend(manifest.into_iter().flat_map(|manifest| &manifest.layers).map(|layer| layer.digest.clone()));
        layers.sort();
        layers.dedup();
        blobs.sort();
        blobs.dedup();
        Self { layers, blobs }
    }
}

/// How many images have each thing.
#[derive(Default)]
struct Holders {
    layers: BTreeMap<DiffId, usize>,
    blobs: BTreeMap<Digest, usize>,
}

impl Holders {
    fn add(&mut self, parts: &Parts) {
        for layer in &parts.layers {
            *self.layers.entry(layer.clone()).or_default() += 1;
        }
        for blob in &parts.blobs {
            *self.blobs.entry(blob.clone()).or_default() += 1;
        }
    }
}
