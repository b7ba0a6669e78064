//! Lines to statements: parser directives, comments, continuations (BuildKit's Dockerfile reference, "Format").

use super::Problem;

/// A statement: an instruction's name and the rest of its line, continuations joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Where it begins, counted from 1.
    pub(super) number: usize,
    /// The first word, as written.
    pub(super) name: &'a str,
    /// What follows, trimmed.
    pub(super) arguments: String,
}

/// Splits a Dockerfile; returns its statements and its escape character.
pub(super) fn lex(text: &str) -> Result<(Vec<Line<'_>>, char), (usize, Problem)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape_directive(text)?;
    let mut statements = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (mut joined, mut continues) = continuation(line.trim_start(), escape);
        let name = joined.split_whitespace().next().unwrap_or_default();
        let mut arguments = joined[name.len()..].to_owned();
        while continues {
            let Some((_, line)) = lines.next() else { break };
            // Comments and empty lines between the parts of a statement are left out, as BuildKit does.
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            (joined, continues) = continuation(line, escape);
            arguments.push_str(joined);
        }
        statements.push(Line { number: index + 1, name, arguments: arguments.trim().to_owned() });
    }
    Ok((statements, escape))
}

/// The line without the escape character at its end, and whether it had one. Two of them are none.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end().strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

/// `# escape=` among the directives, which come before everything else.
fn escape_directive(text: &str) -> Result<char, (usize, Problem)> {
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|comment| comment.split_once('=')) else {
            break;
        };
        match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
            ("escape", "\\") => return Ok('\\'),
            ("escape", "`") => return Ok('`'),
            ("escape", other) => return Err((index + 1, Problem::Escape { value: other.to_owned() })),
            // Which frontend to fetch, and what to warn of: this is the frontend.
            ("syntax" | "check", _) => {}
            _ => break,
        }
    }
    Ok('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_span_lines() {
        let text = "\u{feff}# syntax=x\n# escape=`\n\n# comment\n  from scratch\nENV a=b `  \n # inside\n\n  c=\\d\r\nLABEL x=`` \nCMD y `";
        let (lines, escape) = lex(text).unwrap();
        assert_eq!(escape, '`');
        let lines: Vec<_> = lines.iter().map(|line| (line.number, line.name, line.arguments.as_str())).collect();
        let expected = [(5, "from", "scratch"), (6, "ENV", "a=b   c=\\d"), (10, "LABEL", "x=``"), (11, "CMD", "y")];
        assert_eq!(lines, expected);
    }

    #[test]
    fn directives_end_with_the_first_other_line() {
        assert_eq!(lex("# comment\n# escape=`\nFROM a").unwrap().1, '\\');
        assert_eq!(lex("FROM a\n# escape=`").unwrap().1, '\\');
        assert_eq!(lex("# escape=x").unwrap_err(), (1, Problem::Escape { value: "x".to_owned() }));
    }
}
