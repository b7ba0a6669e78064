//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the very top of a Dockerfile (Dockerfile reference, "Parser
//! directives").

use super::problem::Problem;
use super::syntax::Check;

/// What the directives say.
#[derive(Debug)]
pub(super) struct Directives {
    pub(super) escape: char,
    pub(super) syntax: Option<String>,
    pub(super) check: Checks,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', syntax: None, check: Checks::default() }
    }
}

/// Which checks are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checks {
    pub(super) check: Check,
    /// `experimental=`: names of checks that are off otherwise.
    pub(super) experimental: Vec<String>,
    /// `experimental=all`.
    pub(super) experimental_all: bool,
}

/// Takes the lines at the top, one after the other, as long as they are directives.
#[derive(Debug)]
pub(super) struct Reader {
    seen: [bool; NAMES.len()],
    done: bool,
}

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

impl Reader {
    pub(super) fn new() -> Self {
        Self { seen: [false; NAMES.len()], done: false }
    }

    /// Takes a line without blanks at its beginning and end; whether it was a directive.
    pub(super) fn line(&mut self, line: &str, directives: &mut Directives) -> Result<bool, Problem> {
        if self.done {
            return Ok(false);
        }
        let found = line.strip_prefix('#').and_then(|comment| directive(comment.trim_start()));
        let Some((index, value)) = found else {
            self.done = true;
            return Ok(false);
        };
        if std::mem::replace(&mut self.seen[index], true) {
            return Err(Problem::DirectiveTwice { name: NAMES[index] });
        }
        let first = value.split(' ').next().unwrap_or_default();
        match NAMES[index] {
            "escape" => {
                directives.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(Problem::Escape { value: value.to_owned() }),
                }
            }
            "check" => directives.check = checks(first)?,
            _ => directives.syntax = Some(first.to_owned()),
        }
        Ok(true)
    }
}

/// A known directive's place in [`NAMES`] and its value, which is never empty.
fn directive(comment: &str) -> Option<(usize, &str)> {
    let (name, value) = comment.split_once('=')?;
    let index = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim_end()))?;
    Some((index, value.trim())).filter(|(_, value)| !value.is_empty())
}

/// The checks that a comment right before a statement asks for: `# check=skip=…`, for that statement alone. A wrong one is a
/// comment like any other.
pub(super) fn checks_of_comment(comment: &str) -> Option<Checks> {
    let (index, value) = directive(comment)?;
    if NAMES[index] != "check" {
        return None;
    }
    checks(value.split(' ').next().unwrap_or_default()).ok()
}

/// `skip=A,B;error=true;experimental=C`.
fn checks(text: &str) -> Result<Checks, Problem> {
    let mut checks = Checks::default();
    for option in text.splitn(3, ';') {
        let invalid = |option: &str| Problem::CheckOption { option: option.to_owned() };
        let (name, value) = option.split_once('=').ok_or_else(|| invalid(option))?;
        let value = value.trim();
        let names = || value.split(',').map(|name| name.trim().to_owned()).collect();
        match name.trim() {
            "skip" if value == "all" => checks.check.skip_all = true,
            "skip" => checks.check.skip = names(),
            "experimental" if value == "all" => checks.experimental_all = true,
            "experimental" => checks.experimental = names(),
            "error" => checks.check.error = boolean(value).ok_or_else(|| invalid(option))?,
            other => return Err(invalid(other)),
        }
    }
    Ok(checks)
}

/// As Go's `strconv.ParseBool` takes it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<(Directives, usize), Problem> {
        let (mut reader, mut directives) = (Reader::new(), Directives::default());
        let mut count = 0;
        for line in lines {
            count += usize::from(reader.line(line, &mut directives)?);
        }
        Ok((directives, count))
    }

    #[test]
    fn directives_are_at_the_top_only() {
        for (lines, escape, count) in [
            (&["# escape=`"][..], '`', 1),
            (&["#EsCaPe =  `"], '`', 1),
            (&["# syntax=a", "# check=skip=all", "# escape=`"], '`', 3),
            (&["# escape=\\"], '\\', 1),
            (&["# comment", "# escape=`"], '\\', 0),
            (&["", "# escape=`"], '\\', 0),
            (&["# unknown=x", "# escape=`"], '\\', 0),
            (&["# escape=", "# escape=`"], '\\', 0),
            (&["FROM x", "# escape=`"], '\\', 0),
            (&["// escape=`"], '\\', 0),
            (&["# es cape=`"], '\\', 0),
        ] {
            let (directives, actual) = read(lines).unwrap();
            assert_eq!((directives.escape, actual), (escape, count), "{lines:?}");
        }
    }

    #[test]
    fn each_directive_stands_once_and_is_right() {
        for (lines, expected) in [
            (&["# escape=x"][..], "invalid escape token 'x' does not match ` or \\"),
            (&["# escape=` "], "invalid escape token '` ' does not match ` or \\"),
            (&["# escape=``"], "invalid escape token '``' does not match ` or \\"),
            (&["# escape=`", "# escape=`"], "only one escape parser directive can be used"),
            (&["# syntax=a", "# Syntax=b"], "only one syntax parser directive can be used"),
            (&["# check=skip=A", "# check=skip=B"], "only one check parser directive can be used"),
            (&["# check=never"], "failed to parse check options: invalid check option \"never\""),
            (&["# check=leave=A"], "failed to parse check options: invalid check option \"leave\""),
            (&["# check=error=perhaps"], "failed to parse check options: invalid check option \"error=perhaps\""),
        ] {
            match read(lines) {
                Err(problem) => assert_eq!(problem.to_string(), expected),
                Ok(_) => assert_eq!(lines, &["# escape=` "], "blanks around the value do not count"),
            }
        }
    }

    #[test]
    fn values() {
        let (directives, _) =
            read(&["# syntax = docker/dockerfile:1 more", "# check=skip=A,B;error=1;experimental=C"]).unwrap();
        assert_eq!(directives.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(directives.check.check, Check { skip: vec!["A".into(), "B".into()], skip_all: false, error: true });
        assert_eq!(directives.check.experimental, ["C"]);
        let (directives, _) = read(&["# check=skip=all;experimental=all"]).unwrap();
        assert!(directives.check.check.skip_all && directives.check.experimental_all && !directives.check.check.error);
        assert!(checks_of_comment("check=skip=A why").unwrap().check.skip == ["A"]);
        assert!(checks_of_comment("check=what").is_none() && checks_of_comment("syntax=x").is_none());
    }
}
