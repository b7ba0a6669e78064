//! Steps that were built elsewhere: `--cache-from`.

use crate::cache::Key;
use crate::executor::{Executor, ExecutorError};
use crate::progress::{Announcer, StepId, StepTitle};
use crate::request::CacheFrom;
use std::collections::BTreeMap;
use tare_spec::DiffId;
use tare_spec::image::Descriptor;

/// What all places together know.
pub(crate) struct Elsewhere<'a> {
    executor: &'a dyn Executor,
    steps: BTreeMap<Key, (&'a CacheFrom, DiffId)>,
}

impl<'a> Elsewhere<'a> {
    /// Asks all places at once. One that cannot be reached, or has nothing, is told and left out: a cache is no reason for a
    /// build to fail.
    pub(crate) fn ask(executor: &'a dyn Executor, places: &'a [CacheFrom], announcer: &Announcer<'_>) -> Self {
        let titles: Vec<_> = places
            .iter()
            .map(|place| StepTitle { name: format!("importing cache from {place}"), lines: None })
            .collect();
        let mut steps = BTreeMap::new();
        if places.is_empty() {
            return Self { executor, steps };
        }
        let first = announcer.planned(&titles);
        let ask =
            |(index, place): (usize, &'a CacheFrom)| announcer.carry_out(first + index, || executor.import(place));
        let answers: Vec<Result<Vec<(Key, DiffId)>, ExecutorError>> = std::thread::scope(|scope| {
            let asking: Vec<_> = places.iter().enumerate().map(|place| scope.spawn(move || ask(place))).collect();
            asking.into_iter().map(|one| one.join().expect("a thread that panicked has said why")).collect()
        });
        for (place, answer) in places.iter().zip(answers) {
            for (key, layer) in answer.unwrap_or_default() {
                // What is named first counts.
                steps.entry(key).or_insert((place, layer));
            }
        }
        Self { executor, steps }
    }

    /// Brings the layer of a step into the store, if somebody has it.
    pub(crate) fn layer(&self, key: &Key, step: StepId) -> Option<Result<(Descriptor, DiffId), ExecutorError>> {
        let (place, layer) = self.steps.get(key)?;
        let descriptor = self.executor.import_layer(place, layer, step);
        Some(descriptor.map(|descriptor| (descriptor, layer.clone())))
    }
}
