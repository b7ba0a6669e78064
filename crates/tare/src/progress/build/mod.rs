//! How a build goes, in one of BuildKit's forms.

mod live;
mod log;
mod plain;
mod quiet;
mod raw_json;
mod steps;

use super::region::REDRAW;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tare_engine::build::{Event, Progress, Warning};

/// How progress is shown: `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On a terminal live, elsewhere plain.
    Auto,
    /// Lines that are only ever added.
    Plain,
    /// Lines that change in place.
    Tty,
    /// Nothing but the output of what failed.
    Quiet,
    /// Not even that.
    None,
    /// BuildKit's status messages.
    RawJson,
}

impl Mode {
    /// Of `--progress` and `BUILDKIT_PROGRESS`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "tty" => Ok(Self::Tty),
            "quiet" => Ok(Self::Quiet),
            "none" => Ok(Self::None),
            "rawjson" => Ok(Self::RawJson),
            other => Err(format!("invalid progress mode {other}")),
        }
    }
}

/// A way to show what happens. Times are since the build began.
trait View: Send {
    /// Something happened.
    fn event(&mut self, now: Duration, event: &Event<'_>);

    /// A moment passed.
    fn tick(&mut self, now: Duration) {
        let _ = now;
    }

    /// Nothing more comes.
    fn finish(&mut self, now: Duration, failed: bool);
}

/// Shows a build on standard error.
pub(crate) struct BuildProgress {
    begin: Instant,
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// Told when the ticker is to end.
    ended: Condvar,
}

struct Inner {
    view: Option<Box<dyn View>>,
    warnings: Vec<Warning>,
    ended: bool,
}

impl BuildProgress {
    /// A display of this mode.
    ///
    /// # Errors
    /// Docker's text for a live view where there is no terminal.
    pub(crate) fn new(mode: Mode) -> Result<Self, String> {
        let terminal = io::stderr().is_terminal();
        let out = Box::new(io::stderr());
        // A terminal that calls itself dumb cannot move its cursor.
        let dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        let view: Option<Box<dyn View>> = match mode {
            Mode::Tty if !terminal => return Err("failed to get console: provided file is not a console".to_owned()),
            Mode::Auto if terminal && !dumb => Some(Box::new(live::Live::new(out, crate::terminal::size_for_errors))),
            Mode::Tty => Some(Box::new(live::Live::new(out, crate::terminal::size_for_errors))),
            Mode::Auto | Mode::Plain => Some(Box::new(plain::Plain::new(out))),
            Mode::Quiet => Some(Box::new(quiet::Quiet::new(out))),
            Mode::RawJson => Some(Box::new(raw_json::RawJson::new(out))),
            Mode::None => None,
        };
        let live = mode == Mode::Tty || (mode == Mode::Auto && terminal && !dumb);
        let inner = Inner { view, warnings: Vec::new(), ended: false };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), ended: Condvar::new() });
        let begin = Instant::now();
        let ticker = live.then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.tick(begin))
        });
        Ok(Self { begin, shared, ticker })
    }

    /// Ends the display. Gives what was warned of meanwhile.
    pub(crate) fn finish(mut self, failed: bool) -> Vec<Warning> {
        self.stop_ticking();
        let mut inner = self.shared.lock();
        if let Some(view) = inner.view.as_mut() {
            view.finish(self.begin.elapsed(), failed);
        }
        std::mem::take(&mut inner.warnings)
    }

    fn stop_ticking(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // One that panicked has drawn for the last time.
            let _ = ticker.join();
        }
    }
}

impl Drop for BuildProgress {
    fn drop(&mut self) {
        self.stop_ticking();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic of another thread while it drew leaves at worst a crooked line.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds go on while nothing happens.
    fn tick(&self, begin: Instant) {
        let mut inner = self.lock();
        while !inner.ended {
            if let Some(view) = inner.view.as_mut() {
                view.tick(begin.elapsed());
            }
            inner = self.ended.wait_timeout(inner, REDRAW).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Progress for BuildProgress {
    fn event(&self, event: Event<'_>) {
        let now = self.begin.elapsed();
        let mut inner = self.shared.lock();
        if let Event::Warning(warning) = event {
            inner.warnings.push(warning.clone());
        }
        if let Some(view) = inner.view.as_mut() {
            view.event(now, &event);
        }
    }
}

#[cfg(test)]
mod testing {
    //! Events for the tests of the views.

    use std::time::Duration;
    use tare_engine::build::{Event, StepId, StepTitle};

    pub(super) fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub(super) fn plan(names: &[&str]) -> Vec<StepTitle> {
        names.iter().map(|&name| StepTitle { name: name.to_owned(), lines: None }).collect()
    }

    pub(super) fn output(step: StepId, bytes: &[u8]) -> Event<'_> {
        Event::Output { step, stderr: false, bytes }
    }

    pub(super) fn done(step: StepId, took: u64) -> Event<'static> {
        Event::Done { step, took: millis(took) }
    }

    pub(super) fn failed(step: StepId, error: &str, took: u64) -> Event<'_> {
        Event::Failed { step, error, took: millis(took) }
    }
}
