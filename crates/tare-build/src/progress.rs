//! What happens in a build, as it happens.

use crate::dockerfile::{Lines, Warning};
use crate::executor::ExecutorError;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tare_spec::ErrorKind;

/// A step by its place in a plan, and in events by its place in all plans so far.
pub type StepId = usize;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Steps that will be looked at, in order. Their ids follow those of all that were planned before.
    Planned(&'a [StepTitle]),
    /// A step began: its result is looked up, or it runs.
    Started(StepId),
    /// The step's result was there: it does not run.
    Cached(StepId),
    /// The step waits for somebody else; when it goes on it starts again.
    Waiting {
        /// The step.
        step: StepId,
        /// What for: `another build that does the same`.
        what: &'a str,
    },
    /// What the step's process writes, as it comes.
    Output {
        /// The step.
        step: StepId,
        /// Whether it came by standard error.
        stderr: bool,
        /// Not necessarily whole lines.
        bytes: &'a [u8],
    },
    /// Bytes of something large that the step moves: `total` is 0 where it is not known.
    Bytes {
        /// The step.
        step: StepId,
        /// `sha256:…` of a layer, or what it is.
        what: &'a str,
        /// So far.
        current: u64,
        /// In the end.
        total: u64,
    },
    /// The step is done.
    Done {
        /// The step.
        step: StepId,
        /// Time since it started.
        took: Duration,
    },
    /// The step failed; the build's error tells more.
    Failed {
        /// The step.
        step: StepId,
        /// Why.
        error: &'a str,
        /// Time since it started.
        took: Duration,
    },
    /// The step was given up because another one failed.
    Cancelled(StepId),
    /// Something is probably not meant.
    Warning(&'a Warning),
}

/// How a step is shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StepTitle {
    /// `[internal] load build context`, `[build 2/5] RUN make`, `exporting layers`.
    pub name: String,
    /// Where its statement stands; absent for what no statement asked for.
    pub lines: Option<Lines>,
}

/// Numbers the steps of a build for those who are told of them.
pub struct Announcer<'a> {
    progress: &'a dyn Progress,
    next: Mutex<StepId>,
}

impl<'a> Announcer<'a> {
    /// Of a build that begins.
    #[must_use]
    pub fn new(progress: &'a dyn Progress) -> Self {
        Self { progress, next: Mutex::new(0) }
    }

    /// Tells of steps to come; returns the id of the first.
    pub fn planned(&self, titles: &[StepTitle]) -> StepId {
        // Told in the order of their ids.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress.event(Event::Planned(titles));
        let first = *next;
        *next += titles.len();
        first
    }

    /// Tells how a step that was announced goes.
    ///
    /// # Errors
    /// What `act` returns.
    pub fn carry_out<T, E: std::error::Error + 'static>(
        &self,
        step: StepId,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let started = Instant::now();
        self.progress.event(Event::Started(step));
        let outcome = act();
        match &outcome {
            Ok(_) => self.progress.event(Event::Done { step, took: started.elapsed() }),
            Err(error) if is_cancelled(error) => self.progress.event(Event::Cancelled(step)),
            Err(error) => {
                let text = crate::error::text(error);
                self.progress.event(Event::Failed { step, error: &text, took: started.elapsed() });
            }
        }
        outcome
    }
}

impl Progress for Announcer<'_> {
    fn event(&self, event: Event<'_>) {
        self.progress.event(event);
    }
}

/// Whether the executor gave up because the build has failed elsewhere.
fn is_cancelled(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<ExecutorError>().is_some_and(|error| error.kind == ErrorKind::Cancelled)
}

/// Takes events. Stages are built in parallel, so calls come from several threads.
pub trait Progress: Sync {
    /// Called for each.
    fn event(&self, event: Event<'_>);
}
