//! Values of several fields: `type=local,dest=out`.

/// The comma-separated fields of a line, where double quotes hold a field together (RFC 4180).
pub(crate) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is always a field");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    if quoted { Err(format!("a quote in '{text}' has no end")) } else { Ok(fields) }
}

/// The fields as names, in small letters, and values. `wrong` says it when a field is none.
pub(crate) fn pairs(text: &str, wrong: impl Fn(&str) -> String) -> Result<Vec<(String, String)>, String> {
    let pair = |field: &String| {
        let (name, value) = field.split_once('=').ok_or_else(|| wrong(field))?;
        Ok((name.trim().to_ascii_lowercase(), value.to_owned()))
    };
    fields(text)?.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_fields_together() {
        assert_eq!(fields("a=1,\"b=2,3\",\"c=\"\"4\"\"\"").unwrap(), ["a=1", "b=2,3", "c=\"4\""]);
        assert_eq!(fields("").unwrap(), [""]);
        assert_eq!(fields("\"a").unwrap_err(), "a quote in '\"a' has no end");
        assert_eq!(
            pairs("Type=x,a=b=c", str::to_owned).unwrap(),
            [("type", "x"), ("a", "b=c")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        assert_eq!(pairs("type", |field| format!("invalid value {field}")).unwrap_err(), "invalid value type");
    }
}
