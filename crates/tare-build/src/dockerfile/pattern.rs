//! Patterns in substitutions: `*` stands for any characters, `?` for one, and a backslash takes their meaning away. Brackets mean
//! nothing, as in BuildKit.

use super::problem::WordProblem;
use std::collections::HashMap;

/// 1024 characters. The work is the length of the text times that of the pattern, divided by 64.
const LIMIT: usize = 1024;

/// A pattern, as the pieces between its stars.
#[derive(Debug)]
pub(super) struct Pattern {
    /// At least one; the first and the last may be empty.
    pieces: Vec<Piece>,
    length: usize,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, WordProblem> {
        let mut pieces: Vec<Vec<Option<char>>> = vec![Vec::new()];
        let mut length = 0;
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            length += 1;
            if length > LIMIT {
                return Err(WordProblem::PatternTooLong { limit: LIMIT });
            }
            let token = match character {
                '*' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '?' => None,
                '\\' => match characters.next() {
                    // The first two had to be escaped for the braces around the pattern.
                    Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Some(escaped),
                    other => {
                        let escape = other.unwrap_or(char::REPLACEMENT_CHARACTER);
                        return Err(WordProblem::Escape { pattern: text.to_owned(), escape });
                    }
                },
                other => Some(other),
            };
            pieces.last_mut().expect("there is always one").push(token);
        }
        // Stars next to each other are one.
        let last = pieces.len() - 1;
        let mut index = 0;
        pieces.retain(|piece| {
            index += 1;
            index == 1 || index == last + 1 || !piece.is_empty()
        });
        Ok(Self { pieces: pieces.into_iter().map(Piece::new).collect(), length })
    }

    /// What matching costs, in steps of about a nanosecond.
    pub(super) fn cost(&self, text: &str) -> usize {
        text.len().saturating_mul(1 + self.length / 64)
    }

    /// The text without the shortest or longest beginning that matches.
    pub(super) fn without_prefix<'a>(&self, text: &'a str, longest: bool) -> &'a str {
        let characters: Vec<char> = text.chars().collect();
        match self.end(&characters, 0, longest) {
            None => text,
            Some(end) => &text[byte(text, end)..],
        }
    }

    /// The text without the shortest or longest end that matches.
    pub(super) fn without_suffix<'a>(&self, text: &'a str, longest: bool) -> &'a str {
        let characters: Vec<char> = text.chars().rev().collect();
        let reversed = |piece: &Piece| Piece::new(piece.tokens.iter().rev().copied().collect());
        let pieces = self.pieces.iter().rev().map(reversed).collect();
        match (Self { pieces, length: self.length }).end(&characters, 0, longest) {
            None => text,
            Some(end) => &text[..byte(text, characters.len() - end)],
        }
    }

    /// The text with the leftmost longest match, or all of them, replaced; none if the result were larger than `limit`.
    pub(super) fn replace(&self, text: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let characters: Vec<char> = text.chars().collect();
        let mut result = String::new();
        // An empty match right behind another one is none.
        let (mut from, mut previous) = (0, None);
        while let Some((start, end)) = self.first(&characters, from) {
            result.extend(&characters[from..start]);
            if previous != Some(start) || start < end {
                result.push_str(replacement);
                previous = Some(end);
                if !all {
                    from = end;
                    break;
                }
            }
            from = end;
            if start == end {
                match characters.get(end) {
                    None => break,
                    Some(character) => result.push(*character),
                }
                from += 1;
            }
            if result.len() > limit {
                return None;
            }
        }
        result.extend(characters.get(from..).unwrap_or_default());
        (result.len() <= limit).then_some(result)
    }

    /// The leftmost longest match at or after `from`.
    fn first(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        if from > text.len() {
            return None;
        }
        // If what follows the first place of the first piece does not match, it does not behind a later place either.
        let start = self.pieces[0].find(text, from, false)?;
        self.end(text, start, true).map(|end| (start, end))
    }

    /// Where the match that begins at `start` ends.
    fn end(&self, text: &[char], start: usize, longest: bool) -> Option<usize> {
        let (first, others) = self.pieces.split_first().expect("there is always one");
        let candidate = text.get(start..start + first.tokens.len())?;
        if !candidate.iter().zip(&first.tokens).all(|(character, token)| token.is_none_or(|token| token == *character))
        {
            return None;
        }
        let mut end = start + first.tokens.len();
        let Some((last, between)) = others.split_last() else { return Some(end) };
        for piece in between {
            end = piece.find(text, end, false)? + piece.tokens.len();
        }
        match (last.tokens.is_empty(), longest) {
            (true, true) => Some(text.len()),
            _ => Some(last.find(text, end, longest)? + last.tokens.len()),
        }
    }
}

/// What stands between two stars: characters, and `None` for `?`.
#[derive(Debug)]
struct Piece {
    tokens: Vec<Option<char>>,
    /// For each character the places in `tokens` where it may stand, as bits; `any` are those where every character may.
    masks: HashMap<char, Vec<u64>>,
    any: Vec<u64>,
}

impl Piece {
    fn new(tokens: Vec<Option<char>>) -> Self {
        let blocks = tokens.len().div_ceil(64);
        let mut any = vec![0; blocks];
        let mut masks: HashMap<char, Vec<u64>> = HashMap::new();
        for (index, token) in tokens.iter().enumerate() {
            let mask = match token {
                None => &mut any,
                Some(character) => masks.entry(*character).or_insert_with(|| vec![0; blocks]),
            };
            mask[index / 64] |= 1 << (index % 64);
        }
        Self { tokens, masks, any }
    }

    /// The first or last place at or after `from` where the piece is found: each bit of the state tells whether as much of its
    /// beginning ends here ("shift-and").
    fn find(&self, text: &[char], from: usize, last: bool) -> Option<usize> {
        let Some(final_bit) = self.tokens.len().checked_sub(1) else { return Some(from) };
        let mut state = vec![0_u64; self.any.len()];
        let mut found = None;
        for (index, character) in text.iter().enumerate().skip(from) {
            let mask = self.masks.get(character);
            let mut carry = 1;
            for (block, bits) in state.iter_mut().enumerate() {
                let allowed = self.any[block] | mask.map_or(0, |mask| mask[block]);
                let out = *bits >> 63;
                *bits = (*bits << 1 | carry) & allowed;
                carry = out;
            }
            if state[final_bit / 64] >> (final_bit % 64) & 1 == 1 {
                found = Some(index - final_bit);
                if !last {
                    break;
                }
            }
        }
        found
    }
}

/// Where a character begins, in bytes.
fn byte(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_and_ends() {
        for (text, pattern, shortest, longest) in [
            ("xxyy", "x", "xyy", "xyy"),
            ("xxyy", "", "xxyy", "xxyy"),
            ("xxyy", "*", "xxyy", ""),
            ("xxyy", "*x", "xyy", "yy"),
            ("xxyy", "*x*y", "y", ""),
            ("xxyy", "y", "xxyy", "xxyy"),
            ("xxyy", "?", "xyy", "xyy"),
            ("xxyy", "?????", "xxyy", "xxyy"),
            ("a/b/c", "*/", "b/c", "c"),
            ("a/b/c", "**/**", "b/c", ""),
            ("*?\\}/[a]x", "\\*\\?\\\\\\}\\/[a]", "x", "x"),
            ("éèx", "?è", "x", "x"),
            ("a\nb", "*b", "", ""),
        ] {
            let pattern_of = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern_of.without_prefix(text, false), shortest, "{text} # {pattern}");
            assert_eq!(pattern_of.without_prefix(text, true), longest, "{text} ## {pattern}");
        }
        for (text, pattern, shortest, longest) in [
            ("xxyy", "y", "xxy", "xxy"),
            ("xxyy", "x*", "x", ""),
            ("xxyy", "*", "xxyy", ""),
            ("a.tar.gz", ".*", "a.tar", "a"),
            ("xx**", "\\**", "xx*", "xx"),
            ("a***yy*", "\\**\\*", "a**", "a"),
            ("x-é", "?", "x-", "x-"),
        ] {
            let pattern_of = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern_of.without_suffix(text, false), shortest, "{text} % {pattern}");
            assert_eq!(pattern_of.without_suffix(text, true), longest, "{text} %% {pattern}");
        }
    }

    #[test]
    fn replacements() {
        for (text, pattern, first, all) in [
            ("/tmp/tmp/x", "/tmp", "_/tmp/x", "__/x"),
            ("aXbXc", "X", "a_bXc", "a_b_c"),
            ("aXbXc", "X*X", "a_c", "a_c"),
            ("aXbXc", "?X", "_bXc", "__c"),
            ("aXbXc", "*", "_", "_"),
            ("aXbXc", "b*", "aX_", "aX_"),
            ("ab", "", "_ab", "_a_b_"),
            ("", "", "_", "_"),
            ("", "*", "_", "_"),
            ("ab", "c", "ab", "ab"),
        ] {
            let pattern_of = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern_of.replace(text, "_", false, 100).unwrap(), first, "{text} / {pattern}");
            assert_eq!(pattern_of.replace(text, "_", true, 100).unwrap(), all, "{text} // {pattern}");
        }
        assert_eq!(Pattern::parse("a").unwrap().replace(&"a".repeat(60), "bb", true, 100), None);
    }

    #[test]
    fn escapes_are_only_where_they_are_needed() {
        for (text, escape) in [("\\", '\u{fffd}'), ("a\\b", 'b'), ("\\\\\\", '\u{fffd}')] {
            let expected = WordProblem::Escape { pattern: text.to_owned(), escape };
            assert_eq!(Pattern::parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn long_patterns_over_many_blocks() {
        let piece = "ab?".repeat(100);
        let text = format!("{}{}tail", "abc".repeat(300), "x");
        let pattern = Pattern::parse(&format!("*{piece}")).unwrap();
        assert_eq!(pattern.without_prefix(&text, false), &text[300..]);
        assert_eq!(pattern.without_prefix(&text, true), "xtail");
        assert!(matches!(Pattern::parse(&"a".repeat(LIMIT + 1)), Err(WordProblem::PatternTooLong { .. })));
    }
}
