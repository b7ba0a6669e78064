//! Ignore files: `.dockerignore`, with the meaning that moby/patternmatcher gives it – which is not git's.
//!
//! The last rule that matches a path, or a folder above it, decides. Rules count from the root: `x` is not `a/x`, `**/x` is both.

use super::pattern::{Glob, InvalidPattern, Scratch, Stars};

/// Bytes of an ignore file; real ones have hundreds.
const SIZE: usize = 1 << 20;
/// Rules of an ignore file.
const RULES: usize = 20_000;
/// Bytes of a rule: no path is longer.
const RULE: usize = 4096;

/// Which paths of a tree are left out.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    file: String,
    rules: Vec<Rule>,
}

/// A line of an ignore file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Counted from 1.
    pub line: usize,
    /// As it is written, without the space around it.
    pub text: String,
    /// Whether it takes back what others leave out: `!…`.
    pub exception: bool,
    glob: Glob,
}

/// What becomes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether it is left out.
    pub ignored: bool,
    /// The rule that decided, if any did.
    pub rule: Option<&'a Rule>,
}

/// Why an ignore file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIgnore {
    /// It is larger than any real one.
    #[error("{file} has {size} bytes, at most {SIZE} are taken")]
    Size {
        /// Its name.
        file: String,
        /// Its bytes.
        size: usize,
    },
    /// It has more rules than any real one.
    #[error("{file} has more than {RULES} rules")]
    Rules {
        /// Its name.
        file: String,
    },
    /// A line is longer than any path.
    #[error("{file} line {line}: the rule has {length} bytes, at most {RULE} are taken")]
    Length {
        /// The file.
        file: String,
        /// Its line, counted from 1.
        line: usize,
        /// Bytes of the rule.
        length: usize,
    },
    /// `!` alone; Docker's words.
    #[error("{file} line {line}: illegal exclusion pattern: \"!\"")]
    Exception {
        /// The file.
        file: String,
        /// Its line, counted from 1.
        line: usize,
    },
    /// A rule that means nothing.
    #[error("{file} line {line}")]
    Pattern {
        /// The file.
        file: String,
        /// Its line, counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: InvalidPattern,
    },
}

/// Which rules match a folder or one above it.
#[derive(Clone, Debug, Default)]
pub(super) struct Above(Vec<u64>);

impl Ignore {
    /// Reads a `.dockerignore`.
    ///
    /// # Errors
    /// [`InvalidIgnore`].
    pub fn parse(text: &str) -> Result<Self, InvalidIgnore> {
        Self::parse_file(".dockerignore", text)
    }

    /// Reads an ignore file of another name, which errors and verdicts tell.
    ///
    /// # Errors
    /// [`InvalidIgnore`].
    pub fn parse_file(file: &str, text: &str) -> Result<Self, InvalidIgnore> {
        let mut ignore = Self { file: file.to_owned(), rules: Vec::new() };
        if text.len() > SIZE {
            return Err(InvalidIgnore::Size { file: file.to_owned(), size: text.len() });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            // Only where nothing, not even space, stands before it.
            if line.starts_with('#') {
                continue;
            }
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let (mark, path) = match text.strip_prefix('!') {
                Some(path) => ("!", path.trim()),
                None => ("", text),
            };
            let path = if path.is_empty() { String::new() } else { clean(path) };
            // "/x" and "x" are the same; "/" alone is a rule that nothing matches.
            let path = path.strip_prefix('/').filter(|path| !path.is_empty()).unwrap_or(&path);
            ignore.push(index + 1, text, &format!("{mark}{path}"))?;
        }
        Ok(ignore)
    }

    /// Patterns by themselves, as `--exclude` and `--parents` have them: no comments, and a leading slash is part of the path.
    pub(super) fn patterns<'p>(
        option: &str,
        patterns: impl IntoIterator<Item = &'p str>,
    ) -> Result<Self, InvalidIgnore> {
        let mut ignore = Self { file: option.to_owned(), rules: Vec::new() };
        for (index, pattern) in patterns.into_iter().enumerate() {
            let text = pattern.trim();
            if !text.is_empty() {
                ignore.push(index + 1, text, text)?;
            }
        }
        Ok(ignore)
    }

    fn push(&mut self, line: usize, text: &str, pattern: &str) -> Result<(), InvalidIgnore> {
        let file = || self.file.clone();
        if pattern.len() > RULE {
            return Err(InvalidIgnore::Length { file: file(), line, length: pattern.len() });
        }
        if self.rules.len() == RULES {
            return Err(InvalidIgnore::Rules { file: file() });
        }
        let cleaned = clean(pattern);
        let (exception, path) = match cleaned.strip_prefix('!') {
            Some("") => return Err(InvalidIgnore::Exception { file: file(), line }),
            Some(path) => (true, path),
            None => (false, cleaned.as_str()),
        };
        let glob =
            Glob::parse(path, Stars::Deep).map_err(|source| InvalidIgnore::Pattern { file: file(), line, source })?;
        self.rules.push(Rule { line, text: text.to_owned(), exception, glob });
        Ok(())
    }

    /// Its file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What becomes of a path, relative to the tree's root. The root itself is never left out.
    #[must_use]
    pub fn verdict(&self, path: &[u8]) -> Verdict<'_> {
        self.above(path, &mut Scratch::default()).0
    }

    /// Whether anything below a folder that is left out may not be: whether a walk has to look into it.
    #[must_use]
    pub fn may_contain(&self, folder: &[u8]) -> bool {
        let mut scratch = Scratch::default();
        let (verdict, _) = self.above(folder, &mut scratch);
        !verdict.ignored || self.has_exception_below(folder, verdict, &mut scratch)
    }

    /// As [`Ignore::may_contain`], of a folder that is left out.
    pub(super) fn has_exception_below(&self, folder: &[u8], verdict: Verdict<'_>, scratch: &mut Scratch) -> bool {
        // What comes before the rule that decided has nothing to say.
        let later =
            self.rules.iter().rev().take_while(|rule| verdict.rule.is_none_or(|decided| !std::ptr::eq(*rule, decided)));
        later.filter(|rule| rule.exception).any(|rule| rule.glob.can_match_below(folder, scratch))
    }

    /// Whether a rule can match anything below a folder that none matches.
    pub(super) fn can_match_below(&self, folder: &[u8], scratch: &mut Scratch) -> bool {
        self.rules.iter().any(|rule| !rule.exception && rule.glob.can_match_below(folder, scratch))
    }

    /// The verdict on a path, and what there is to know of it for those below.
    pub(super) fn above(&self, path: &[u8], scratch: &mut Scratch) -> (Verdict<'_>, Above) {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut above = self.root();
        let mut verdict = Verdict { ignored: false, rule: None };
        if path.is_empty() || path == b"." {
            return (verdict, above);
        }
        for end in (0..=path.len()).filter(|end| path.get(*end).is_none_or(|byte| *byte == b'/')) {
            (verdict, above) = self.enter(&above, &path[..end], scratch);
        }
        (verdict, above)
    }

    /// What no rule matches.
    pub(super) fn root(&self) -> Above {
        Above(vec![0; self.rules.len().div_ceil(64)])
    }

    /// The verdict on a path in a folder that `above` is known of.
    pub(super) fn enter(&self, above: &Above, path: &[u8], scratch: &mut Scratch) -> (Verdict<'_>, Above) {
        let mut matched = above.clone();
        let mut last = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let (word, bit) = (index / 64, 1 << (index % 64));
            if matched.0[word] & bit == 0 && rule.glob.matches(path, scratch) {
                matched.0[word] |= bit;
            }
            if matched.0[word] & bit != 0 {
                last = Some(rule);
            }
        }
        (Verdict { ignored: last.is_some_and(|rule| !rule.exception), rule: last }, matched)
    }
}

/// Go's `filepath.Clean`: no empty components, no `.`, no `..` but at the beginning, no slash at the end; `.` of nothing.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => match components.last() {
                Some(&last) if last != ".." => drop(components.pop()),
                _ if rooted => {}
                _ => components.push(component),
            },
            _ => components.push(component),
        }
    }
    match (rooted, components.is_empty()) {
        (true, _) => format!("/{}", components.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => components.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str) -> bool {
        Ignore::parse(text).unwrap().verdict(path.as_bytes()).ignored
    }

    #[test]
    fn lines_become_rules() {
        let text = "\u{feff}one\r\n/two\n/three/four/\n\n   \n# a comment\n # no comment\n\t! /five/./six \n./seven//eight\nnine/../ten\n..\n/";
        let ignore = Ignore::parse(text).unwrap();
        let rules: Vec<_> = ignore.rules.iter().map(|rule| (rule.line, rule.text.as_str(), rule.exception)).collect();
        let expected = [
            (1, "one", false),
            (2, "/two", false),
            (3, "/three/four/", false),
            (7, "# no comment", false),
            (8, "! /five/./six", true),
            (9, "./seven//eight", false),
            (10, "nine/../ten", false),
            (11, "..", false),
        ];
        assert_eq!(rules[..8], expected);
        for (path, expected) in [
            ("one", true),
            ("two", true),
            ("three/four", true),
            ("three", false),
            ("# no comment", true),
            ("# a comment", false),
            ("seven/eight/nine", true),
            ("ten", true),
            ("nine", false),
            ("eleven", false),
            ("/two", true),
            ("three/four/", true),
        ] {
            assert_eq!(ignore.verdict(path.as_bytes()).ignored, expected, "{path}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["!", "a\n! ", "!/", "x\n!//"] {
            let error = Ignore::parse(text).unwrap_err();
            assert!(error.to_string().ends_with("illegal exclusion pattern: \"!\""), "{text}: {error}");
        }
        let error = Ignore::parse_file("app.dockerignore", "ok\n\n[").unwrap_err();
        let InvalidIgnore::Pattern { file, line: 3, source } = error else { panic!("{error:?}") };
        assert_eq!(file, "app.dockerignore");
        assert_eq!(source.to_string(), "syntax error in pattern \"[\": the bracket is not closed");
        assert!(matches!(Ignore::parse(&"x".repeat(RULE + 1)), Err(InvalidIgnore::Length { line: 1, .. })));
        assert!(matches!(Ignore::parse(&"x\n".repeat(RULES + 1)), Err(InvalidIgnore::Rules { .. })));
        assert!(matches!(Ignore::parse(&"#".repeat(SIZE + 1)), Err(InvalidIgnore::Size { .. })));
    }

    #[test]
    fn paths_match_with_all_that_is_below() {
        for (pattern, path, expected) in [
            ("src", "src/main.rs", true),
            ("src/", "src/main.rs", true),
            ("/src", "src/main.rs", true),
            ("src", "lib/src", false),
            ("src", "src2", false),
            ("*", "src/main.rs", true),
            ("*", ".git", true),
            ("*/main.rs", "src/main.rs", true),
            ("*/main.rs", "main.rs", false),
            ("*/*", "src", false),
            ("src/*", "src/a/b", true),
            ("**/target", "target/debug", true),
            ("**/target", "a/target/debug", true),
            ("**/target", "a/target2", false),
            ("**", "a/b", true),
            ("**/", "a/b", true),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("*.md", "a/b.md", false),
            ("**/*.md", "a/b.md", true),
            ("**/*.md", "b.md", true),
            ("a?c", "abc/d", true),
            ("a[^b]c", "abc", false),
            (".*", ".env/x", true),
            (".*", "env", false),
            ("..", "x", false),
            (".", "x", false),
            ("../x", "x", false),
            ("a.b", "axb", false),
            ("(x)+$", "(x)+$", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(ignored(pattern, path), expected, "{pattern} {path}");
        }
        assert!(!ignored("*", "") && !ignored("**", ".") && !ignored("*", "/"));
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        for (text, path, expected) in [
            ("*.md\n!README.md", "README.md", false),
            ("!README.md\n*.md", "README.md", true),
            ("docs\n!docs/keep", "docs/keep", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("docs\n!docs/keep", "docs", true),
            ("docs/\n!docs/keep", "docs/keep/deep/file", false),
            ("docs/*\n!docs/keep", "docs/keep", false),
            ("**\n!a/b", "a/b/c", false),
            ("**\n!a/b\na/b/c", "a/b/c", true),
            ("**\n!a/b\na/b/c", "a/b/d", false),
            ("*\n!src\n!*.toml\nsrc/secret", "src/main.rs", false),
            ("*\n!src\n!*.toml\nsrc/secret", "src/secret/x", true),
            ("*\n!src\n!*.toml\nsrc/secret", "Cargo.toml", false),
            ("*\n!src\n!*.toml\nsrc/secret", "Cargo.lock", true),
            // A folder above counts for each rule, whatever an earlier one said of it.
            ("d\n!d/f\nd*", "d/f", true),
            ("**/node_modules\n!web/node_modules/kept", "web/node_modules/kept/x", false),
            ("!*\na", "a", true),
            ("!!x\nx", "x", true),
            ("*\n!!x", "!x", false),
        ] {
            assert_eq!(ignored(text, path), expected, "{text:?} {path}");
        }
    }

    #[test]
    fn verdicts_name_their_rule() {
        let ignore = Ignore::parse("# first\n*.md\n!README.md\n").unwrap();
        let line = |path: &str| ignore.verdict(path.as_bytes()).rule.map(|rule| (rule.line, rule.text.clone()));
        assert_eq!(line("x.md"), Some((2, "*.md".to_owned())));
        assert_eq!(line("README.md"), Some((3, "!README.md".to_owned())));
        assert_eq!(line("x.rs"), None);
    }

    #[test]
    fn folders_are_looked_into_only_for_exceptions() {
        for (text, folder, expected) in [
            ("a", "b", true),
            ("a", "a", false),
            ("a\n!a/b", "a", true),
            ("a\n!a/b", "a/c", false),
            ("a\n!b", "a", false),
            ("!a/b\na", "a", false),
            ("a\n!**/keep", "a/deep/down", true),
            ("a\n!*/keep", "a", true),
            ("a\n!*/keep", "a/deep", false),
            ("a\n!a/b\na/b", "a", true),
            ("**\n!x.md", "a", false),
            ("**\n!x.md", "", true),
        ] {
            assert_eq!(Ignore::parse(text).unwrap().may_contain(folder.as_bytes()), expected, "{text:?} {folder}");
        }
    }

    #[test]
    fn walking_down_is_asking_for_each_path() {
        let ignore = Ignore::parse("*\n!a\na/*/c\n!**/keep\n*.tmp").unwrap();
        let mut scratch = Scratch::default();
        for path in ["a", "a/b", "a/b/c", "a/b/c/keep", "a/b/c/x", "b/keep", "x.tmp/keep", "a/x.tmp"] {
            let mut above = ignore.root();
            let mut verdict = ignore.verdict(b"");
            for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
                (verdict, above) = ignore.enter(&above, &path.as_bytes()[..end], &mut scratch);
            }
            assert_eq!(verdict, ignore.verdict(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn options_are_no_lines_of_a_file() {
        let ignore = Ignore::patterns("--exclude", ["#x", "/y", " z ", "", "!#x/keep"]).unwrap();
        for (path, expected) in [("#x", true), ("y", false), ("z", true), ("#x/keep", false)] {
            assert_eq!(ignore.verdict(path.as_bytes()).ignored, expected, "{path}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b/", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("!../a", "!../a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
