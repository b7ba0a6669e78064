//! Nothing, until something fails.

use super::View;
use super::steps::{Steps, failures};
use std::io::Write;
use std::time::Duration;
use tare_engine::build::Event;

/// Bytes of each running step's output that are kept, as many as BuildKit keeps of one.
pub(super) const LOG_LIMIT: usize = 2 << 20;

/// The view.
pub(super) struct Quiet {
    out: Box<dyn Write + Send>,
    steps: Steps,
}

impl Quiet {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, steps: Steps::new(LOG_LIMIT) }
    }
}

impl View for Quiet {
    fn event(&mut self, now: Duration, event: &Event<'_>) {
        let _known = self.steps.take(now, event);
    }

    fn finish(&mut self, _: Duration, failed: bool) {
        if failed {
            // There is nobody else to tell.
            let _ = self.out.write_all(failures(&self.steps, usize::MAX).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, failed, millis, output, plan};
    use super::*;
    use crate::progress::screen::Screen;

    #[test]
    fn only_what_failed_is_told() {
        let screen = Screen::new(24, 80);
        let mut view = Quiet::new(Box::new(screen.clone()));
        view.event(millis(0), &Event::Planned(&plan(&["[1/2] RUN true", "[2/2] RUN false"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(1), &output(0, b"fine\n"));
        view.event(millis(2), &done(0, 2));
        view.event(millis(3), &Event::Started(1));
        let lines: String = (1..=20).map(|number| format!("\x1b[31mline {number}\x1b[0m\n")).collect();
        view.event(millis(4), &output(1, lines.as_bytes()));
        view.event(millis(5), &failed(1, "exit code: 1", 2));
        assert_eq!(screen.text(), "");
        view.finish(millis(6), true);
        let expected: String = (1..=20).map(|number| format!("0.001 line {number}\n")).collect();
        assert_eq!(screen.text(), format!("------\n > [2/2] RUN false:\n{expected}------\n"));
    }

    #[test]
    fn and_nothing_when_all_went_well() {
        let screen = Screen::new(24, 80);
        let mut view = Quiet::new(Box::new(screen.clone()));
        view.event(millis(0), &Event::Planned(&plan(&["RUN true"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(1), &done(0, 2));
        view.finish(millis(6), false);
        assert_eq!(screen.text(), "");
    }
}
