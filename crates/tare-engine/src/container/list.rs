//! Lists of containers, and all of one.

use crate::container::Loaded;
use crate::container::view::{ContainerDetails, ContainerSummary, ListFilter, Listing};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::record::{ContainerState, Status};
use std::collections::BTreeSet;
use tare_spec::ImageId;

impl ContainerState {
    /// The state in Docker's words, as `--filter status=` takes it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.status {
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "exited",
        }
    }
}

impl Engine {
    /// Containers, newest first. One whose records are damaged does not hide the others.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a status that does not exist; otherwise when the folder cannot be read.
    pub fn list(&self, filter: &ListFilter) -> Result<Listing> {
        const WORDS: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if let Some(status) = filter.statuses.iter().find(|status| !WORDS.contains(&status.as_str())) {
            return Err(Error::invalid(format!("invalid filter 'status={status}'")));
        }
        let ancestors = self.ancestors(filter)?;
        let all = filter.all || filter.last.is_some() || !filter.statuses.is_empty() || !filter.exit_codes.is_empty();
        let mut listing = Listing::default();
        for id in self.container_ids()? {
            let loaded = match self.load(&id) {
                // Removed since the names were read.
                Err(Error::NoSuchContainer { .. }) => continue,
                Err(error) => {
                    listing.unreadable.push(error);
                    continue;
                }
                Ok(loaded) => loaded,
            };
            if (all || loaded.state.status == Status::Running) && matches(filter, &ancestors, &loaded) {
                listing.containers.push(summary(loaded));
            }
        }
        listing.containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        listing.containers.truncate(filter.last.unwrap_or(usize::MAX));
        Ok(listing)
    }

    /// Ids of the images that `ancestor` names.
    fn ancestors(&self, filter: &ListFilter) -> Result<BTreeSet<ImageId>> {
        let mut ids = BTreeSet::new();
        for name in &filter.ancestors {
            match self.image(name) {
                Ok(image) => {
                    ids.insert(image.id);
                }
                Err(Error::NoSuchImage { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ids)
    }

    /// All that is known of a container.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousId`].
    pub fn inspect(&self, name: &str) -> Result<ContainerDetails> {
        let Loaded { record, state, paths, .. } = self.load(&self.resolve(name)?)?;
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        Ok(ContainerDetails {
            log_path: text(paths.log()),
            etc_paths: [text(paths.resolv_conf()), text(paths.hostname()), text(paths.hosts())],
            record,
            state,
        })
    }
}

/// Any value of a kind matches; all kinds must.
fn matches(filter: &ListFilter, ancestors: &BTreeSet<ImageId>, loaded: &Loaded) -> bool {
    fn any<T>(values: &[T], matches: impl Fn(&T) -> bool) -> bool {
        values.is_empty() || values.iter().any(matches)
    }
    let Loaded { record, state, .. } = loaded;
    any(&filter.names, |name| {
        let name = name.strip_prefix('^').unwrap_or(name);
        let (name, whole) = name.strip_suffix('$').map_or((name, false), |name| (name, true));
        let name = name.strip_prefix('/').unwrap_or(name);
        if whole { record.name == name } else { record.name.contains(name) }
    }) && any(&filter.ids, |id| record.id.as_str().starts_with(id.as_str()))
        && any(&filter.statuses, |status| state.word() == status)
        && any(&filter.exit_codes, |code| state.status == Status::Stopped && state.exit_code == *code)
        && filter.labels.iter().all(|label| match label.split_once('=') {
            Some((key, value)) => record.labels.get(key).is_some_and(|found| found == value),
            None => record.labels.contains_key(label),
        })
        && (filter.ancestors.is_empty() || ancestors.contains(&record.image_id))
}

fn summary(loaded: Loaded) -> ContainerSummary {
    let Loaded { record, state, .. } = loaded;
    ContainerSummary {
        command: record.args(),
        ports: state.run.as_ref().map(|run| run.ports.clone()).unwrap_or_default(),
        exposed: record.exposed,
        id: record.id,
        name: record.name,
        image: record.spec.image.clone(),
        image_id: record.image_id,
        created: record.created,
        labels: record.labels,
        spec: record.spec,
        state,
    }
}
