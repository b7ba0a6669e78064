//! The layers that something needs besides images.

use crate::engine::Engine;
use crate::error::Result;
use crate::state::file;
use crate::state::record::ContainerRecord;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use tare_build::cache::{Cache, CacheEntry, Key};
use tare_build::executor::Folders;
use tare_spec::{ContainerId, DiffId};
use tare_store::Collected;

/// What is about to be removed: what it needs is needed no more.
#[derive(Clone, Debug, Default)]
pub struct Without {
    /// Containers.
    pub containers: BTreeSet<ContainerId>,
    /// Steps of builds in the cache.
    pub steps: BTreeSet<Key>,
    /// All of them.
    pub all_steps: bool,
}

/// The layers that containers and cached steps of builds need. Read when it is first asked for: the store does so when nobody can
/// take more into use.
pub(crate) struct UsedLayers<'a> {
    engine: &'a Engine,
    without: &'a Without,
    /// `None` where a record cannot be read: then any layer may be in use.
    layers: OnceCell<Option<BTreeSet<DiffId>>>,
}

impl<'a> UsedLayers<'a> {
    pub(crate) fn new(engine: &'a Engine, without: &'a Without) -> Self {
        Self { engine, without, layers: OnceCell::new() }
    }

    pub(crate) fn contains(&self, layer: &DiffId) -> bool {
        self.layers.get_or_init(|| self.read()).as_ref().is_none_or(|layers| layers.contains(layer))
    }

    fn read(&self) -> Option<BTreeSet<DiffId>> {
        let mut layers = BTreeSet::new();
        for id in self.engine.container_ids().ok()?.into_iter().filter(|id| !self.without.containers.contains(id)) {
            let record = file::read_json::<ContainerRecord>(&self.engine.paths.container(&id).record()).ok()?;
            layers.extend(record.into_iter().flat_map(|record| record.layers));
        }
        if self.without.all_steps {
            return Some(layers);
        }
        let entries = Cache::existing(&self.engine.build_folders()).entries().ok()?;
        let kept = entries.into_iter().filter(|entry| !self.without.steps.contains(&entry.record.key));
        // A layer that came from elsewhere stays in the form in which it came, too: a push of the result needs it.
        layers.extend(kept.flat_map(|CacheEntry { record, .. }| {
            let blobs = [Some(record.layer), record.compressed].into_iter().flatten();
            blobs.map(|blob| DiffId(blob.digest)).chain([record.diff_id]).collect::<Vec<_>>()
        }));
        Some(layers)
    }
}

impl Engine {
    /// Removes all content that nothing needs.
    pub(crate) fn collect(&self) -> Result<Collected> {
        let without = Without::default();
        let used = UsedLayers::new(self, &without);
        Ok(self.store()?.collect(&|layer| used.contains(layer))?)
    }

    pub(crate) fn build_folders(&self) -> Folders {
        Folders::new(&self.paths.root)
    }
}
