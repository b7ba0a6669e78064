//! Words of a statement before variables are replaced: how instructions split what follows them.

use super::problem::Problem;
use serde::de::IgnoredAny;

/// What separates words. Other white space, such as a no-break space, is part of them, as it is for BuildKit.
pub(super) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Splits at blanks; quotes mean nothing. `text` has no white space at its ends.
pub(super) fn fields(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_blank).filter(|word| !word.is_empty())
}

/// The first word, and what follows the blanks behind it; none without blanks.
pub(super) fn split_first(text: &str) -> (&str, Option<&str>) {
    match text.split_once(is_blank) {
        None => (text, None),
        Some((first, rest)) => (first, Some(rest.trim_start_matches(is_blank))),
    }
}

/// Splits at white space outside of quotes; quotes and escapes stay as they are. An escape character at the very end, which
/// has nothing to act on, is left out.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quote) = (None, None);
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((index, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(start.take().map(|start| &text[start..index]));
            continue;
        }
        start.get_or_insert(index);
        match (quote, character) {
            // What is escaped is part of the word, white space and quotes included; not inside of '…'.
            (None | Some('"'), _) if character == escape => {
                end = characters.next().map_or(index, |_| end);
            }
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..end]).filter(|word| !word.is_empty()));
    words
}

/// A JSON list of strings. None for what is not JSON: then it is a line for the shell, or words.
pub(super) fn json_list(text: &str) -> Result<Option<Vec<String>>, Problem> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    match serde_json::from_str(text) {
        Ok(words) => Ok(Some(words)),
        // `IgnoredAny` takes any depth without recursion.
        Err(_) if serde_json::from_str::<Vec<IgnoredAny>>(text).is_ok() => Err(Problem::JsonStrings),
        Err(_) => Ok(None),
    }
}

/// The fields of a record of CSV: quotes protect commas, and are doubled inside of quotes.
pub(super) fn csv_fields(text: &str, what: &'static str) -> Result<Vec<String>, Problem> {
    let invalid = |problem: String| Problem::Csv { what, problem };
    let at = |rest: &str, kind: &str| {
        let column = text.len() - rest.len() + 1;
        invalid(format!("parse error on line 1, column {column}: {kind}"))
    };
    if text.is_empty() {
        return Err(invalid("EOF".to_owned()));
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(quote) = rest[..end].find('"') {
                return Err(at(&rest[quote..], "bare \" in non-quoted field"));
            }
            fields.push(rest[..end].to_owned());
            match rest[end..].strip_prefix(',') {
                None => return Ok(fields),
                Some(after) => rest = after,
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let Some((part, after)) = quoted.split_once('"') else {
                return Err(at(quoted, "extraneous or missing \" in quoted-field"));
            };
            field.push_str(part);
            quoted = after;
            match quoted.strip_prefix('"') {
                None => break,
                Some(after) => quoted = after,
            }
            field.push('"');
        }
        fields.push(field);
        if quoted.is_empty() {
            return Ok(fields);
        }
        let quote = &text[text.len() - quoted.len() - 1..];
        rest = quoted.strip_prefix(',').ok_or_else(|| at(quote, "extraneous or missing \" in quoted-field"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_outside_of_quotes() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a  b ", &["a", "b"]),
            (r#"a="b c" d='e "f'"#, &[r#"a="b c""#, r#"d='e "f'"#]),
            (r"a\ b c", &[r"a\ b", "c"]),
            (r#"a="\" b" c"#, &[r#"a="\" b""#, "c"]),
            (r"'a\' b", &[r"'a\'", "b"]),
            (r"a \\ b", &["a", r"\\", "b"]),
            (r#"a="" "" b"#, &[r#"a="""#, r#""""#, "b"]),
            (r#"a "b c"#, &["a", r#""b c"#]),
            (r"a b\", &["a", "b"]),
            (r"a \", &["a"]),
            ("é\u{a0}b", &["é", "b"]),
        ] {
            assert_eq!(quoted_words(text, '\\'), expected, "{text}");
        }
        assert_eq!(quoted_words(r"a` b\ c", '`'), [r"a` b\", "c"]);
    }

    #[test]
    fn json_or_not() {
        let strings = |words: &[&str]| Ok(Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()));
        for (text, expected) in [
            ("[]", strings(&[])),
            (r#"[ "a" , "b\n\u00e9\"" ]"#, strings(&["a", "b\né\""])),
            ("", Ok(None)),
            ("a", Ok(None)),
            ("['a']", Ok(None)),
            (r#"["a""#, Ok(None)),
            (r#"["a",]"#, Ok(None)),
            (r#"["a"] b"#, Ok(None)),
            ("[ -f x ]", Ok(None)),
            ("[1]", Err(Problem::JsonStrings)),
            (r#"["a", ["b"]]"#, Err(Problem::JsonStrings)),
            (r#"["a", null]"#, Err(Problem::JsonStrings)),
        ] {
            assert_eq!(json_list(text), expected, "{text}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(json_list(&deep), Err(Problem::JsonStrings));
    }

    #[test]
    fn commas_and_quotes() {
        for (text, expected) in [
            ("a", Ok(&["a"][..])),
            ("a,b,", Ok(&["a", "b", ""])),
            (r#""a,b",c"#, Ok(&["a,b", "c"])),
            (r#""a""b""#, Ok(&[r#"a"b"#])),
            ("", Err("EOF")),
            (r#"a"b"#, Err("parse error on line 1, column 2: bare \" in non-quoted field")),
            (r#""a"b"#, Err("parse error on line 1, column 3: extraneous or missing \" in quoted-field")),
            (r#""a"#, Err("parse error on line 1, column 2: extraneous or missing \" in quoted-field")),
        ] {
            match (csv_fields(text, "mounts"), expected) {
                (Ok(actual), Ok(expected)) => assert_eq!(actual, expected, "{text}"),
                (Err(Problem::Csv { problem, .. }), Err(expected)) => assert_eq!(problem, expected, "{text}"),
                (actual, expected) => panic!("{text}: {actual:?} instead of {expected:?}"),
            }
        }
    }
}
