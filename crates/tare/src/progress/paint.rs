//! Lines that change in place on a terminal, one line a step elsewhere; as Docker shows the layers of an image.

use crate::flags::bytes;
use std::io::Write;
use std::time::{Duration, Instant};
use tare_spec::Digest;

/// A person does not read faster, and a slow terminal must not slow the work down.
const REDRAW: Duration = Duration::from_millis(80);

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

/// Asks for rows and columns of the terminal.
pub(super) type AskSize = fn() -> Option<(u16, u16)>;

/// Where progress is shown.
pub(super) struct Painter {
    out: Box<dyn Write + Send>,
    /// Absent where there is no terminal.
    size: Option<AskSize>,
    lines: Vec<(Digest, State)>,
    /// How many columns each line has that is on the terminal now, above the cursor.
    drawn: Vec<usize>,
    last: Option<Instant>,
}

impl Painter {
    pub(super) fn new(out: Box<dyn Write + Send>, size: Option<AskSize>) -> Self {
        Self { out, size, lines: Vec::new(), drawn: Vec::new(), last: None }
    }

    /// Writes a line of its own. The layers so far stay above it as they are.
    pub(super) fn say(&mut self, line: &str) {
        self.settle();
        self.write(&format!("{line}\n"));
    }

    /// Shows the last state of all layers and begins anew below them.
    pub(super) fn settle(&mut self) {
        self.draw();
        self.lines.clear();
        self.drawn.clear();
    }

    /// A layer has come to this state. Without a terminal only what has a word for it is told.
    pub(super) fn set(&mut self, layer: &Digest, state: State, told: Option<&str>) {
        if self.size.is_none() && told.is_none() {
            return;
        }
        let grows = matches!(state, State::Bytes { .. });
        match self.lines.iter_mut().find(|(known, _)| known == layer) {
            Some((_, old)) if *old == state => return,
            Some((_, old)) => *old = state,
            None => self.lines.push((layer.clone(), state)),
        }
        if self.size.is_none() {
            self.write(&format!("{}: {}\n", layer.short(), told.unwrap_or_default()));
            return;
        }
        if !grows || self.last.is_none_or(|last| last.elapsed() >= REDRAW) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let Some(size) = self.size.filter(|_| !self.lines.is_empty()) else { return };
        let (rows, columns) = size().map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)));
        let mut text = String::new();
        // A terminal that became narrower has wrapped what was drawn.
        let up: usize = self.drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        if up > 0 {
            text.push_str(&format!("\x1b[{}A\r\x1b[J", up.min(rows.saturating_sub(1))));
        }
        // What scrolls off the terminal cannot be painted again: what is done goes first.
        let room = rows.saturating_sub(2).max(1);
        let done = self.lines.iter().take_while(|(_, state)| matches!(state, State::Done(_))).count();
        for (layer, state) in self.lines.drain(..self.lines.len().saturating_sub(room).min(done)) {
            text.push_str(&format!("{}\n", cut(&show(&layer, &state, columns), columns)));
        }
        let hidden = self.lines.len().saturating_sub(room);
        let mut shown: Vec<String> =
            self.lines.iter().take(room).map(|(layer, state)| cut(&show(layer, state, columns), columns)).collect();
        if hidden > 0 {
            shown.pop();
            shown.push(cut(&format!("and {} more", hidden + 1), columns));
        }
        for line in &shown {
            text.push_str(&format!("{line}\n"));
        }
        self.drawn = shown.iter().map(|line| line.chars().count()).collect();
        self.last = Some(Instant::now());
        self.write(&text);
    }

    /// The work is what counts: a display that nobody reads any more does not end it.
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// One column stays free: terminals differ in what they do behind the last one.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns.saturating_sub(1).max(1)).collect()
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
pub(super) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// What a terminal shows of it, scrolled-off lines included.
        pub(crate) fn screen(&self) -> Vec<String> {
            let (mut lines, mut row) = (vec![String::new()], 0);
            let text = self.text();
            let mut rest = text.as_str();
            while let Some(letter) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    match &sequence[end..=end] {
                        "A" => row -= sequence[..end].parse::<usize>().unwrap(),
                        "J" => lines.truncate(row),
                        other => panic!("{other}"),
                    }
                    lines.resize(lines.len().max(row + 1), String::new());
                    rest = &sequence[end + 1..];
                    continue;
                }
                match letter {
                    '\n' => {
                        row += 1;
                        lines.resize(lines.len().max(row + 1), String::new());
                    }
                    '\r' => {}
                    letter => lines[row].push(letter),
                }
                rest = &rest[letter.len_utf8()..];
            }
            lines.pop();
            lines
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

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
        let out = Shared::default();
        let mut painter = Painter::new(Box::new(out.clone()), Some(|| Some((24, 80))));
        painter.say("latest: Pulling from library/web");
        painter.set(&layer(1), State::Step("Waiting".into()), None);
        painter.set(&layer(2), State::Step("Waiting".into()), None);
        painter.set(&layer(1), State::Done("Pull complete".into()), None);
        painter.say("Digest: x");
        let expected =
            ["latest: Pulling from library/web", "010101010101: Pull complete", "020202020202: Waiting", "Digest: x"];
        assert_eq!(out.screen(), expected);
    }

    #[test]
    fn more_layers_than_rows() {
        let out = Shared::default();
        let mut painter = Painter::new(Box::new(out.clone()), Some(|| Some((6, 80))));
        for number in 1..=9 {
            painter.set(&layer(number), State::Step("Waiting".into()), None);
        }
        assert_eq!(out.screen().last().unwrap(), "and 6 more");
        for number in 1..=9 {
            painter.set(&layer(number), State::Done("Pull complete".into()), None);
        }
        painter.settle();
        let screen = out.screen();
        let expected: Vec<String> = (1..=9).map(|n| format!("{}: Pull complete", layer(n).short())).collect();
        assert_eq!(screen, expected);
    }

    #[test]
    fn a_terminal_that_became_narrower_has_wrapped_its_lines() {
        let out = Shared::default();
        let mut painter = Painter::new(Box::new(out.clone()), Some(|| Some((24, 20))));
        painter.drawn = vec![45, 10];
        painter.lines = vec![(layer(1), State::Step("Waiting".into()))];
        painter.draw();
        assert!(out.text().starts_with("\x1b[4A\r\x1b[J010101010101: Waiti\n"), "{:?}", out.text());
    }
}
