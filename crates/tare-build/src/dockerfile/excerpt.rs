//! The lines that an error is about, as BuildKit shows them.

use super::syntax::Lines;

/// Lines that are too long for a terminal are cut.
const WIDTH: usize = 200;

/// Around this many lines are shown of a long statement: its beginning and its end.
const HEIGHT: usize = 40;

/// The lines with their surroundings, marked by `>>>`; ends with a line end. Empty if the text has no such lines.
///
/// ```text
/// Dockerfile:3
/// --------------------
///    1 |     FROM debian
///    2 |
///    3 | >>> RUNN true
///    4 |     CMD x
/// --------------------
/// ```
#[must_use]
pub fn excerpt(text: &str, file: &str, lines: Lines) -> String {
    let all: Vec<&str> = text.lines().collect();
    let (first, last) = (lines.first, lines.last.min(all.len()));
    if first == 0 || first > last {
        return String::new();
    }
    // A single line has more around it than several.
    let around = if first == last { 2 } else { 1 };
    let mut result = format!("{file}:{first}\n{RULE}\n");
    for number in first.saturating_sub(around).max(1)..=(last + around).min(all.len()) {
        if number > first + HEIGHT / 2 && number + HEIGHT / 2 < last {
            if number == first + HEIGHT / 2 + 1 {
                result.push_str("     |     ...\n");
            }
            continue;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let mut line: String = all[number - 1].chars().take(WIDTH).map(shown).collect();
        if line.len() < all[number - 1].len() {
            line.push('…');
        }
        result.push_str(format!(" {number:3} | {mark} {line}").trim_end());
        result.push('\n');
    }
    result.push_str(RULE);
    result.push('\n');
    result
}

const RULE: &str = "--------------------";

/// Nothing in a file moves the terminal's cursor.
fn shown(character: char) -> char {
    if character.is_control() && character != '\t' { char::REPLACEMENT_CHARACTER } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_their_surroundings() {
        let text = "FROM debian\r\n\r\nRUNN true\nCMD x\n# \x1b[31m\na\nb\n";
        for (first, last, expected) in [
            (
                3,
                3,
                "   1 |     FROM debian\n   2 |\n   3 | >>> RUNN true\n   4 |     CMD x\n   5 |     # \u{fffd}[31m\n",
            ),
            (1, 1, "   1 | >>> FROM debian\n   2 |\n   3 |     RUNN true\n"),
            (3, 4, "   2 |\n   3 | >>> RUNN true\n   4 | >>> CMD x\n   5 |     # \u{fffd}[31m\n"),
            (7, 9, "   5 |     # \u{fffd}[31m\n   6 |     a\n   7 | >>> b\n"),
        ] {
            let expected = format!("d/Dockerfile:{first}\n{RULE}\n{expected}{RULE}\n");
            assert_eq!(excerpt(text, "d/Dockerfile", Lines { first, last }), expected);
        }
        for (first, last) in [(0, 0), (8, 8), (3, 2)] {
            assert_eq!(excerpt(text, "Dockerfile", Lines { first, last }), "");
        }
        assert_eq!(excerpt("", "Dockerfile", Lines { first: 1, last: 1 }), "");
    }

    #[test]
    fn what_is_long_is_cut() {
        let text = "x\n".repeat(1000) + &"é".repeat(1000);
        let shown = excerpt(&text, "Dockerfile", Lines { first: 10, last: 900 });
        assert_eq!(shown.lines().count(), 3 + 1 + (HEIGHT / 2 + 1) * 2 + 1 + 1);
        assert!(shown.contains("  30 | >>> x\n     |     ...\n 880 | >>> x\n"), "{shown}");
        let shown = excerpt(&text, "Dockerfile", Lines { first: 1001, last: 1001 });
        assert!(shown.contains(&format!("1001 | >>> {}…\n", "é".repeat(WIDTH))), "{shown}");
    }
}
