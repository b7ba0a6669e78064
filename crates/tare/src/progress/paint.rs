//! Lines that change in place on a terminal, one line a step elsewhere; as Docker shows the layers of an image.

use super::region::{AskSize, Region, Row, cut, usable};
use crate::flags::bytes;
use std::io::Write;
use tare_spec::Digest;

/// Bars are so wide where there is room, as Docker's.
const BAR: usize = 50;
/// A narrower bar shows nothing.
const NARROWEST_BAR: usize = 10;

/// What is known of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A step that begins or goes on.
    Step(String),
    /// So many bytes of so many.
    Bytes { doing: &'static str, current: u64, total: u64 },
    /// Nothing more comes.
    Done(String),
}

/// Where progress is shown.
pub(super) struct Painter {
    region: Region,
    lines: Vec<(Digest, State)>,
}

impl Painter {
    pub(super) fn new(out: Box<dyn Write + Send>, size: Option<AskSize>) -> Self {
        Self { region: Region::new(out, size), lines: Vec::new() }
    }

    /// Writes a line of its own. The layers so far stay above it as they are.
    pub(super) fn say(&mut self, line: &str) {
        self.settle();
        self.region.write(format!("{line}\n").as_bytes());
    }

    /// Shows the last state of all layers and begins anew below them.
    pub(super) fn settle(&mut self) {
        self.draw();
        self.lines.clear();
        self.region.settle();
    }

    /// A layer has come to this state. Without a terminal only what has a word for it is told.
    pub(super) fn set(&mut self, layer: &Digest, state: State, told: Option<&str>) {
        if !self.region.is_terminal() && told.is_none() {
            return;
        }
        let grows = matches!(state, State::Bytes { .. });
        match self.lines.iter_mut().find(|(known, _)| known == layer) {
            Some((_, old)) if *old == state => return,
            Some((_, old)) => *old = state,
            None => self.lines.push((layer.clone(), state)),
        }
        if !self.region.is_terminal() {
            self.region.write(format!("{}: {}\n", layer.short(), told.unwrap_or_default()).as_bytes());
            return;
        }
        if !grows || self.region.is_due() {
            self.draw();
        }
    }

    fn draw(&mut self) {
        if !self.region.is_terminal() || self.lines.is_empty() {
            return;
        }
        let (rows, columns) = self.region.size();
        let row = |(layer, state): &(Digest, State)| {
            Row::plain(cut(&show(layer, state, columns), usable(columns)).to_owned())
        };
        // What scrolls off the terminal cannot be painted again: what is done goes first.
        let room = rows.saturating_sub(2).max(1);
        let done = self.lines.iter().take_while(|(_, state)| matches!(state, State::Done(_))).count();
        let over = self.lines.len().saturating_sub(room).min(done);
        let settled: Vec<Row> = self.lines.drain(..over).map(|line| row(&line)).collect();
        let hidden = self.lines.len().saturating_sub(room);
        let mut shown: Vec<Row> = self.lines.iter().take(room).map(row).collect();
        if hidden > 0 {
            shown.pop();
            shown.push(Row::plain(cut(&format!("and {} more", hidden + 1), usable(columns)).to_owned()));
        }
        self.region.paint(&settled, &shown);
    }
}

fn show(layer: &Digest, state: &State, columns: usize) -> String {
    let layer = layer.short();
    match state {
        State::Step(text) | State::Done(text) => format!("{layer}: {text}"),
        State::Bytes { doing, current, total } => {
            let numbers = format!("{:>8}/{}", bytes::show_sum(*current), bytes::show_sum(*total));
            let begin = format!("{layer}: {doing} ");
            let room = columns.saturating_sub(1 + begin.len() + "[>] ".len() + numbers.len()).min(BAR);
            if room < NARROWEST_BAR {
                return format!("{begin}{numbers}");
            }
            let done = (u128::from(*current.min(total)) * room as u128).checked_div(u128::from(*total));
            let done = done.map_or(room, |done| usize::try_from(done).unwrap_or(room));
            format!("{begin}[{}>{}] {numbers}", "=".repeat(done), " ".repeat(room - done))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::Screen;
    use super::*;

    fn layer(number: u8) -> Digest {
        Digest::from_sha256([number; 32])
    }

    #[test]
    fn bars_fit_the_terminal() {
        let state = State::Bytes { doing: "Downloading", current: 12_300_000, total: 45_600_000 };
        let at = |columns| show(&layer(1), &state, columns);
        assert_eq!(
            at(200),
            format!("010101010101: Downloading [{}>{}]   12.3MB/45.6MB", "=".repeat(13), " ".repeat(37))
        );
        assert_eq!(at(80).len(), 79);
        assert!(at(80).ends_with(&format!("[{}>{}]   12.3MB/45.6MB", "=".repeat(9), " ".repeat(25))), "{}", at(80));
        assert_eq!(at(50), "010101010101: Downloading   12.3MB/45.6MB");
        let empty = State::Bytes { doing: "Pushing", current: 0, total: 0 };
        assert!(show(&layer(1), &empty, 200).contains("=>]"));
    }

    #[test]
    fn lines_change_in_place() {
        let out = Screen::new(24, 80);
        let mut painter = Painter::new(Box::new(out.clone()), Some(|| Some((24, 80))));
        painter.say("latest: Pulling from library/web");
        painter.set(&layer(1), State::Step("Waiting".into()), None);
        painter.set(&layer(2), State::Step("Waiting".into()), None);
        painter.set(&layer(1), State::Done("Pull complete".into()), None);
        painter.say("Digest: x");
        let expected =
            ["latest: Pulling from library/web", "010101010101: Pull complete", "020202020202: Waiting", "Digest: x"];
        assert_eq!(out.lines(), expected);
    }

    #[test]
    fn more_layers_than_rows() {
        let out = Screen::new(6, 80);
        let mut painter = Painter::new(Box::new(out.clone()), Some(|| Some((6, 80))));
        for number in 1..=9 {
            painter.set(&layer(number), State::Step("Waiting".into()), None);
        }
        assert_eq!(out.lines().last().unwrap(), "and 6 more");
        for number in 1..=9 {
            painter.set(&layer(number), State::Done("Pull complete".into()), None);
        }
        painter.settle();
        let screen = out.lines();
        let expected: Vec<String> = (1..=9).map(|n| format!("{}: Pull complete", layer(n).short())).collect();
        assert_eq!(screen, expected);
    }
}
