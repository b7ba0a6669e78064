//! A terminal for tests: what is written to it, and what a person sees of it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use unicode_width::UnicodeWidthChar;

/// Keeps what is written, and shows it. Clones are the same terminal.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<State>>);

struct State {
    written: Vec<u8>,
    rows: usize,
    columns: usize,
    /// Lines that scrolled off the top included. A cell behind a wide letter is `\0`.
    lines: Vec<Line>,
    /// Where the next letter goes.
    row: usize,
    column: usize,
    /// The parameters of the sequences that colour.
    styles: Vec<String>,
}

#[derive(Clone, Default)]
struct Line {
    cells: Vec<char>,
    /// Whether it goes on in the next one: the terminal broke it.
    wrapped: bool,
}

impl Screen {
    /// An empty terminal of this size.
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        let state = State {
            written: Vec::new(),
            rows,
            columns,
            lines: vec![Line::default()],
            row: 0,
            column: 0,
            styles: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Everything that was written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().written).into_owned()
    }

    /// What is seen, scrolled-off lines included, without spaces at the ends and without the last, empty line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let text = |line: &Line| {
            let text: String = line.cells.iter().filter(|&&cell| cell != '\0').collect();
            text.trim_end().to_owned()
        };
        let mut lines: Vec<String> = state.lines.iter().map(text).collect();
        if lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// The colours that were used, in order.
    pub(crate) fn styles(&self) -> Vec<String> {
        self.0.lock().unwrap().styles.clone()
    }

    /// Another size. Lines that are too long now are broken, as terminals do; broken ones are joined.
    pub(crate) fn resize(&self, rows: usize, columns: usize) {
        let mut state = self.0.lock().unwrap();
        assert_eq!(state.column, 0, "resized in the middle of a line");
        let old = std::mem::take(&mut state.lines);
        (state.rows, state.columns) = (rows, columns);
        (state.lines, state.row) = (vec![Line::default()], 0);
        let count = old.len();
        for (index, line) in old.into_iter().enumerate() {
            // The cursor's line is the last one.
            if index + 1 == count {
                break;
            }
            line.cells.iter().filter(|&&cell| cell != '\0').for_each(|&letter| state.put(letter));
            if !line.wrapped {
                state.line_feed();
            }
        }
    }
}

impl State {
    fn line_feed(&mut self) {
        self.row += 1;
        self.column = 0;
        if self.row == self.lines.len() {
            self.lines.push(Line::default());
        }
    }

    fn put(&mut self, letter: char) {
        let width = letter.width().unwrap_or(0);
        // What is put over the letter before it takes no room.
        if width == 0 {
            return;
        }
        if self.column + width > self.columns {
            self.lines[self.row].wrapped = true;
            self.line_feed();
        }
        let line = &mut self.lines[self.row].cells;
        line.resize(line.len().max(self.column + width), ' ');
        line[self.column] = letter;
        (1..width).for_each(|behind| line[self.column + behind] = '\0');
        self.column += width;
    }

    fn sequence(&mut self, parameters: &str, letter: char) {
        let number = parameters.parse::<usize>().unwrap_or(1);
        match letter {
            'A' => {
                // A terminal's cursor stops at its upper edge.
                let top = self.lines.len().saturating_sub(self.rows);
                self.row = self.row.saturating_sub(number).max(top);
            }
            'J' => {
                self.lines.truncate(self.row + 1);
                self.lines[self.row].cells.truncate(self.column);
                self.lines[self.row].wrapped = false;
            }
            'm' => self.styles.push(parameters.to_owned()),
            other => panic!("the sequence {parameters}{other} is not for this terminal"),
        }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        state.written.extend(bytes);
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut rest = text.as_str();
        while let Some(letter) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence.find(|c: char| c.is_ascii_alphabetic()).expect("a whole sequence");
                state.sequence(&sequence[..end], sequence[end..].chars().next().unwrap_or_default());
                rest = &sequence[end + 1..];
                continue;
            }
            match letter {
                '\n' => state.line_feed(),
                '\r' => state.column = 0,
                letter if letter.is_control() => panic!("{letter:?} reached the terminal"),
                letter => state.put(letter),
            }
            rest = &rest[letter.len_utf8()..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
