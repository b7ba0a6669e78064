//! `NAME=value` lists: environment and labels, from flags and from files.

use std::collections::BTreeMap;

/// Reads `--env-file` contents and `-e` values (in this order, as Docker does) into `NAME=value` pairs. A name
/// without a value takes the caller's, and is dropped when the caller has none.
pub(crate) fn environment<'a>(
    files: impl Iterator<Item = &'a String>,
    values: impl Iterator<Item = &'a String>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut pairs = Vec::new();
    for file in files {
        for line in lines(file, &read(file)?)? {
            pairs.extend(resolve(&line, &lookup));
        }
    }
    pairs.extend(values.filter_map(|value| resolve(value, &lookup)));
    Ok(pairs)
}

/// Whether `-e` takes the value.
pub(crate) fn check_variable(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('=') { Err(format!("invalid environment variable: {text}")) } else { Ok(()) }
}

/// Reads `--label-file` contents and `-l` values. A label without a value is empty.
pub(crate) fn labels<'a>(
    files: impl Iterator<Item = &'a String>,
    values: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    let mut add = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        labels.insert(name.to_owned(), value.to_owned());
    };
    for file in files {
        lines(file, &read(file)?)?.iter().for_each(|line| add(line));
    }
    values.for_each(|value| add(value));
    Ok(labels)
}

/// Whether `-l` takes the value.
pub(crate) fn check_label(text: &str) -> Result<(), String> {
    if text.starts_with('=') { Err(format!("invalid label '{text}': empty name")) } else { Ok(()) }
}

fn resolve(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
    if text.contains('=') { Some(text.to_owned()) } else { lookup(text).map(|value| format!("{text}={value}")) }
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    // Docker's words, which are Go's for a failed open.
    std::fs::read(file).map_err(|error| format!("open {file}: {}", crate::failure::errno_text(&error)))
}

/// The lines of a file that say something: no comment, not empty.
fn lines(file: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("env file {file} contains invalid utf8 bytes at line {}: {line:?}", index + 1))?;
        let line = line.trim_start().trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("invalid environment variable: {line}: no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_value_take_the_callers_or_vanish() {
        let values = ["A=1", "HERE", "GONE", "B="].map(String::from);
        let lookup = |name: &str| (name == "HERE").then(|| "x".to_owned());
        let pairs = environment([].iter(), values.iter(), lookup).unwrap();
        assert_eq!(pairs, ["A=1", "HERE=x", "B="]);
    }

    #[test]
    fn files_hold_comments_and_plain_values() {
        let text = b"\xef\xbb\xbf# comment\n\nA=1\r\n  B=\"quoted\" #kept\nC\n";
        assert_eq!(lines("f", text).unwrap(), ["A=1", "B=\"quoted\" #kept", "C"]);
        assert_eq!(lines("f", b"A B=1").unwrap_err(), "variable 'A B' contains whitespaces");
        assert!(lines("f", b"=1").unwrap_err().contains("no variable name on line '=1'"));
        assert!(lines("f", b"A=\xff").unwrap_err().contains("invalid utf8 bytes at line 1"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = ["/nonexistent/file".to_owned()];
        assert_eq!(labels(missing.iter(), [].iter()).unwrap_err(), "open /nonexistent/file: no such file or directory");
    }
}
