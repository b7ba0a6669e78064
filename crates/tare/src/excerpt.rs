//! Lines of a Dockerfile around a place in it, in BuildKit's frame.

use crate::printable::printable;
use std::fmt::Write as _;
use tare_engine::build::{Lines, Source};
use tare_spec::url::without_users;

/// So many lines around a single one, and half of it around several.
const AROUND: usize = 2;

const FRAME: &str = "--------------------\n";

/// The place, those lines marked and some around them; nothing when the text does not have them.
pub(crate) fn show(source: &Source, lines: Lines) -> String {
    let all: Vec<&str> = source.text.lines().collect();
    let (first, last) = (lines.first, lines.last.max(lines.first).min(all.len()));
    if first == 0 || first > all.len() {
        return String::new();
    }
    let around = if first == last { AROUND } else { AROUND / 2 };
    let shown = first.saturating_sub(around).max(1)..=(last + around).min(all.len());
    let mut text = format!("{}:{first}\n{FRAME}", printable(source.name.as_bytes()));
    for number in shown {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let line = without_users(&printable(all[number - 1].as_bytes()));
        let line = format!(" {number:3} | {mark} {line}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text + FRAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let lines = (1..=12).map(|number| format!("LINE {number}\x1b[2J\n"));
        Source { name: "Dockerfile".to_owned(), text: lines.collect() }
    }

    fn numbers(first: usize, last: usize) -> Vec<String> {
        let text = show(&source(), Lines { first, last });
        text.lines().filter(|line| line.contains('|')).map(|line| line[..9].trim_end().to_owned()).collect()
    }

    #[test]
    fn passwords_are_not_shown() {
        let source = Source { name: "Dockerfile".to_owned(), text: "ADD https://user:pw@host/x /\n".to_owned() };
        assert!(show(&source, Lines { first: 1, last: 1 }).contains(">>> ADD https://host/x /\n"));
    }

    #[test]
    fn a_line_with_its_neighbours() {
        assert_eq!(
            show(&source(), Lines { first: 2, last: 2 }),
            "Dockerfile:2\n\
             --------------------\n   \
                1 |     LINE 1\n   \
                2 | >>> LINE 2\n   \
                3 |     LINE 3\n   \
                4 |     LINE 4\n\
             --------------------\n"
        );
        assert_eq!(numbers(12, 12), ["  10 |", "  11 |", "  12 | >>"]);
        assert_eq!(numbers(4, 6), ["   3 |", "   4 | >>", "   5 | >>", "   6 | >>", "   7 |"]);
    }

    #[test]
    fn places_that_are_not_there() {
        for (first, last) in [(0, 0), (13, 13)] {
            assert_eq!(show(&source(), Lines { first, last }), "");
        }
        assert_eq!(numbers(11, 99), ["  10 |", "  11 | >>", "  12 | >>"]);
    }
}
