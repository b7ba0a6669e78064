//! Lines that are only ever added, in BuildKit's form: for logs, and for programs that read it.

use super::View;
use super::steps::{State, Steps, failures, seconds};
use crate::flags::bytes;
use crate::printable::printable;
use std::io::Write;
use std::time::Duration;
use tare_engine::build::{Event, StepId};

/// Steps that run at once take turns; each keeps its turn so long, unless it ends.
const TURN: Duration = Duration::from_secs(5);
/// More than this does not wait for its turn.
const MOST_WAITING: usize = 64 << 10;
/// A failed step's last lines are shown once more at the end, as BuildKit does.
const LINES_OF_FAILED: usize = 10;
/// Bytes of output kept for that.
const LOG_LIMIT: usize = 16 << 10;
/// A transfer is told again when it has come so much further, as a part of 100 …
const TRANSFER_STEP: u64 = 5;
/// … or after so long.
const TRANSFER_PAUSE: Duration = Duration::from_secs(5);

/// The view.
pub(super) struct Plain {
    out: Box<dyn Write + Send>,
    steps: Steps,
    texts: Vec<Text>,
    /// The step whose lines are at the end of the output.
    current: Option<StepId>,
    /// Since when.
    since: Duration,
    /// How many steps have been told of.
    told: usize,
}

/// What is to be written of a step.
#[derive(Default)]
struct Text {
    /// Its number, by the order in which steps are first told of; 0 before.
    number: usize,
    waiting: Vec<u8>,
    /// Where lines begin in that, for its number to be put there.
    lines: Vec<usize>,
    /// Whether the step has not been told of since something happened to it.
    due: bool,
    /// Whether its last line goes on.
    open: bool,
    /// What was told last of each of its transfers.
    told: Vec<Told>,
}

impl Text {
    /// Puts what waits behind what is there, each line with the number.
    fn take(&mut self, out: &mut Vec<u8>) {
        self.due = false;
        let mut from = 0;
        for line in self.lines.drain(..) {
            out.extend(&self.waiting[from..line]);
            out.extend(format!("#{} ", self.number).into_bytes());
            from = line;
        }
        out.extend(&self.waiting[from..]);
        self.waiting.clear();
    }
}

/// What was told of a transfer.
#[derive(Clone, Copy, Default)]
struct Told {
    /// When, if ever.
    at: Option<Duration>,
    /// How far it was.
    current: u64,
    /// Whether that it is over.
    over: bool,
}

impl Plain {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, steps: Steps::new(LOG_LIMIT), texts: Vec::new(), current: None, since: Duration::ZERO, told: 0 }
    }

    /// The work is what counts: a display that nobody reads any more does not end it.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.out.write_all(bytes);
    }

    fn text(&mut self, id: StepId) -> &mut Text {
        if self.texts.len() <= id {
            self.texts.resize_with(id + 1, Text::default);
        }
        &mut self.texts[id]
    }

    /// A line of a step.
    fn line(&mut self, id: StepId, line: &str) {
        let text = self.text(id);
        if std::mem::take(&mut text.open) {
            text.waiting.push(b'\n');
        }
        text.lines.push(text.waiting.len());
        text.waiting.extend(line.as_bytes());
        text.waiting.push(b'\n');
    }

    /// What its process wrote, each line with the seconds since the step began.
    fn output(&mut self, now: Duration, id: StepId, bytes: &[u8]) {
        let begin = format!("{} ", seconds(now.saturating_sub(self.steps.step(id).began)));
        let text = self.text(id);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !text.open {
                text.lines.push(text.waiting.len());
                text.waiting.extend(begin.as_bytes());
            }
            text.waiting.extend(piece);
            text.open = !piece.ends_with(b"\n");
        }
    }

    fn transfers(&mut self, now: Duration, id: StepId) {
        let mut lines = Vec::new();
        let count = self.steps.step(id).transfers.len();
        self.text(id).told.resize(count, Told::default());
        for index in 0..count {
            let transfer = &self.steps.step(id).transfers[index];
            if transfer.now != now {
                continue;
            }
            let told = self.texts[id].told[index];
            let further = transfer.current.saturating_sub(told.current).saturating_mul(100);
            let is_news = match told.at {
                None => true,
                Some(_) if told.over => false,
                Some(at) => {
                    transfer.is_over()
                        || (transfer.total > 0 && further >= transfer.total.saturating_mul(TRANSFER_STEP))
                        || now.saturating_sub(at) >= TRANSFER_PAUSE
                }
            };
            if !is_news {
                continue;
            }
            let mut line = transfer.what.clone();
            match (transfer.current, transfer.total) {
                (0, 0) => {}
                (current, 0) => line.push_str(&format!(" {}", bytes::show_sum(current))),
                (current, total) => {
                    line.push_str(&format!(" {} / {}", bytes::show_sum(current), bytes::show_sum(total)));
                }
            }
            let took = now.saturating_sub(transfer.began).as_secs_f64();
            if took > 0.01 {
                line.push_str(&format!(" {took:.1}s"));
            }
            if transfer.is_over() {
                line.push_str(" done");
            }
            lines.push(line);
            self.texts[id].told[index] = Told { at: Some(now), current: transfer.current, over: transfer.is_over() };
        }
        lines.iter().for_each(|line| self.line(id, line));
    }

    /// Gives a step its turn, with all that waits of it.
    fn turn_to(&mut self, now: Duration, id: StepId) {
        let mut out = Vec::new();
        if self.current != Some(id) {
            if let Some(before) = self.current.replace(id) {
                let text = self.text(before);
                let end = if std::mem::take(&mut text.open) { "\n" } else { "" };
                out.extend(format!("{end}#{} ...\n", text.number).into_bytes());
            }
            if self.told > 0 {
                out.push(b'\n');
            }
            if self.text(id).number == 0 {
                self.told += 1;
                self.text(id).number = self.told;
            }
            let header = format!("#{} {}\n", self.texts[id].number, self.steps.step(id).name);
            out.extend(header.into_bytes());
            self.since = now;
        }
        self.text(id).take(&mut out);
        self.write(&out);
        if self.steps.step(id).state.is_over() {
            self.current = None;
        }
    }

    /// Writes what has the turn, and passes the turn on.
    fn flush(&mut self, now: Duration, id: StepId) {
        let over = self.steps.step(id).state.is_over();
        let turn_is_over = now.saturating_sub(self.since) >= TURN || self.text(id).waiting.len() > MOST_WAITING;
        if over || turn_is_over || self.current.is_none_or(|current| current == id) {
            self.turn_to(now, id);
        }
        // After a step that is over, one that goes on has the turn: what waits of it must not wait for its next event.
        if self.current.is_none()
            && let Some(next) = self.steps.in_order().iter().map(|(id, _)| *id).find(|&id| self.due(id))
        {
            self.turn_to(now, next);
        }
        // As with all writing here.
        let _ = self.out.flush();
    }

    fn due(&self, id: StepId) -> bool {
        self.texts.get(id).is_some_and(|text| text.due)
    }
}

impl View for Plain {
    fn event(&mut self, now: Duration, event: &Event<'_>) {
        let Some(id) = self.steps.take(now, event) else { return };
        self.text(id).due = true;
        match event {
            Event::Waiting { what, .. } => self.line(id, &format!("waiting for {}", printable(what.as_bytes()))),
            Event::Output { bytes, .. } => self.output(now, id, bytes),
            Event::Bytes { .. } => self.transfers(now, id),
            Event::Cached(_) => self.line(id, "CACHED"),
            Event::Done { took, .. } => self.line(id, &format!("DONE {:.1}s", took.as_secs_f64())),
            Event::Failed { error, .. } => {
                // It may quote what a registry or a cache says.
                let lines: Vec<_> = error.lines().map(|line| printable(line.as_bytes())).collect();
                self.line(id, &format!("ERROR: {}", lines.join("\n")));
            }
            Event::Cancelled(_) => self.line(id, "CANCELED"),
            Event::Started(_) | Event::Planned(_) | Event::Warning(_) => {}
        }
        self.flush(now, id);
    }

    fn finish(&mut self, now: Duration, failed: bool) {
        let due: Vec<StepId> = self.steps.in_order().iter().map(|(id, _)| *id).filter(|&id| self.due(id)).collect();
        due.into_iter().for_each(|id| self.turn_to(now, id));
        if let Some(last) = self.current.take()
            && std::mem::take(&mut self.text(last).open)
        {
            self.write(b"\n");
        }
        if failed {
            let text = failures(&self.steps, LINES_OF_FAILED);
            self.write(text.as_bytes());
        }
        let _ = self.out.flush();
    }
}

impl State {
    /// The word before the name of a step in this state.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Cached => "CACHED ",
            Self::Failed => "ERROR ",
            Self::Cancelled => "CANCELED ",
            Self::Planned | Self::Running | Self::Waiting | Self::Done => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, failed, millis, output, plan};
    use super::*;
    use crate::progress::screen::Screen;

    fn view() -> (Plain, Screen) {
        let screen = Screen::new(50, 200);
        (Plain::new(Box::new(screen.clone())), screen)
    }

    #[test]
    fn one_step_after_the_other() {
        let (mut view, screen) = view();
        let titles = plan(&[
            "[internal] load build definition from Dockerfile",
            "[1/3] FROM busybox",
            "[2/3] RUN make",
            "[3/3] RUN false",
        ]);
        view.event(millis(0), &Event::Planned(&titles));
        view.event(millis(1), &Event::Started(0));
        view.event(millis(2), &done(0, 1));
        view.event(millis(3), &Event::Started(1));
        view.event(millis(3), &Event::Cached(1));
        view.event(millis(4), &Event::Started(2));
        view.event(millis(235), &output(2, b"cc one.c\ncc tw"));
        view.event(millis(300), &output(2, b"o.c\n"));
        view.event(millis(12_004), &done(2, 12_000));
        view.event(millis(12_010), &Event::Started(3));
        view.event(millis(12_020), &output(3, b"it does"));
        view.event(millis(12_030), &output(3, b" not work"));
        view.event(millis(12_040), &failed(3, "exit code: 1", 30));
        view.finish(millis(12_041), true);
        assert_eq!(
            screen.text(),
            "#1 [internal] load build definition from Dockerfile\n\
             #1 DONE 0.0s\n\
             \n\
             #2 [1/3] FROM busybox\n\
             #2 CACHED\n\
             \n\
             #3 [2/3] RUN make\n\
             #3 0.231 cc one.c\n\
             #3 0.231 cc two.c\n\
             #3 DONE 12.0s\n\
             \n\
             #4 [3/3] RUN false\n\
             #4 0.010 it does not work\n\
             #4 ERROR: exit code: 1\n\
             ------\n \
             > [3/3] RUN false:\n\
             0.010 it does not work\n\
             ------\n"
        );
    }

    #[test]
    fn an_error_leaves_the_terminal_alone() {
        let (mut view, screen) = view();
        view.event(millis(0), &Event::Planned(&plan(&["[1/1] FROM web"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(1), &failed(0, "\x1b[2Jx is no image\nat \x1b]0;title\x07all", 1));
        assert!(screen.text().ends_with("#1 ERROR: x is no image\nat all\n"), "{:?}", screen.text());
    }

    #[test]
    fn steps_at_the_same_time_take_turns() {
        let (mut view, screen) = view();
        view.event(millis(0), &Event::Planned(&plan(&["[a 1/1] RUN a", "[b 1/1] RUN b", "[c 1/1] RUN c"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(0), &Event::Started(1));
        view.event(millis(0), &Event::Started(2));
        view.event(millis(100), &output(0, b"a is"));
        view.event(millis(200), &output(1, b"b is here\n"));
        view.event(millis(300), &output(0, b" here\n"));
        view.event(millis(400), &output(2, b"c is here\n"));
        // What is over need not wait.
        view.event(millis(500), &done(2, 500));
        view.event(millis(600), &output(0, b"a still\n"));
        // After its time the next one has its turn.
        view.event(millis(5700), &output(1, b"b still\n"));
        view.event(millis(5800), &Event::Cancelled(0));
        view.event(millis(5900), &Event::Cancelled(1));
        view.finish(millis(6000), true);
        assert_eq!(
            screen.text(),
            "#1 [a 1/1] RUN a\n\
             #1 0.100 a is here\n\
             #1 ...\n\
             \n\
             #2 [c 1/1] RUN c\n\
             #2 0.400 c is here\n\
             #2 DONE 0.5s\n\
             \n\
             #3 [b 1/1] RUN b\n\
             #3 0.200 b is here\n\
             #3 5.700 b still\n\
             #3 ...\n\
             \n\
             #1 [a 1/1] RUN a\n\
             #1 0.600 a still\n\
             #1 CANCELED\n\
             \n\
             #3 [b 1/1] RUN b\n\
             #3 CANCELED\n"
        );
    }

    #[test]
    fn transfers_are_told_now_and_then() {
        let (mut view, screen) = view();
        view.event(millis(0), &Event::Planned(&plan(&["[1/1] FROM web"])));
        view.event(millis(0), &Event::Started(0));
        for (at, current) in
            [(0, 0), (10, 10_000), (20, 200_000), (21, 210_000), (5100, 211_000), (5200, 1_000_000), (5201, 1_000_000)]
        {
            view.event(millis(at), &Event::Bytes { step: 0, what: "sha256:0123", current, total: 1_000_000 });
        }
        view.event(millis(5300), &Event::Bytes { step: 0, what: "context", current: 5, total: 0 });
        assert_eq!(
            screen.text(),
            "#1 [1/1] FROM web\n\
             #1 sha256:0123 0B / 1MB\n\
             #1 sha256:0123 200kB / 1MB 0.0s\n\
             #1 sha256:0123 211kB / 1MB 5.1s\n\
             #1 sha256:0123 1MB / 1MB 5.2s done\n\
             #1 context 5B\n"
        );
    }

    #[test]
    fn a_flood_of_output_does_not_wait_in_memory() {
        let (mut view, screen) = view();
        view.event(millis(0), &Event::Planned(&plan(&["RUN a", "RUN b"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(0), &Event::Started(1));
        let line = [b'x'; 1000];
        for _ in 0..MOST_WAITING / line.len() + 2 {
            view.event(millis(1), &output(1, &line));
        }
        assert!(screen.text().len() > MOST_WAITING && screen.text().starts_with("#1 RUN a\n#1 ...\n\n#2 RUN b\n"));
    }
}
