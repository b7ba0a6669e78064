//! Carries a plan out: each step once what it needs is there, several at once, and only those that were never done before.

mod copy;
mod directory;
mod mounts;
mod run;
mod view;

pub(crate) use view::View;

use crate::cache::{Cache, Key, Parts, Record, Wait};
use crate::context::Context;
use crate::dockerfile::Lines;
use crate::elsewhere::Elsewhere;
use crate::error::{Error, Result};
use crate::executor::{BaseImage, Executor, Folders};
use crate::files::FilesError;
use crate::plan::{Action, Origin, Plan, Step};
use crate::progress::{Event, Progress, StepId};
use crate::request::{BuildRequest, NoCache};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest, ErrorKind, Platform};
use tare_store::tar::Time;
use tare_store::{LayerWriter, Store};

/// How many steps run at once at least, however few processors there are: most of them wait for something.
const WORKERS: usize = 4;

/// A layer of an image in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: DiffId,
}

/// What a step came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// All layers up to it, the lowest first.
    pub(crate) layers: Vec<Layer>,
    /// What decided it.
    pub(crate) parts: Parts,
    /// The files that it copied, with a digest each.
    pub(crate) files: BTreeMap<String, Digest>,
    /// Whether it was known.
    pub(crate) cached: bool,
}

impl Outcome {
    pub(crate) fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }
}

/// Everything that steps are carried out with.
pub(crate) struct Solver<'a> {
    pub(crate) store: &'a Store,
    pub(crate) executor: &'a dyn Executor,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) request: &'a BuildRequest,
    pub(crate) context: &'a Context,
    pub(crate) cache: &'a Cache,
    pub(crate) elsewhere: &'a Elsewhere<'a>,
    pub(crate) folders: &'a Folders,
    pub(crate) images: &'a Mutex<BTreeMap<(String, Platform), BaseImage>>,
    pub(crate) plan: &'a Plan,
    /// The id of its first step in events.
    pub(crate) first: StepId,
}

/// Which steps are done, under way, or given up.
struct Progression {
    outcomes: Vec<Option<Outcome>>,
    begun: Vec<bool>,
    failure: Option<Error>,
}

impl Solver<'_> {
    /// Does all steps.
    ///
    /// # Errors
    /// The first failure; steps under way were ended then, and no others begun.
    pub(crate) fn solve(&self) -> Result<Vec<Outcome>> {
        let count = self.plan.steps.len();
        let progression =
            Mutex::new(Progression { outcomes: vec![None; count], begun: vec![false; count], failure: None });
        let changed = Condvar::new();
        let needs: Vec<_> = self.plan.steps.iter().map(Step::needs).collect();
        let work = || {
            let mut state = lock(&progression);
            loop {
                let ready =
                    |id: &StepId| !state.begun[*id] && needs[*id].iter().all(|need| state.outcomes[*need].is_some());
                if state.failure.is_some() || state.begun.iter().all(|begun| *begun) {
                    return;
                }
                let Some(id) = (0..count).find(ready) else {
                    // Somebody is at work on what the others need.
                    state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                state.begun[id] = true;
                let known: BTreeMap<StepId, Outcome> =
                    needs[id].iter().filter_map(|need| Some((*need, state.outcomes[*need].clone()?))).collect();
                drop(state);
                let outcome = self.step(id, &known);
                state = lock(&progression);
                match outcome {
                    Ok(outcome) => state.outcomes[id] = Some(outcome),
                    Err(error) => {
                        if state.failure.is_none() {
                            state.failure = Some(error);
                            self.executor.cancel();
                        }
                    }
                }
                changed.notify_all();
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).max(WORKERS).min(count);
        if workers <= 1 {
            work();
        } else {
            std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
        }
        let Progression { outcomes, failure, .. } = progression.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(error) => Err(error),
            None => Ok(outcomes.into_iter().map(|outcome| outcome.expect("without a failure all were done")).collect()),
        }
    }

    fn step(&self, id: StepId, known: &BTreeMap<StepId, Outcome>) -> Result<Outcome> {
        let started = Instant::now();
        let step = &self.plan.steps[id];
        let id = self.first + id;
        self.progress.event(Event::Started(id));
        let job = Job { solver: self, id, step, known };
        match job.outcome() {
            Ok(outcome) => {
                // An image is neither made nor found in the cache: it is there.
                let event = match step.action {
                    Action::Run(_) | Action::Copy(_) | Action::Directory { .. } if outcome.cached => Event::Cached(id),
                    _ => Event::Done { step: id, took: started.elapsed() },
                };
                self.progress.event(event);
                Ok(outcome)
            }
            Err(error) if error.is_cancelled() => {
                self.progress.event(Event::Cancelled(id));
                Err(error)
            }
            Err(error) => {
                let text = crate::error::text(&error);
                self.progress.event(Event::Failed { step: id, error: &text, took: started.elapsed() });
                Err(error)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked takes the build down by itself when it is joined.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One step under way.
struct Job<'a> {
    solver: &'a Solver<'a>,
    /// In events.
    id: StepId,
    step: &'a Step,
    known: &'a BTreeMap<StepId, Outcome>,
}

/// Something that makes a layer, unless it has been made.
trait Work {
    /// What decides its result, and the files that are part of that.
    fn decide(&mut self, parts: &mut Parts) -> Result<BTreeMap<String, Digest>>;

    /// Makes the layer.
    fn carry_out(&mut self) -> Result<(Descriptor, DiffId)>;
}

impl<'a> Job<'a> {
    fn outcome(&self) -> Result<Outcome> {
        match &self.step.action {
            Action::Image { name } => self.image(name),
            Action::Run(run) => self.cached(&mut run::Running::new(self, run)),
            Action::Copy(copy) => self.cached(&mut copy::Copying::new(self, copy)?),
            Action::Directory { path, owner } => self.cached(&mut directory::Making { job: self, path, owner }),
        }
    }

    fn image(&self, name: &str) -> Result<Outcome> {
        let images = lock(self.solver.images);
        let image = images.get(&(name.to_owned(), self.step.platform.clone()));
        let image = image.expect("planning has asked for every image of the plan");
        let layers = image.layers.iter().zip(&image.config.rootfs.diff_ids);
        let layers =
            layers.map(|(descriptor, diff_id)| Layer { descriptor: descriptor.clone(), diff_id: diff_id.clone() });
        let mut parts = Parts::default();
        parts.add("image", &image.config.rootfs.diff_ids);
        Ok(Outcome { layers: layers.collect(), parts, files: BTreeMap::new(), cached: true })
    }

    /// Looks a layer up or has it made.
    fn cached(&self, work: &mut dyn Work) -> Result<Outcome> {
        let solver = self.solver;
        let mut parts = Parts::default();
        if let Some(time) = self.step.time {
            parts.add_plain("time", time.to_string());
        }
        let files = work.decide(&mut parts)?;
        let key = parts.key();
        let below = self.below();
        let done = |record: Record, cached| {
            let mut layers = below.layers.clone();
            layers.push(Layer { descriptor: record.layer, diff_id: record.diff_id });
            Outcome { layers, parts: parts.clone(), files: files.clone(), cached }
        };
        let anew = match &solver.request.no_cache {
            NoCache::Changed => false,
            NoCache::All => true,
            NoCache::Stages(stages) => stages.contains(&self.step.stage),
        };
        let look = || -> Result<Option<Record>> {
            let Some(record) = solver.cache.get(&key) else { return Ok(None) };
            Ok(solver.store.layers().contains(&record.diff_id)?.then_some(record))
        };
        if !anew && let Some(record) = look()? {
            return Ok(done(record, true));
        }
        let _claim = self.waiting("another build that does the same", |wait| solver.cache.claim(&key, wait))?;
        // Whoever had the claim before has done it.
        if !anew && let Some(record) = look()? {
            return Ok(done(record, true));
        }
        let name = &self.step.title.name;
        if !anew && let Some((layer, diff_id)) = self.built_elsewhere(&key) {
            let record = Record::new(key, layer, diff_id, name);
            solver.cache.put(&record)?;
            return Ok(done(record, true));
        }
        if solver.executor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let (layer, diff_id) = work.carry_out()?;
        let record = Record::new(key, layer, diff_id, name);
        solver.cache.put(&record)?;
        Ok(done(record, false))
    }

    /// What somebody else has built, if it can be had.
    fn built_elsewhere(&self, key: &Key) -> Option<(Descriptor, DiffId)> {
        match self.solver.elsewhere.layer(key, self.id)? {
            Ok(layer) => Some(layer),
            Err(error) if error.kind == ErrorKind::Cancelled => None,
            Err(error) => {
                let text = format!("the cached result cannot be used: {}\n", crate::error::text(&error));
                self.solver.progress.event(Event::Output { step: self.id, stderr: true, bytes: text.as_bytes() });
                None
            }
        }
    }

    /// What the step starts from.
    fn below(&self) -> Outcome {
        self.step.parent.and_then(|parent| self.known.get(&parent)).cloned().unwrap_or_default()
    }
}

impl Job<'_> {
    /// Does something that may have to wait for somebody else. That is told, and ends when the build has failed elsewhere.
    fn waiting<T>(&self, what: &str, act: impl FnOnce(&Wait<'_>) -> Result<T>) -> Result<T> {
        let Solver { progress, executor, .. } = self.solver;
        act(&Wait {
            begins: &|| progress.event(Event::Waiting { step: self.id, what }),
            ends: &|| progress.event(Event::Started(self.id)),
            is_cancelled: &|| executor.is_cancelled(),
        })
    }

    /// All files of another step.
    fn view_of(&self, step: StepId) -> Result<view::View> {
        let layers = self.known.get(&step).map(Outcome::diff_ids).unwrap_or_default();
        view::View::new(self.solver.store, &layers)
    }

    /// The time of what has no other.
    fn time(&self) -> Time {
        let time = self.step.time.unwrap_or_else(Timestamp::now);
        Time { seconds: time.as_second(), nanoseconds: 0 }
    }

    /// Why files could not be chosen there.
    fn unchosen(&self, from: &Origin, error: FilesError) -> Error {
        let lines = self.lines();
        let place = match (from, error) {
            // What a rule leaves out is there, and the rule says more.
            (Origin::Named(name), FilesError::NotFound { path, hidden: None }) => {
                (format!("build context {name}"), path)
            }
            (Origin::Step(step), FilesError::NotFound { path, .. }) => {
                let step = &self.solver.plan.steps[*step];
                let place = match &step.action {
                    Action::Image { name } => format!("image {name}"),
                    _ => format!("stage {}", step.stage),
                };
                (place, path)
            }
            (Origin::Nothing, FilesError::NotFound { path, .. }) => ("a stage without files".to_owned(), path),
            (_, error) => return Error::Files { lines, error: Box::new(error) },
        };
        Error::NotFoundIn { lines, place: place.0, path: place.1 }
    }

    fn lines(&self) -> Lines {
        self.step.title.lines.unwrap_or_default()
    }

    /// Writes a layer into the store.
    fn layer(&self, write: impl FnOnce(&mut LayerWriter) -> Result<()>) -> Result<(Descriptor, DiffId)> {
        let (layer, diff_id, ()) = self.solver.store.write_layer(false, write)?;
        Ok((layer, diff_id))
    }
}
