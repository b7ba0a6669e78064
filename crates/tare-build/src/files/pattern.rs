//! Wildcards of COPY, ADD and ignore files: Go's `filepath.Match` (`*`, `?`, `[a-z]`, `[^a-z]`, `\`), and `**` on top of it.
//!
//! Matching follows all possibilities at once instead of trying one after the other, so that its time is at most the pattern's
//! length times the path's, whatever somebody writes.

/// Why a pattern means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {pattern:?}: {reason}")]
pub struct InvalidPattern {
    /// The pattern, cut to 200 characters.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A pattern that is ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    tokens: Vec<Token>,
    /// What a path must begin with: the characters before the first token that is none.
    prefix: String,
    /// What a path must end with: likewise behind the last one.
    suffix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character that is no slash.
    Any,
    /// `*`: any number of characters that are no slashes.
    Star,
    /// `[a-z]`; slashes are characters like others to it, as they are to Go.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// The beginning of `**` or `**/` before something else: nothing at all, or all up to some slash, that included.
    Enter,
    /// Inside of what [`Token::Enter`] began.
    Inside,
    /// `**` at the end: everything, slashes included.
    Rest,
}

/// How `**` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stars {
    /// As one `*`: `filepath.Match`.
    Same,
    /// Across slashes: ignore files, `--exclude` and `--parents`.
    Deep,
}

/// What matching needs of memory, to be used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    active: Vec<usize>,
    next: Vec<usize>,
    /// For each place in the pattern the round in which it became active last.
    marks: Vec<u64>,
    round: u64,
}

impl Glob {
    /// Reads a pattern.
    pub(super) fn parse(pattern: &str, stars: Stars) -> Result<Self, InvalidPattern> {
        let failed = |reason| InvalidPattern { pattern: pattern.chars().take(200).collect(), reason };
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        // moby/patternmatcher takes "**x" for "ends with x" where nothing else in it is special, and "**x*" for "a name that
        // begins with x"; what people have written relies on both.
        let is_suffix = stars == Stars::Deep
            && pattern.strip_prefix("**").is_some_and(|rest| !rest.contains(['*', '?', '[', ']', '\\', '/']));
        while let Some(char) = rest.next() {
            match char {
                '*' if stars == Stars::Deep && rest.peek() == Some(&'*') => {
                    rest.next();
                    let slash = rest.next_if_eq(&'/').is_some();
                    if rest.peek().is_none() || (is_suffix && !slash) {
                        tokens.push(Token::Rest);
                    } else {
                        tokens.extend([Token::Enter, Token::Inside]);
                    }
                }
                '*' => {
                    if tokens.last() != Some(&Token::Star) {
                        tokens.push(Token::Star);
                    }
                }
                '?' => tokens.push(Token::Any),
                '\\' => tokens.push(Token::Char(rest.next().ok_or_else(|| failed("nothing follows the backslash"))?)),
                '[' => tokens.push(class(&mut rest).map_err(failed)?),
                char => tokens.push(Token::Char(char)),
            }
        }
        let char = |token: &Token| match token {
            Token::Char(char) => Some(*char),
            _ => None,
        };
        let prefix = tokens.iter().map_while(char).collect();
        let suffix: Vec<char> = tokens.iter().rev().map_while(char).collect();
        let suffix = suffix.into_iter().rev().collect();
        Ok(Self { tokens, prefix, suffix })
    }

    /// Whether the whole of a path matches.
    pub(super) fn matches(&self, path: &[u8], scratch: &mut Scratch) -> bool {
        if !path.starts_with(self.prefix.as_bytes()) || !path.ends_with(self.suffix.as_bytes()) {
            return false;
        }
        if self.prefix.len() == self.suffix.len() && self.tokens.iter().all(|token| matches!(token, Token::Char(_))) {
            return path.len() == self.prefix.len();
        }
        self.run(path, scratch);
        scratch.active.contains(&self.tokens.len())
    }

    /// Whether any path below this folder can match.
    pub(super) fn can_match_below(&self, folder: &[u8], scratch: &mut Scratch) -> bool {
        let known = self.prefix.len().min(folder.len());
        if folder[..known] != self.prefix.as_bytes()[..known] {
            return false;
        }
        self.run(folder, scratch);
        if folder.is_empty() {
            return true;
        }
        self.step('/', scratch);
        // What is left must be able to take one character more.
        scratch.active.iter().any(|place| *place < self.tokens.len())
    }

    fn run(&self, path: &[u8], scratch: &mut Scratch) {
        scratch.marks.clear();
        scratch.marks.resize(self.tokens.len() + 1, 0);
        scratch.round = 1;
        scratch.next.clear();
        self.activate(0, scratch);
        std::mem::swap(&mut scratch.active, &mut scratch.next);
        let mut rest = path;
        while !rest.is_empty() && !scratch.active.is_empty() {
            let (char, length) = first_char(rest);
            rest = &rest[length..];
            self.step(char, scratch);
        }
    }

    fn step(&self, char: char, scratch: &mut Scratch) {
        scratch.round += 1;
        scratch.next.clear();
        let active = std::mem::take(&mut scratch.active);
        for &place in &active {
            match self.tokens.get(place) {
                Some(Token::Char(wanted)) if *wanted == char => self.activate(place + 1, scratch),
                Some(Token::Any) if char != '/' => self.activate(place + 1, scratch),
                Some(Token::Star) if char != '/' => self.activate(place, scratch),
                Some(Token::Class { negated, ranges })
                    if ranges.iter().any(|(low, high)| (*low..=*high).contains(&char)) != *negated =>
                {
                    self.activate(place + 1, scratch);
                }
                Some(Token::Inside) => {
                    self.activate(place, scratch);
                    if char == '/' {
                        self.activate(place + 1, scratch);
                    }
                }
                Some(Token::Rest) => self.activate(place, scratch),
                _ => {}
            }
        }
        scratch.active = active;
        std::mem::swap(&mut scratch.active, &mut scratch.next);
    }

    /// Makes a place active, and those that are reached from it without a character.
    fn activate(&self, mut place: usize, scratch: &mut Scratch) {
        loop {
            if scratch.marks[place] == scratch.round {
                return;
            }
            scratch.marks[place] = scratch.round;
            match self.tokens.get(place) {
                Some(Token::Star | Token::Rest) => {
                    scratch.next.push(place);
                    place += 1;
                }
                Some(Token::Enter) => {
                    if scratch.marks[place + 1] != scratch.round {
                        scratch.marks[place + 1] = scratch.round;
                        scratch.next.push(place + 1);
                    }
                    place += 2;
                }
                _ => {
                    scratch.next.push(place);
                    return;
                }
            }
        }
    }
}

/// A class behind its bracket: `^`, then at least one character or range, then `]`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_char(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_char(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_char(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, &'static str> {
    const OPEN: &str = "the bracket is not closed";
    match rest.next().ok_or(OPEN)? {
        '-' => Err("a hyphen in brackets stands between two characters, or behind a backslash"),
        ']' => Err("a closing bracket in brackets stands behind a backslash"),
        '\\' => rest.next().ok_or(OPEN),
        char => Ok(char),
    }
}

/// A path's first character and its bytes; a byte that is no UTF-8 is a character of its own, as it is to Go.
fn first_char(path: &[u8]) -> (char, usize) {
    if path[0].is_ascii() {
        return (char::from(path[0]), 1);
    }
    for length in 2..=path.len().min(4) {
        if let Some(char) = std::str::from_utf8(&path[..length]).ok().and_then(|text| text.chars().next()) {
            return (char, length);
        }
    }
    (char::REPLACEMENT_CHARACTER, 1)
}

/// Whether there is a wildcard in it that no backslash takes away.
pub(super) fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(char) = chars.next() {
        match char {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, stars: Stars) -> Result<bool, &'static str> {
        let glob = Glob::parse(pattern, stars).map_err(|error| error.reason)?;
        Ok(glob.matches(path.as_bytes(), &mut Scratch::default()))
    }

    #[test]
    fn names_match_as_in_go() {
        for (pattern, path, expected) in [
            ("main.rs", "main.rs", true),
            ("main.rs", "main.rs2", false),
            ("main.rs", "mainxrs", false),
            ("*", "", true),
            ("*", "main.rs", true),
            ("*.rs", "main.rs", true),
            ("*.rs", ".rs", true),
            ("m*", "m", true),
            ("m*", "main/x", false),
            ("m*/x", "main/x", true),
            ("m*/x", "main/y/x", false),
            ("m*a*i*n*/x", "m1a2i3n4/x", true),
            ("m*a*i*n*/x", "m1a2i3n4/y/x", false),
            ("m*a?i*n", "mmaaaxiin", true),
            ("m*a?i*n", "mmaaaxiim", false),
            ("*aab", "aaab", true),
            ("**", "a", true),
            ("**", "a/b", false),
            ("?", "x", true),
            ("?", "/", false),
            ("?", "", false),
            ("x?z", "xäz", true),
            ("x??z", "xäz", false),
            ("x[y]z", "xyz", true),
            ("x[a-y]z", "xyz", true),
            ("x[a-x]z", "xyz", false),
            ("x[^y]z", "xyz", false),
            ("x[^a-x]z", "xyz", true),
            ("x[^y]z", "xäz", true),
            ("x[^y]z", "x/z", true),
            ("[ab0-9]", "5", true),
            ("[ab0-9]", "b", true),
            ("[ab0-9]", "c", false),
            ("[β-δ]*", "γx", true),
            ("[β-δ]", "α", false),
            ("[z-a]", "m", false),
            ("x\\*z", "x*z", true),
            ("x\\*z", "xyz", false),
            ("x\\\\", "x\\", true),
            ("\\d", "d", true),
            ("\\d", "1", false),
            ("[\\]]", "]", true),
            ("[\\-x]", "-", true),
            ("[+-\\]]", "-", true),
            ("[*?]", "*", true),
            ("[*?]", "x", false),
            ("x]", "x]", true),
            ("(a|b)+{c}^$.", "(a|b)+{c}^$.", true),
        ] {
            assert_eq!(matches(pattern, path, Stars::Same), Ok(expected), "{pattern} {path}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in
            ["[", "[^", "[a", "[a-", "[a-]", "[]", "[]a]", "[-]", "[-a]", "[a-b-c]", "[\\", "a\\", "x[^y", "*["]
        {
            assert!(matches(pattern, "x", Stars::Same).is_err(), "{pattern}");
            assert!(matches(pattern, "x", Stars::Deep).is_err(), "{pattern}");
        }
    }

    #[test]
    fn two_stars_cross_slashes() {
        for (pattern, path, expected) in [
            ("**", "a/b/c", true),
            ("**", "a", true),
            ("**/**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a**", "a/b", true),
            ("a**", "abc", true),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/yx", false),
            ("**/x/y", "a/x/y", true),
            ("**/x/*", "a/x/y", true),
            ("**/x/*", "a/x/y/z", false),
            ("**/x/**", "a/x/y/z", true),
            ("**x", "a/yx", true),
            ("**x*", "a/yx", false),
            ("**x*", "a/xy", true),
            ("a/**/x", "a/x", true),
            ("a/**/x", "a/b/c/x", true),
            ("a/**/x", "a/b/cx", false),
            ("a/**/x", "b/x", false),
            ("a**x", "ax", true),
            ("a**x", "a/x", true),
            ("a**x", "ab/x", true),
            ("a**x", "abx", false),
            ("a**/*.t", "a/b/c.t", true),
            ("**/**/*.t", "c.t", true),
            ("***", "a/b", true),
            ("***/x", "a/x", true),
        ] {
            assert_eq!(matches(pattern, path, Stars::Deep), Ok(expected), "{pattern} {path}");
        }
    }

    #[test]
    fn what_can_match_below_is_known() {
        for (pattern, folder, expected) in [
            ("a/b", "a", true),
            ("a/b", "b", false),
            ("a/b", "a/b", false),
            ("a/*", "a", true),
            ("*/x", "a", true),
            ("*/x", "a/b", false),
            ("**/x", "a/b/c", true),
            ("a/**/x", "a/b", true),
            ("a/**/x", "b", false),
            ("*.t", "a", false),
            ("a/b/c", "a/b", true),
            ("a/b/c", "", true),
            ("a/b", "ab", false),
            ("ab/c", "a", false),
        ] {
            let glob = Glob::parse(pattern, Stars::Deep).unwrap();
            let actual = glob.can_match_below(folder.as_bytes(), &mut Scratch::default());
            assert_eq!(actual, expected, "{pattern} {folder}");
        }
    }

    #[test]
    fn many_stars_take_no_more_than_length_times_length() {
        let glob = Glob::parse(&"**/*a".repeat(300), Stars::Deep).unwrap();
        let path = "a/".repeat(1000) + "b";
        assert!(!glob.matches(path.as_bytes(), &mut Scratch::default()));
        let glob = Glob::parse(&("*a".repeat(300) + "*b"), Stars::Same).unwrap();
        assert!(!glob.matches("a".repeat(3000).as_bytes(), &mut Scratch::default()));
    }

    #[test]
    fn bytes_that_are_no_text_are_characters() {
        let glob = Glob::parse("a?b", Stars::Same).unwrap();
        assert!(glob.matches(b"a\xffb", &mut Scratch::default()));
        assert!(!glob.matches(b"a\xff\xfeb", &mut Scratch::default()));
        assert!(has_wildcards("a\\\\*") && !has_wildcards("a\\*") && has_wildcards("[") && !has_wildcards("]\\"));
    }
}
