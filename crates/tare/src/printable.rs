//! Text of others, made safe for a person's terminal.

/// A line as a terminal may show it: no sequences that move its cursor or colour it, no control characters, no bytes that are no
/// UTF-8, tabulators as spaces.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\t' => shown.push_str(&" ".repeat(8 - shown.chars().count() % 8)),
            '\u{1b}' => skip_sequence(&mut letters),
            // 8-bit controls among them. What turns the direction of writing would show other words than there are.
            letter if letter.is_control() || is_direction(letter) => {}
            letter => shown.push(letter),
        }
    }
    shown
}

fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Skips what follows an escape character (ECMA-48): a control sequence up to its letter, a string up to its terminator, or one
/// character with those between.
fn skip_sequence(letters: &mut std::str::Chars<'_>) {
    match letters.next() {
        Some('[') => drop(letters.find(|letter| ('\u{40}'..='\u{7e}').contains(letter))),
        // Titles and links (OSC), device controls, private messages.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(letter) = letters.next() {
                if letter == '\u{7}' || letter == '\u{9c}' {
                    break;
                }
                if letter == '\u{1b}' {
                    letters.next();
                    break;
                }
            }
        }
        Some(' '..='/') => drop(letters.find(|letter| !(' '..='/').contains(letter))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_output_reaches_the_terminal_but_letters() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[1;31mred\x1b[0m and \x1b[2Jcleared", "red and cleared"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bPdcs\x1b\\a\x1b(Bb\x1b=c", "abc"),
            (b"a\tb\x08\x00\x7fc", "a       bc"),
            (b"\xc2\x9b2Jx", "2Jx"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{202e}drow".as_bytes(), "drow"),
            (b"cut \x1b[3", "cut "),
            (b"cut \x1b]0;never ends", "cut "),
        ] {
            assert_eq!(printable(bytes), expected, "{bytes:?}");
        }
    }
}
