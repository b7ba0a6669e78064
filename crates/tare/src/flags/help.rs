//! Help texts in Docker's layout.

use super::{Flag, Kind};
use crate::cli::Verb;
use std::fmt::Write;

/// The help of one command that was called as `path`.
pub(crate) fn command(verb: &Verb, path: &str, width: usize) -> String {
    let mut text = format!("Usage:  {path}{}\n\n{}\n", with_space(verb.usage), verb.about);
    if verb.names.len() > 1 {
        let names: Vec<String> = verb.names.iter().map(|name| format!("tare {name}")).collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    if verb.flags().any(|flag| !flag.help.is_empty()) {
        let _ = write!(text, "\nOptions:\n{}", options(verb.flags(), width));
    }
    text
}

/// The text after a name, with a space before it when there is any.
pub(crate) fn with_space(usage: &str) -> String {
    if usage.is_empty() { String::new() } else { format!(" {usage}") }
}

/// The table of flags, sorted by name.
pub(crate) fn options<'a>(flags: impl Iterator<Item = &'a Flag>, width: usize) -> String {
    let mut flags: Vec<&Flag> = flags.filter(|flag| !flag.help.is_empty()).collect();
    flags.sort_by_key(|flag| flag.name);
    let left = |flag: &Flag| {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let of = match flag.kind {
            Kind::Switch => String::new(),
            Kind::Value(of) => format!(" {of}"),
        };
        format!("  {short}--{}{of}", flag.name)
    };
    let indent = flags.iter().map(|flag| left(flag).len()).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for flag in flags {
        let help = wrap(flag.help, width.saturating_sub(indent + 1).max(24)).join(&format!("\n{:indent$}", ""));
        let _ = writeln!(text, "{:indent$}{help}", left(flag));
    }
    text
}

/// Columns that the last line of a text may use beyond the others, so that no single short word is left over.
const SLACK: usize = 5;

/// Breaks at spaces, and at the line breaks the text has itself, where Go's pflag would: every line stays below
/// `width`.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.len() >= width {
        let head = &rest[..rest.floor_char_boundary(width - SLACK)];
        let Some(space) = head.rfind([' ', '\n']).filter(|&at| at > 0) else { break };
        let at = head.rfind('\n').filter(|&at| at > 0).unwrap_or(space);
        lines.push(rest[..at].to_owned());
        rest = &rest[at + 1..];
    }
    lines.extend(rest.split('\n').map(str::to_owned));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_break_at_spaces_under_the_column() {
        let flags = [Flag::value("stop-timeout", "int", "Timeout (in seconds) to stop a container").short('t')];
        assert_eq!(
            options(flags.iter(), 64),
            "  -t, --stop-timeout int   Timeout (in seconds) to stop a\n                           container\n"
        );
    }

    #[test]
    fn refused_flags_are_not_offered() {
        assert_eq!(options([Flag::no_value("gpus")].iter(), 80), "");
    }
}
