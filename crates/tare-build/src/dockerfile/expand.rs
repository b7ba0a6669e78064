//! Variables, quotes and escapes in words (Dockerfile reference, "Environment replacement"), in the manner of BuildKit's shell lexer.
//!
//! What an expansion may cost is bounded, whatever values the variables have: see [`EXPANDED_LIMIT`].

use super::pattern::Pattern;
use super::problem::{Problem, WordProblem};
use std::collections::BTreeSet;

/// Gives the value of a variable, if it has one.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// 4 MiB: what the values in one expansion may come to, and what may be searched for patterns. A process can be given 128 KiB in one
/// variable; a chain of `ENV A=$A$A` would fill any memory.
pub const EXPANDED_LIMIT: usize = 4 << 20;

/// Substitutions within each other; beyond it the stack would be at stake.
const DEPTH_LIMIT: usize = 100;

/// A word after its expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// What has become of it.
    pub text: String,
    /// The variables that have a value.
    pub found: BTreeSet<String>,
    /// Those that have none, whether a default stood in or not.
    pub missing: BTreeSet<String>,
}

/// What a text has become that was split after its expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpandedWords {
    /// The words, none of them empty.
    pub words: Vec<String>,
    /// The variables that have a value.
    pub found: BTreeSet<String>,
    /// Those that have none, whether a default stood in or not.
    pub missing: BTreeSet<String>,
}

/// Puts variables in and takes quotes and escapes away. Variables without a value are empty.
///
/// It knows `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?w} ${v?w} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/w} ${v//p/w}`; `w` is a word
/// and `p` a pattern with `*` and `?`, in which variables are replaced as well.
///
/// # Errors
/// [`Problem::Word`].
pub fn expand(word: &str, escape: char, lookup: &Lookup<'_>) -> Result<Expanded, Problem> {
    Lexer::new(word, escape, lookup).text()
}

/// As [`expand`], and splits the result at white space that is not quoted. That of variables counts too.
///
/// # Errors
/// [`Problem::Word`].
pub fn expand_words(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<ExpandedWords, Problem> {
    Lexer::new(text, escape, lookup).words()
}

/// As [`expand`], for the content of a here-document: quotes are characters like any other, and the escape character is always a
/// backslash.
///
/// # Errors
/// [`Problem::Word`].
pub fn expand_document(content: &str, lookup: &Lookup<'_>) -> Result<Expanded, Problem> {
    Lexer { quotes: Quotes::Ordinary, ..Lexer::new(content, '\\', lookup) }.text()
}

/// For people: puts variables in that have a value, and leaves all else as it is. What cannot be expanded stays.
pub fn expand_shown(text: &str, escape: char, lookup: &Lookup<'_>) -> String {
    let lexer = Lexer { quotes: Quotes::Kept, keep_unset: true, ..Lexer::new(text, escape, lookup) };
    lexer.text().map_or_else(|_| text.to_owned(), |expanded| expanded.text)
}

/// The words of a line for the shell as they are written, quotes and escapes included; none where they cannot be told apart.
pub(super) fn shell_words(line: &str) -> Option<Vec<String>> {
    let lexer = Lexer { quotes: Quotes::Kept, keep_unset: true, raw: true, ..Lexer::new(line, '\\', &|_| None) };
    lexer.words().ok().map(|expanded| expanded.words)
}

/// The words of a text without their quotes, and with them; escapes are taken away, and variables stay.
pub(super) fn quoted_and_not(text: &str) -> Result<(Vec<String>, Vec<String>), Problem> {
    let nothing: &Lookup<'_> = &|_| None;
    let lexer = |quotes| Lexer { quotes, keep_unset: true, ..Lexer::new(text, '\\', nothing) };
    Ok((lexer(Quotes::Removed).words()?.words, lexer(Quotes::Kept).words()?.words))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Removed,
    Kept,
    /// They protect nothing.
    Ordinary,
}

struct Lexer<'a> {
    source: &'a str,
    rest: &'a str,
    escape: char,
    lookup: &'a Lookup<'a>,
    quotes: Quotes,
    /// Whether variables without a value stay as they are written.
    keep_unset: bool,
    /// Whether escapes stay as they are written.
    raw: bool,
    found: BTreeSet<String>,
    missing: BTreeSet<String>,
    depth: usize,
    spent: usize,
}

impl<'a> Lexer<'a> {
    fn new(source: &'a str, escape: char, lookup: &'a Lookup<'a>) -> Self {
        let (found, missing) = (BTreeSet::new(), BTreeSet::new());
        let (keep_unset, raw, depth, spent) = (false, false, 0, 0);
        let (rest, quotes) = (source, Quotes::Removed);
        Self { source, rest, escape, lookup, quotes, keep_unset, raw, found, missing, depth, spent }
    }

    fn text(mut self) -> Result<Expanded, Problem> {
        match self.until(None, self.raw, &mut Words::default()) {
            Ok(text) => Ok(Expanded { text, found: self.found, missing: self.missing }),
            Err(cause) => Err(Problem::Word { word: self.source.to_owned(), cause }),
        }
    }

    fn words(mut self) -> Result<ExpandedWords, Problem> {
        let mut words = Words { wanted: true, ..Words::default() };
        match self.until(None, self.raw, &mut words) {
            Ok(_) => Ok(ExpandedWords { words: words.finish(), found: self.found, missing: self.missing }),
            Err(cause) => Err(Problem::Word { word: self.source.to_owned(), cause }),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    /// Expands up to a character, which is taken away, or to the end.
    fn until(&mut self, stop: Option<char>, raw: bool, words: &mut Words) -> Result<String, WordProblem> {
        let mut result = String::new();
        while let Some(character) = self.peek() {
            match character {
                _ if stop == Some(character) => {
                    self.next();
                    return Ok(result);
                }
                '$' => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    value.chars().for_each(|character| words.add(character));
                }
                // `<<` and its word are one, a here-document's mark; `<<- EOF` too, as in a shell.
                '<' if self.rest.starts_with("<<") => {
                    let blanks = |text: &str| text.bytes().take_while(|byte| b"\t\r ".contains(byte)).count();
                    let length = match self.rest.strip_prefix("<<-").map(blanks) {
                        Some(blanks @ 1..) => 3 + blanks,
                        _ => 2 + blanks(&self.rest[2..]),
                    };
                    let (mark, rest) = self.rest.split_at(length);
                    self.rest = rest;
                    result.push_str(mark);
                    words.add_raw(mark);
                }
                '\'' | '"' if self.quotes != Quotes::Ordinary => {
                    let quoted = if character == '"' { self.double_quoted(raw)? } else { self.single_quoted()? };
                    result.push_str(&quoted);
                    words.add_raw(&quoted);
                }
                _ if character == self.escape => {
                    let start = self.rest;
                    self.next();
                    self.next();
                    let both = &start[..start.len() - self.rest.len()];
                    let kept = if raw { both } else { &both[character.len_utf8()..] };
                    result.push_str(kept);
                    words.add_raw(kept);
                }
                _ => {
                    self.next();
                    result.push(character);
                    words.add(character);
                }
            }
        }
        match stop {
            None => Ok(result),
            Some('/') => Err(WordProblem::Slash),
            Some(_) => Err(WordProblem::Brace),
        }
    }

    /// All between single quotes is as it is.
    fn single_quoted(&mut self) -> Result<String, WordProblem> {
        let start = self.rest;
        self.next();
        let (literal, after) = self.rest.split_once('\'').ok_or(WordProblem::Quote { what: "single-quote" })?;
        self.rest = after;
        let kept = self.quotes == Quotes::Kept;
        Ok(if kept { start[..start.len() - after.len()].to_owned() } else { literal.to_owned() })
    }

    /// Between double quotes variables are replaced, and only quotes, `$` and the escape character are escaped.
    fn double_quoted(&mut self, raw: bool) -> Result<String, WordProblem> {
        let kept = self.quotes == Quotes::Kept;
        let mut result = String::new();
        self.next();
        if kept {
            result.push('"');
        }
        while let Some(character) = self.peek() {
            if character == '$' {
                result.push_str(&self.dollar()?);
                continue;
            }
            self.next();
            match character {
                '"' => {
                    if kept {
                        result.push('"');
                    }
                    return Ok(result);
                }
                _ if character == self.escape => {
                    let Some(next) = self.peek() else { break };
                    let special = matches!(next, '"' | '$') || next == self.escape;
                    if raw || !special {
                        result.push(character);
                    }
                    if special {
                        self.next();
                        result.push(next);
                    } else if raw {
                        // BuildKit's lexer doubles it, too: it only ever looks for quotes and marks in the result.
                        result.push(character);
                    }
                }
                _ => result.push(character),
            }
        }
        Err(WordProblem::Quote { what: "double-quote" })
    }

    /// What a `$` and what belongs to it stand for.
    fn dollar(&mut self) -> Result<String, WordProblem> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(name)? {
                None if self.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.next();
        if self.depth == DEPTH_LIMIT {
            return Err(WordProblem::TooDeep { limit: DEPTH_LIMIT });
        }
        self.depth += 1;
        let result = self.braces();
        self.depth -= 1;
        let text = result?;
        self.spend(text.len())?;
        Ok(text)
    }

    /// What follows `${`.
    fn braces(&mut self) -> Result<String, WordProblem> {
        if let Some('{' | '}' | ':') = self.peek() {
            return Err(WordProblem::Substitution);
        }
        let name = self.name();
        let first = self.next().ok_or(WordProblem::Brace)?;
        if first == '}' {
            return Ok(match self.value(name)? {
                None if self.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            });
        }
        if first == '/' {
            return self.replacement(name);
        }
        let colon = first == ':';
        let mut modifier = first.to_string();
        let mut sign = first;
        if colon {
            sign = self.next().ok_or(WordProblem::Brace)?;
            modifier.push(sign);
        }
        let is_pattern = matches!(sign, '#' | '%');
        let is_wrong = if colon { is_pattern } else { !is_pattern && !matches!(sign, '-' | '+' | '?') };
        if is_wrong {
            return Err(WordProblem::Modifier { modifier });
        }
        let word = self.until(Some('}'), is_pattern, &mut Words::default())?;
        let value = self.value(name)?;
        if value.is_none() && self.keep_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let counts = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        match sign {
            '-' if counts => Ok(value.unwrap_or_default()),
            '-' => Ok(word),
            '+' if counts => Ok(word),
            '+' => Ok(String::new()),
            '?' if counts => Ok(value.unwrap_or_default()),
            '?' => {
                let state = if value.is_none() { "unset" } else { "empty" };
                let message = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                Err(WordProblem::Required { name: name.to_owned(), message })
            }
            '#' | '%' => {
                let (longest, text) = match word.strip_prefix(sign) {
                    Some(text) => (true, text),
                    None => (false, word.as_str()),
                };
                let (pattern, value) = (Pattern::parse(text)?, value.unwrap_or_default());
                self.spend(pattern.cost(&value))?;
                let kept = if sign == '#' {
                    pattern.without_prefix(&value, longest)
                } else {
                    pattern.without_suffix(&value, longest)
                };
                Ok(kept.to_owned())
            }
            // `${name:0:3}` of other shells stays where variables without a value do.
            _ => Err(WordProblem::Modifier { modifier }),
        }
    }

    /// What follows `${name/`.
    fn replacement(&mut self, name: &str) -> Result<String, WordProblem> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let text = self.until(Some('/'), true, &mut Words::default())?;
        let replacement = self.until(Some('}'), true, &mut Words::default())?;
        let value = match self.value(name)? {
            None if self.keep_unset => {
                let all = if all { "/" } else { "" };
                return Ok(format!("${{{name}/{all}{text}/{replacement}}}"));
            }
            value => value.unwrap_or_default(),
        };
        let pattern = Pattern::parse(&text)?;
        self.spend(pattern.cost(&value))?;
        let limit = EXPANDED_LIMIT.saturating_sub(self.spent);
        pattern.replace(&value, &replacement, all, limit).ok_or(WordProblem::TooLarge { limit: EXPANDED_LIMIT })
    }

    /// A variable's name: letters, digits and `_`; or digits alone; or one of the shell's special parameters. May be empty.
    fn name(&mut self) -> &'a str {
        let mut characters = self.rest.char_indices();
        let length = match characters.next() {
            Some((_, '0'..='9')) => self.rest.bytes().take_while(u8::is_ascii_digit).count(),
            Some((_, '@' | '*' | '#' | '?' | '-' | '$' | '!')) => 1,
            _ => {
                let is_part =
                    |character: char| character.is_alphabetic() || character.is_ascii_digit() || character == '_';
                self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len())
            }
        };
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, WordProblem> {
        let value = (self.lookup)(name);
        // The name costs as well: a text may have a million of them.
        self.spend(value.as_ref().map_or(0, String::len))?;
        let names = if value.is_some() { &mut self.found } else { &mut self.missing };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        Ok(value)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), WordProblem> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > EXPANDED_LIMIT { Err(WordProblem::TooLarge { limit: EXPANDED_LIMIT }) } else { Ok(()) }
    }
}

/// Words in the making.
#[derive(Default)]
struct Words {
    wanted: bool,
    words: Vec<String>,
    current: String,
}

impl Words {
    fn add(&mut self, character: char) {
        if !self.wanted {
            return;
        }
        if !character.is_whitespace() {
            self.current.push(character);
        } else if !self.current.is_empty() {
            self.words.push(std::mem::take(&mut self.current));
        }
    }

    /// Adds what white space does not end.
    fn add_raw(&mut self, text: &str) {
        if self.wanted {
            self.current.push_str(text);
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.words.push(self.current);
        }
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "A" => "1 2",
            "E" => "",
            "HOME" => "/home",
            "FILE" => "a/b.tar.gz",
            "STARS" => "x*y*",
            "PATTERN" => "*/",
            "AB" => "  x y  ",
            "é" => "accent",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn text(word: &str, escape: char) -> Result<String, String> {
        match expand(word, escape, &lookup) {
            Ok(expanded) => Ok(expanded.text),
            Err(Problem::Word { word: shown, cause }) if shown == word => Err(cause.to_string()),
            Err(other) => panic!("{word}: {other}"),
        }
    }

    #[test]
    fn quotes_and_escapes() {
        for (word, expected) in [
            ("plain", Ok("plain")),
            ("", Ok("")),
            ("it'$A's", Ok("it$As")),
            ("a\"$A\"b", Ok("a1 2b")),
            (r"\a\\\'\$A", Ok(r"a\'$A")),
            (r"end\", Ok("end")),
            (r"end\\", Ok(r"end\")),
            (r#""\a\\\"\$A\'""#, Ok(r#"\a\"$A\'"#)),
            (r"'\a\'", Ok(r"\a\")),
            (r#""'$HOME'""#, Ok("'/home'")),
            (r#"'"x"'"#, Ok(r#""x""#)),
            ("안'녕'$HOME", Ok("안녕/home")),
            ("'a", Err("unexpected end of statement while looking for matching single-quote")),
            ("a'b'c'", Err("unexpected end of statement while looking for matching single-quote")),
            ("\"a", Err("unexpected end of statement while looking for matching double-quote")),
            (r#""a\""#, Err("unexpected end of statement while looking for matching double-quote")),
        ] {
            assert_eq!(text(word, '\\'), expected.map(str::to_owned).map_err(str::to_owned), "{word}");
        }
        assert_eq!(text(r"a`$A\b", '`').unwrap(), r"a$A\b");
        assert_eq!(text("\"`$A\\$A``\"", '`').unwrap(), r"$A\1 2`");
    }

    #[test]
    fn variables_and_their_modifiers() {
        for (word, expected) in [
            ("$HOME-${HOME}-$N-${N}-$HOMEX", Ok("/home-/home---")),
            ("$é.$HOME.", Ok("accent./home.")),
            ("$", Ok("$")),
            ("a$.b$", Ok("a$.b$")),
            (r"\${}x", Ok("${}x")),
            ("a$1b$12b${1}b$001b", Ok("abbbb")),
            ("$@@$*$#$?$-$$$!$0${@}${?}.", Ok("@.")),
            ("${N:-d}${E:-e}${HOME:-h}", Ok("de/home")),
            ("${N-d}${E-e}${HOME-h}", Ok("d/home")),
            ("${N:+d}${E:+e}${HOME:+h}", Ok("h")),
            ("${N+d}${E+e}${HOME+h}", Ok("eh")),
            ("${1:-d}${@:-e}${#:-f}", Ok("def")),
            ("${N:-${M:-$HOME}x}", Ok("/homex")),
            ("${HOME:+${HOME}:}/x", Ok("/home:/x")),
            ("${N:-'}'}${N:-\"}\"}${N:-\\}}", Ok("}}}")),
            ("${N:-\\${HOME}z}", Ok("${HOMEz}")),
            ("${N:-a b {c}", Ok("a b {c")),
            ("${N:-d}}", Ok("d}")),
            ("${HOME?}${HOME:?}${E?}", Ok("/home/home")),
            ("\"${N:-\"a b\"}\"", Ok("a b")),
            ("${FILE#*/}${FILE##*.}", Ok("b.tar.gzgz")),
            ("${FILE%.*}-${FILE%%.*}", Ok("a/b.tar-a/b")),
            ("${FILE#$PATTERN}", Ok("b.tar.gz")),
            ("${FILE#'*'/}", Ok("b.tar.gz")),
            (r"${STARS%\*}${STARS%%\**}", Ok("x*yx")),
            (r"${N#x}${HOME#\/}", Ok("home")),
            ("${FILE/./_}-${FILE//./_}", Ok("a/b_tar.gz-a/b_tar_gz")),
            (r"${FILE/\//_}-${FILE//$PATTERN/}", Ok("a_b.tar.gz-b.tar.gz")),
            (r"${HOME/\//\/\/}", Ok(r"\/\/home")),
            ("${HOME/o*/$E}${N/x/y}", Ok("/h")),
            ("${N/$E/y}", Ok("y")),
            ("${N?}", Err("N: is not allowed to be unset")),
            ("${N:?}", Err("N: is not allowed to be unset")),
            ("${E:?}", Err("E: is not allowed to be empty")),
            ("${E:?see $HOME}", Err("E: see /home")),
            ("${HOME", Err("syntax error: missing '}'")),
            ("${", Err("syntax error: missing '}'")),
            ("${HOME:", Err("syntax error: missing '}'")),
            ("${N:-${M}", Err("syntax error: missing '}'")),
            ("${HOME#x", Err("syntax error: missing '}'")),
            ("${HOME/x/y", Err("syntax error: missing '}'")),
            ("${HOME/x}", Err("syntax error: missing '/' in ${}")),
            ("${}", Err("syntax error: bad substitution")),
            ("${{HOME}", Err("syntax error: bad substitution")),
            ("${:-x}", Err("syntax error: bad substitution")),
            ("${.}", Err("unsupported modifier (.) in substitution")),
            ("${HOME=x}", Err("unsupported modifier (=) in substitution")),
            ("${HOME:=x}", Err("unsupported modifier (:=) in substitution")),
            ("${HOME:x}", Err("unsupported modifier (:x) in substitution")),
            ("${HOME:#x}", Err("unsupported modifier (:#) in substitution")),
            ("${HOME:%%x}", Err("unsupported modifier (:%) in substitution")),
            ("${HOME^^}", Err("unsupported modifier (^) in substitution")),
            (r"${HOME#\h}", Err(r"invalid pattern (\h) in substitution: invalid escape '\h'")),
        ] {
            assert_eq!(text(word, '\\'), expected.map(str::to_owned).map_err(str::to_owned), "{word}");
        }
    }

    #[test]
    fn names_that_were_looked_up() {
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
        let expanded = expand("$HOME ${N:-$M} ${HOME:+$E}$HOME '$X' \\$Y", '\\', &lookup).unwrap();
        assert_eq!(
            (names(&expanded.found), names(&expanded.missing)),
            (vec!["E".into(), "HOME".into()], vec!["M".into(), "N".into()])
        );
        let problem = expand("a${N", '\\', &lookup).unwrap_err();
        assert_eq!(problem.to_string(), "failed to process \"a${N\": syntax error: missing '}'");
    }

    #[test]
    fn words_are_split_after_the_expansion() {
        for (text, expected) in [
            ("a b", &["a", "b"][..]),
            ("  a\tb  ", &["a", "b"]),
            ("x${A}y", &["x1", "2y"]),
            ("x\"${A}\"y", &["x1 2y"]),
            ("$AB", &["x", "y"]),
            ("a$AB", &["a", "x", "y"]),
            ("${AB}b", &["x", "y", "b"]),
            ("\"$AB\"", &["  x y  "]),
            ("a\" b \"'c d'", &["a b c d"]),
            (r"a\ b", &["a b"]),
            ("$N ${N} \"\" ''", &[]),
            ("80${N:-80} 443", &["8080", "443"]),
            ("a<<  b", &["a<<  b"]),
            ("a < b", &["a", "<", "b"]),
        ] {
            assert_eq!(expand_words(text, '\\', &lookup).unwrap().words, expected, "{text}");
        }
        assert!(expand_words("a'", '\\', &lookup).is_err());
    }

    #[test]
    fn documents_have_no_quotes() {
        let content = "'$HOME' \"${N:-x}\" it's\n\\$A \\\\ \\\nend\\n\n";
        let expanded = expand_document(content, &lookup).unwrap();
        assert_eq!(expanded.text, "'/home' \"x\" it's\n$A \\ \nendn\n");
        assert_eq!(expanded.missing.len(), 1);
    }

    #[test]
    fn shown_texts_keep_what_has_no_value() {
        for (text, expected) in [
            (
                "RUN echo \"$HOME\" '$HOME' $N ${N} ${N:-x} $(date) \\$A",
                "RUN echo \"/home\" '$HOME' $N ${N} ${N:-x} $(date) $A",
            ),
            ("RUN ${HOME^^} $HOME", "RUN ${HOME^^} $HOME"),
            ("RUN ${N:0:3} $HOME", "RUN ${N:0:3} /home"),
            ("RUN ${N/a/b} ${N//a/b} ${N##a}", "RUN ${N/a/b} ${N//a/b} ${N##a}"),
        ] {
            assert_eq!(expand_shown(text, '\\', &lookup), expected);
        }
    }

    #[test]
    fn hostile_words_cost_little() {
        let value = "a".repeat(1 << 20);
        let large = |name: &str| (name == "L").then(|| value.clone());
        let cause = |word: &str| match expand(word, '\\', &large) {
            Err(Problem::Word { cause, .. }) => cause,
            other => panic!("{:?}", other.map(|expanded| expanded.text.len())),
        };
        assert_eq!(cause(&"$L".repeat(5)), WordProblem::TooLarge { limit: EXPANDED_LIMIT });
        assert_eq!(cause("${L//a/bbbbbbbbbb}"), WordProblem::TooLarge { limit: EXPANDED_LIMIT });
        assert_eq!(cause(&"${L//b/}".repeat(100_000)), WordProblem::TooLarge { limit: EXPANDED_LIMIT });
        assert_eq!(cause(&"${L#*b}".repeat(100_000)), WordProblem::TooLarge { limit: EXPANDED_LIMIT });
        assert_eq!(cause(&"${N:-".repeat(100_000)), WordProblem::TooDeep { limit: DEPTH_LIMIT });
        let deep = format!("{}x{}", "${N:-".repeat(DEPTH_LIMIT), "}".repeat(DEPTH_LIMIT));
        assert_eq!(expand(&deep, '\\', &large).unwrap().text, "x");
        assert_eq!(expand(&"$N".repeat(1 << 20), '\\', &large).unwrap().text, "");
    }
}
