//! Lines to statements: parser directives, comments, continuations, and the contents of here-documents (Dockerfile reference,
//! "Format").

use super::directives::{Checks, Directives, Reader, checks_of_comment};
use super::documents::Mark;
use super::problem::{ParseError, Problem};
use super::syntax::{HereDocument, Lines};

/// 4 MiB: a hundred times what people write. Short words take thirty times their bytes in memory. (BuildKit stops at 16 MiB, the size
/// of a message.)
pub const TEXT_LIMIT: usize = 4 << 20;

/// 65,535 bytes without the line's end: what BuildKit takes.
pub const LINE_LIMIT: usize = (64 << 10) - 1;

/// A statement's text, before it is looked at.
#[derive(Debug)]
pub(super) struct RawStatement {
    pub(super) lines: Lines,
    /// One line, continuations joined, without white space at its ends.
    pub(super) text: String,
    /// What the comments above say.
    pub(super) comments: Comments,
    /// An empty line between its parts, which will be an error one day.
    pub(super) has_gap: bool,
}

/// What the comments before a statement say, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Comments {
    /// `# check=…` for this statement alone.
    pub(super) checks: Option<Checks>,
    /// The last one, if it is right above the statement.
    pub(super) last: Option<String>,
}

/// Splits a text into statements.
pub(super) struct Splitter<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    /// The number of the last line that was taken.
    number: usize,
    reader: Option<Reader>,
    pub(super) directives: Directives,
    comments: Comments,
}

impl<'a> Splitter<'a> {
    /// `directives` tells whether the text may begin with parser directives.
    pub(super) fn new(text: &'a str, directives: bool) -> Result<Self, ParseError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > TEXT_LIMIT {
            let lines = Lines { first: 1, last: 1 };
            return Err(ParseError { lines, problem: Problem::TooLarge { limit: TEXT_LIMIT } });
        }
        let reader = directives.then(Reader::new);
        let (lines, comments) = (text.split_inclusive('\n'), Comments::default());
        let mut splitter = Self { lines, number: 0, reader, directives: Directives::default(), comments };
        splitter.shebang(text)?;
        Ok(splitter)
    }

    /// `#!/usr/bin/…` in the first line is no directive, and neither does it end them, but for `# escape=`, which BuildKit takes for
    /// a comment then.
    fn shebang(&mut self, text: &str) -> Result<(), ParseError> {
        if self.reader.is_none() || !text.starts_with("#!") {
            return Ok(());
        }
        let mut reader = Reader::new();
        let mut found = Directives::default();
        for (index, line) in text.lines().enumerate().skip(1) {
            let number = index + 1;
            let lines = Lines { first: number, last: number };
            if !reader.line(line.trim(), &mut found).map_err(|problem| ParseError { lines, problem })? {
                break;
            }
        }
        self.directives = Directives { escape: '\\', ..found };
        self.reader = None;
        Ok(())
    }

    /// The last line that was taken.
    pub(super) fn last(&self) -> Lines {
        // A byte order mark alone is no line.
        let number = self.number.max(1);
        Lines { first: number, last: number }
    }

    /// The next line with its end.
    fn line(&mut self) -> Result<Option<&'a str>, ParseError> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.number += 1;
        if line.trim_end_matches('\n').len() > LINE_LIMIT {
            let lines = Lines { first: self.number, last: self.number };
            return Err(ParseError { lines, problem: Problem::LineTooLong { limit: LINE_LIMIT } });
        }
        Ok(Some(line))
    }

    pub(super) fn statement(&mut self) -> Result<Option<RawStatement>, ParseError> {
        while let Some(line) = self.line()? {
            let line = line.trim_end_matches(['\r', '\n']).trim_start();
            if let Some(reader) = &mut self.reader {
                let lines = Lines { first: self.number, last: self.number };
                let is_directive = reader.line(line.trim_end(), &mut self.directives);
                if is_directive.map_err(|problem| ParseError { lines, problem })? {
                    continue;
                }
                self.reader = None;
            }
            if let Some(comment) = line.strip_prefix('#') {
                self.comment(comment.trim());
                continue;
            }
            let (part, continues) = continuation(line, self.directives.escape);
            if part.is_empty() && !continues {
                self.comments.last = None;
                continue;
            }
            return self.rest(part, continues).map(Some);
        }
        Ok(None)
    }

    fn comment(&mut self, text: &str) {
        if text.is_empty() {
            self.comments = Comments::default();
            return;
        }
        if self.comments.checks.is_none() {
            self.comments.checks = checks_of_comment(text);
        }
        self.comments.last = Some(text.to_owned());
    }

    /// The statement that begins with `part`.
    fn rest(&mut self, part: &str, mut continues: bool) -> Result<RawStatement, ParseError> {
        let first = self.number;
        let mut text = part.to_owned();
        let mut has_gap = false;
        while continues {
            let Some(line) = self.line()? else { break };
            let line = line.trim_end_matches(['\r', '\n']);
            // Comments and empty lines between the parts of a statement are left out.
            match line.trim_start() {
                "" => has_gap = true,
                comment if comment.starts_with('#') => {}
                _ => {
                    let (part, more) = continuation(line, self.directives.escape);
                    text.push_str(part);
                    continues = more;
                }
            }
        }
        let trimmed = text.trim();
        if trimmed.len() < text.len() {
            text = trimmed.to_owned();
        }
        let lines = Lines { first, last: self.number };
        Ok(RawStatement { lines, text, comments: std::mem::take(&mut self.comments), has_gap })
    }

    /// The contents of here-documents that a statement has announced.
    pub(super) fn documents(&mut self, lines: &mut Lines, marks: Vec<Mark>) -> Result<Vec<HereDocument>, ParseError> {
        marks.into_iter().map(|mark| self.document(lines, mark)).collect()
    }

    fn document(&mut self, lines: &mut Lines, mark: Mark) -> Result<HereDocument, ParseError> {
        let Mark { name, expand, chomp } = mark;
        let mut content = String::new();
        loop {
            let next = self.line()?;
            lines.last = self.number;
            let Some(line) = next else {
                return Err(ParseError { lines: *lines, problem: Problem::HereDocumentOpen { name } });
            };
            let line = if chomp { line.trim_start_matches('\t') } else { line };
            if line.trim_end_matches(['\r', '\n']) == name {
                return Ok(HereDocument { name, content, expand, chomp });
            }
            content.push_str(line);
        }
    }
}

/// The line without the escape character at its end, and whether it had one. Two of them are none.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<(usize, usize, String)>, ParseError> {
        let mut splitter = Splitter::new(text, true)?;
        let mut found = Vec::new();
        while let Some(statement) = splitter.statement()? {
            found.push((statement.lines.first, statement.lines.last, statement.text));
        }
        Ok(found)
    }

    #[test]
    fn statements_span_lines() {
        let text = "\u{feff}# syntax=x\n# escape=`\n\n# comment\n  from scratch\nENV a=b `  \n # inside\n\n  c=\\d\r\nLABEL x=`` \nCMD y `";
        let expected = [(5, 5, "from scratch"), (6, 9, "ENV a=b   c=\\d"), (10, 10, "LABEL x=``"), (11, 11, "CMD y")];
        let actual = split(text).unwrap();
        let actual: Vec<_> = actual.iter().map(|(first, last, text)| (*first, *last, text.as_str())).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn continuations() {
        for (text, expected) in [
            ("RUN a \\\n  b", "RUN a   b"),
            ("RUN a\\\nb", "RUN ab"),
            ("RUN a \\\t \n\\\n b", "RUN a  b"),
            ("RUN a \\\\\n", "RUN a \\\\"),
            ("RUN a \\\r\nb\r\n", "RUN a b"),
            ("RUN a \\\n# b \\\n\n\n  # c\nd", "RUN a d"),
            ("RUN a # b \\\nc", "RUN a # b c"),
            ("\\\nRUN a", "RUN a"),
            ("RU\\\nN a", "RUN a"),
            ("RUN a \\", "RUN a"),
            ("RUN a `\n", "RUN a `"),
        ] {
            let actual = split(text).unwrap();
            assert_eq!(actual.len(), 1, "{text:?}: {actual:?}");
            assert_eq!(actual[0].2, expected, "{text:?}");
        }
    }

    #[test]
    fn long_lines_are_refused_and_long_statements_are_not() {
        let line = format!("RUN {}", "x".repeat(LINE_LIMIT - 4));
        assert_eq!(split(&format!("{line}\n")).unwrap()[0].2, line);
        let error = split(&format!("# a\n{line}x\n")).unwrap_err();
        assert_eq!((error.lines.first, error.problem), (2, Problem::LineTooLong { limit: LINE_LIMIT }));
        let long = format!("{}y\n", "x \\\n".repeat(100_000));
        assert_eq!(split(&long).unwrap()[0].2.len(), 200_001);
        let huge = " ".repeat(TEXT_LIMIT + 1);
        assert_eq!(split(&huge).unwrap_err().problem, Problem::TooLarge { limit: TEXT_LIMIT });
    }

    #[test]
    fn directives_below_a_shebang() {
        let text = "#!/usr/bin/env tare\n# syntax=a\n# escape=`\nRUN a \\\nb";
        let mut splitter = Splitter::new(text, true).unwrap();
        assert_eq!(splitter.directives.syntax.as_deref(), Some("a"));
        assert_eq!(splitter.statement().unwrap().unwrap().text, "RUN a b");
    }
}
