//! The last lines of a terminal, painted again in place.

use std::io::Write;
use std::time::{Duration, Instant};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A person does not read faster, and a slow terminal must not slow the work down.
pub(super) const REDRAW: Duration = Duration::from_millis(80);

/// Asks for rows and columns of the terminal.
pub(super) type AskSize = fn() -> Option<(u16, u16)>;

/// A line and how it looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Without line breaks and control characters.
    pub(super) text: String,
    /// Parameters of the escape sequence that colours it; none: as the terminal is.
    pub(super) style: Option<&'static str>,
}

impl Row {
    /// A line without colour.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: None }
    }
}

/// Where lines change in place.
pub(super) struct Region {
    out: Box<dyn Write + Send>,
    /// Absent where there is no terminal.
    size: Option<AskSize>,
    /// How many columns each line has that is on the terminal now, above the cursor.
    drawn: Vec<usize>,
    last: Option<Instant>,
}

impl Region {
    pub(super) fn new(out: Box<dyn Write + Send>, size: Option<AskSize>) -> Self {
        Self { out, size, drawn: Vec::new(), last: None }
    }

    /// Whether lines can change at all.
    pub(super) fn is_terminal(&self) -> bool {
        self.size.is_some()
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = self.size.and_then(|ask| ask());
        size.map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)))
    }

    /// Whether painting is worth it again.
    pub(super) fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= REDRAW)
    }

    /// Puts lines in the place of those that were painted last: first such as stay for good, then such as will change.
    /// Each has to be cut to the terminal's width, and the latter must be fewer than its rows.
    pub(super) fn paint(&mut self, settled: &[Row], rows: &[Row]) {
        let (height, columns) = self.size();
        let mut text = String::new();
        // A terminal that became narrower has wrapped what was drawn.
        let up: usize = self.drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        if up > 0 {
            text.push_str(&format!("\x1b[{}A\r\x1b[J", up.min(height.saturating_sub(1))));
        }
        for row in settled.iter().chain(rows) {
            match row.style {
                Some(style) => text.push_str(&format!("\x1b[{style}m{}\x1b[0m\n", row.text)),
                None => text.push_str(&format!("{}\n", row.text)),
            }
        }
        self.drawn = rows.iter().map(|row| row.text.width()).collect();
        self.last = Some(Instant::now());
        self.write(text.as_bytes());
    }

    /// What is painted stays for good.
    pub(super) fn settle(&mut self) {
        self.drawn.clear();
    }

    /// Writes below it. The work is what counts: a display that nobody reads any more does not end it.
    pub(super) fn write(&mut self, text: &[u8]) {
        let _ = self.out.write_all(text).and_then(|()| self.out.flush());
    }
}

/// Columns that may be used. One stays free: terminals differ in what they do behind the last one.
pub(super) fn usable(columns: usize) -> usize {
    columns.saturating_sub(1).max(1)
}

/// As much of the text as so many columns show.
pub(super) fn cut(text: &str, columns: usize) -> &str {
    let mut width = 0;
    for (at, letter) in text.char_indices() {
        width += letter.width().unwrap_or(0);
        if width > columns {
            return &text[..at];
        }
    }
    text
}

/// The text in exactly so many columns: filled up with spaces, or cut with an ellipsis at its end.
pub(super) fn fit(text: &str, columns: usize) -> String {
    let width = text.width();
    if width <= columns {
        return format!("{text}{}", " ".repeat(columns - width));
    }
    let begin = cut(text, columns.saturating_sub(1));
    let mark = if columns > 0 { "…" } else { "" };
    // A wide letter may have left a column over.
    format!("{begin}{mark}{}", " ".repeat(columns.saturating_sub(begin.width() + 1)))
}

#[cfg(test)]
mod tests {
    use super::super::screen::Screen;
    use super::*;

    #[test]
    fn texts_are_cut_at_columns() {
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("日本語", 4), "日本");
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("e\u{301}tude", 2), "e\u{301}t");
        assert_eq!(fit("ab", 4), "ab  ");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日… ");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn a_terminal_that_became_narrower_has_wrapped_its_lines() {
        let screen = Screen::new(24, 60);
        let mut region = Region::new(Box::new(screen.clone()), Some(|| Some((24, 20))));
        region.paint(&[], &[Row::plain("x".repeat(45)), Row::plain("short")]);
        screen.resize(24, 20);
        region.paint(&[Row::plain("stays")], &[Row::plain("changes")]);
        region.paint(&[], &[Row::plain("changed")]);
        assert_eq!(screen.lines(), ["stays", "changed"]);
    }

    #[test]
    fn wide_letters_count_twice() {
        let screen = Screen::new(24, 20);
        let mut region = Region::new(Box::new(screen.clone()), Some(|| Some((24, 10))));
        region.paint(&[], &[Row::plain("日本語日本語")]);
        screen.resize(24, 10);
        region.paint(&[], &[Row { text: "done".to_owned(), style: Some("34") }]);
        assert_eq!(screen.lines(), ["done"]);
    }
}
