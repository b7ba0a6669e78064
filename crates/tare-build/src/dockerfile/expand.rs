//! Words, quotes and variables inside of arguments (Dockerfile reference, "Environment replacement").

use super::Problem;
use std::collections::BTreeMap;

/// Splits at white space outside of quotes; quotes and escapes stay as they are.
pub(crate) fn words(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quote) = (None, None);
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if let Some(start) = start.take() {
                words.push(&text[start..index]);
            }
            continue;
        }
        start.get_or_insert(index);
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            // What is escaped is part of the word, white space and quotes included; not inside of '…'.
            (None | Some('"'), character) if character == escape => drop(characters.next()),
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// Takes quotes and escapes away and puts variables in. Unset ones are empty.
pub(crate) fn expand(word: &str, escape: char, variables: &BTreeMap<String, String>) -> Result<String, Problem> {
    let mut rest = word;
    let expanded = until(&mut rest, None, escape, variables)?;
    Ok(expanded)
}

/// Expands up to the closing brace of a modifier, or to the end.
fn until(
    rest: &mut &str,
    end: Option<char>,
    escape: char,
    variables: &BTreeMap<String, String>,
) -> Result<String, Problem> {
    let mut result = String::new();
    let mut quoted = false;
    let unclosed = |what| Problem::Unclosed { what };
    while let Some(character) = rest.chars().next() {
        *rest = &rest[character.len_utf8()..];
        match character {
            _ if end == Some(character) && !quoted => return Ok(result),
            '"' => quoted = !quoted,
            '\'' if !quoted => {
                let (literal, after) = rest.split_once('\'').ok_or(unclosed("single quote"))?;
                result.push_str(literal);
                *rest = after;
            }
            '$' => variable(rest, escape, variables, &mut result)?,
            _ if character == escape => match rest.chars().next() {
                None => result.push(escape),
                Some(next) => {
                    // Between double quotes only these lose their meaning.
                    if quoted && !matches!(next, '"' | '$') && next != escape {
                        result.push(escape);
                    }
                    result.push(next);
                    *rest = &rest[next.len_utf8()..];
                }
            },
            other => result.push(other),
        }
    }
    match (quoted, end) {
        (true, _) => Err(unclosed("double quote")),
        (false, Some(_)) => Err(unclosed("brace")),
        (false, None) => Ok(result),
    }
}

/// What follows a `$`: `name`, `{name}`, `{name:-word}`, `{name-word}`, `{name:+word}`, `{name+word}`.
fn variable(
    rest: &mut &str,
    escape: char,
    variables: &BTreeMap<String, String>,
    result: &mut String,
) -> Result<(), Problem> {
    let braced = rest.starts_with('{');
    let text = if braced { &rest[1..] } else { *rest };
    let length = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (name, after) = text.split_at(length);
    let is_name = !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
    if !braced {
        if !is_name {
            result.push('$');
            return Ok(());
        }
        *rest = after;
        result.push_str(variables.get(name).map_or("", String::as_str));
        return Ok(());
    }
    if !is_name {
        return Err(Problem::Substitution { text: excerpt(rest) });
    }
    let value = variables.get(name).map(String::as_str);
    if let Some(after) = after.strip_prefix('}') {
        *rest = after;
        result.push_str(value.unwrap_or_default());
        return Ok(());
    }
    let colon = after.starts_with(':');
    let operator = &after[usize::from(colon)..];
    let value = value.filter(|value| !colon || !value.is_empty());
    let Some(sign @ ('-' | '+')) = operator.chars().next() else {
        return Err(Problem::Substitution { text: excerpt(rest) });
    };
    *rest = &operator[1..];
    let word = until(rest, Some('}'), escape, variables)?;
    match (sign, value) {
        ('-', Some(value)) => result.push_str(value),
        ('-', None) | ('+', Some(_)) => result.push_str(&word),
        _ => {}
    }
    Ok(())
}

fn excerpt(rest: &str) -> String {
    let end = rest.find('}').map_or(rest.len(), |end| end + 1);
    format!("${}", &rest[..end]).chars().take(80).collect()
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
            ("é\u{a0}b", &["é", "b"]),
        ] {
            assert_eq!(words(text, '\\'), expected, "{text}");
        }
    }

    #[test]
    fn variables_and_quotes() {
        let variables = BTreeMap::from([("A".to_owned(), "1 2".to_owned()), ("E".to_owned(), String::new())]);
        for (word, expected) in [
            ("plain", Some("plain")),
            ("$A-${A}-$B", Some("1 2-1 2-")),
            ("'$A'\"$A\"", Some("$A1 2")),
            (r"\$A\a", Some("$Aa")),
            (r#""\$A\a\\""#, Some(r"$A\a\")),
            ("${B:-x$A}${A:-y}${E:-e}${E-f}", Some("x1 21 2e")),
            ("${A:+yes}${B:+no}${E:+no}${E+set}", Some("yesset")),
            ("${B:-'}'}", Some("}")),
            ("${B:-${A}}", Some("1 2")),
            ("$", Some("$")),
            ("a$1", Some("a$1")),
            (r"end\", Some(r"end\")),
            ("${A", None),
            ("${}", None),
            ("${A:?no}", None),
            ("${A#x}", None),
            ("'a", None),
            ("\"a", None),
            ("${B:-x", None),
        ] {
            assert_eq!(expand(word, '\\', &variables).ok().as_deref(), expected, "{word}");
        }
    }
}
