//! What is known of the steps of a build.

use super::log::Log;
use crate::printable::printable;
use std::time::Duration;
use tare_engine::build::{Event, StepId};

/// How a step is getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has looked at it.
    Planned,
    /// Its result is being looked up or made.
    Running,
    /// Another build makes it.
    Waiting,
    /// Its result was there.
    Cached,
    /// It was made.
    Done,
    /// It failed.
    Failed,
    /// It was given up.
    Cancelled,
}

impl State {
    /// Whether nothing more comes of it.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Cached | Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Bytes of something that a step moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// What: `sha256:…` or a word.
    pub(super) what: String,
    /// So far.
    pub(super) current: u64,
    /// In the end; 0: not known.
    pub(super) total: u64,
    /// When it began and when this is of.
    pub(super) began: Duration,
    pub(super) now: Duration,
}

impl Transfer {
    /// Whether all of it is there.
    pub(super) fn is_over(&self) -> bool {
        self.total > 0 && self.current >= self.total
    }
}

/// A step.
#[derive(Debug)]
pub(super) struct Step {
    /// Its title, in one line.
    pub(super) name: String,
    /// The how manyth it was to appear, from 1; 0 before.
    pub(super) number: usize,
    /// How it is getting on.
    pub(super) state: State,
    /// When it began.
    pub(super) began: Duration,
    /// How long it took, when it is over.
    pub(super) took: Duration,
    /// Why it failed.
    pub(super) error: String,
    /// What it moves.
    pub(super) transfers: Vec<Transfer>,
    /// What it wrote; forgotten when it went well.
    pub(super) log: Log,
}

/// All steps. Those of a second plan (of another platform) follow those of the first, and so do their ids.
#[derive(Debug)]
pub(super) struct Steps {
    list: Vec<Step>,
    appeared: usize,
    log_limit: usize,
}

impl Steps {
    /// None yet. Of each one's output so many bytes are kept.
    pub(super) fn new(log_limit: usize) -> Self {
        Self { list: Vec::new(), appeared: 0, log_limit }
    }

    /// Takes what happened at this time since the build began. Gives the step that it happened to, if it is one that is known.
    pub(super) fn take(&mut self, now: Duration, event: &Event<'_>) -> Option<StepId> {
        let id = match event {
            Event::Planned(titles) => {
                let limit = self.log_limit;
                self.list.extend(titles.iter().map(|title| Step::new(&title.name, limit)));
                return None;
            }
            Event::Warning(_) => return None,
            Event::Started(step)
            | Event::Cached(step)
            | Event::Cancelled(step)
            | Event::Output { step, .. }
            | Event::Waiting { step, .. }
            | Event::Bytes { step, .. }
            | Event::Done { step, .. }
            | Event::Failed { step, .. } => *step,
        };
        let step = self.list.get_mut(id)?;
        if step.number == 0 {
            self.appeared += 1;
            (step.number, step.began) = (self.appeared, now);
        }
        step.take(now, event);
        Some(id)
    }

    /// A step by its id, which [`Steps::take`] gave.
    pub(super) fn step(&self, id: StepId) -> &Step {
        &self.list[id]
    }

    /// Those that have appeared, in this order.
    pub(super) fn in_order(&self) -> Vec<(StepId, &Step)> {
        let mut steps: Vec<_> = self.list.iter().enumerate().filter(|(_, step)| step.number > 0).collect();
        steps.sort_by_key(|(_, step)| step.number);
        steps
    }

    /// How many are over, and how many there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.list.iter().filter(|step| step.state.is_over()).count(), self.list.len())
    }

    /// Those that failed, in the order in which they appeared.
    pub(super) fn failed(&self) -> Vec<&Step> {
        let steps = self.in_order().into_iter();
        steps.map(|(_, step)| step).filter(|step| step.state == State::Failed).collect()
    }
}

impl Step {
    fn new(name: &str, log_limit: usize) -> Self {
        Self {
            // A title is text of the Dockerfile.
            name: printable(name.replace(['\t', '\n'], " ").as_bytes()),
            number: 0,
            state: State::Planned,
            began: Duration::ZERO,
            took: Duration::ZERO,
            error: String::new(),
            transfers: Vec::new(),
            log: Log::new(log_limit),
        }
    }

    /// Since it began, or how long it took.
    pub(super) fn elapsed(&self, now: Duration) -> Duration {
        if self.state.is_over() { self.took } else { now.saturating_sub(self.began) }
    }

    fn take(&mut self, now: Duration, event: &Event<'_>) {
        match event {
            // After it has waited it starts again, and has begun all the same.
            Event::Started(_) if self.state == State::Waiting => self.state = State::Running,
            Event::Started(_) => (self.state, self.began) = (State::Running, now),
            Event::Waiting { .. } => self.state = State::Waiting,
            Event::Output { bytes, .. } => {
                self.state = State::Running;
                self.log.push(now.saturating_sub(self.began), bytes);
            }
            Event::Bytes { what, current, total, .. } => {
                self.state = State::Running;
                let (what, began) = (printable(what.as_bytes()), now);
                match self.transfers.iter_mut().find(|transfer| transfer.what == what) {
                    Some(known) => (known.current, known.total, known.now) = (*current, *total, now),
                    None => self.transfers.push(Transfer { what, current: *current, total: *total, began, now }),
                }
            }
            Event::Cached(_) => self.end(State::Cached, Duration::ZERO),
            Event::Done { took, .. } => self.end(State::Done, *took),
            Event::Failed { took, error, .. } => {
                self.error = (*error).to_owned();
                // Its output is what explains it.
                (self.state, self.took) = (State::Failed, *took);
            }
            Event::Cancelled(_) => self.end(State::Cancelled, now.saturating_sub(self.began)),
            Event::Planned(_) | Event::Warning(_) => {}
        }
    }

    fn end(&mut self, state: State, took: Duration) {
        (self.state, self.took) = (state, took);
        self.log.clear();
    }
}

/// What failed steps wrote, in BuildKit's frame: their last lines, and all control characters out of them.
pub(super) fn failures(steps: &Steps, most_lines: usize) -> String {
    let mut text = String::new();
    for step in steps.failed() {
        text.push_str(&format!("------\n > {}:\n", step.name));
        let left_out = step.log.len().saturating_sub(most_lines);
        if left_out > 0 {
            text.push_str(&format!("({left_out} lines before)\n"));
        } else if step.log.forgotten() > 0 {
            text.push_str(&format!("({} before)\n", crate::flags::bytes::show(step.log.forgotten() as u64)));
        }
        for line in step.log.tail(most_lines) {
            text.push_str(format!("{} {}", seconds(line.at), printable(&line.bytes)).trim_end());
            text.push('\n');
        }
        text.push_str("------\n");
    }
    text
}

/// Seconds with as many places as have a meaning: `0.231`, `12.31`, `123.4`.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let places = match seconds {
        ..10.0 => 3,
        10.0..100.0 => 2,
        _ => 1,
    };
    format!("{seconds:.places$}")
}
