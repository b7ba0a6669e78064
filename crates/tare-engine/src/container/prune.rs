//! Removing containers that do not run.

use crate::container::view::{ContainerSummary, ListFilter};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::has_label;
use crate::state::record::Status;
use jiff::Timestamp;
use tare_spec::ContainerId;

/// Which of the containers that do not run to remove: all must hold.
#[derive(Clone, Debug, Default)]
pub struct ContainerPrune {
    /// `name` or `name=value`.
    pub labels: Vec<String>,
    /// Labels that a container must not have.
    pub without_labels: Vec<String>,
    /// What it must have been created before.
    pub until: Option<Timestamp>,
}

/// A container that goes.
#[derive(Clone, Debug)]
pub struct PrunedContainer {
    /// The container.
    pub container: ContainerSummary,
    /// Bytes on the disk that it takes: what it wrote, its log and records.
    pub disk: u64,
}

impl Engine {
    /// What [`Engine::prune_containers`] would remove now.
    ///
    /// # Errors
    /// When records cannot be read.
    pub fn plan_container_prune(&self, prune: &ContainerPrune) -> Result<Vec<PrunedContainer>> {
        let all = self.list(&ListFilter { all: true, ..ListFilter::default() })?.containers;
        let goes = |container: &ContainerSummary| {
            container.state.status != Status::Running
                && prune.until.is_none_or(|until| container.created < until)
                && prune.labels.iter().all(|label| has_label(&container.labels, label))
                && !prune.without_labels.iter().any(|label| has_label(&container.labels, label))
        };
        let planned = all.into_iter().filter(goes).map(|container| {
            let disk = tare_store::occupied(&self.paths.container(&container.id).directory)?;
            Ok(PrunedContainer { container, disk })
        });
        planned.collect()
    }

    /// Removes containers that do not run; one that is started meanwhile stays.
    ///
    /// # Errors
    /// The first failure, after all were tried.
    pub fn prune_containers(&self, prune: &ContainerPrune) -> Result<Vec<(ContainerId, u64)>> {
        let (mut removed, mut errors) = (Vec::new(), Vec::new());
        for PrunedContainer { container, disk } in self.plan_container_prune(prune)? {
            match self.remove(container.id.as_str(), false) {
                Ok(()) => removed.push((container.id, disk)),
                Err(Error::Running { .. } | Error::NoSuchContainer { .. }) => {}
                Err(error) => errors.push(error),
            }
        }
        Error::of_clean_up(errors)?;
        Ok(removed)
    }
}
