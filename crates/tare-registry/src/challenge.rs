//! Challenges of RFC 7235: how a registry wants us to prove who we are.

use crate::answer::Answer;
use std::collections::HashMap;
use ureq::http::header;

/// How a registry wants us to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        /// `insufficient_scope`, `invalid_token` (RFC 6750, section 3.1).
        error: Option<String>,
    },
}

impl Challenge {
    /// The challenge of an answer that we can meet, tokens before passwords.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        let values = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<Self> =
            values.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

/// The known challenges of one `WWW-Authenticate` header, which may hold several.
pub(crate) fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == ',').unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let word = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start_matches([' ', '\t']);
        let Some(after) = rest.strip_prefix('=') else {
            found.push((word, HashMap::new()));
            continue;
        };
        let value;
        (value, rest) = parameter_value(after.trim_start_matches([' ', '\t']));
        if let Some((_, parameters)) = found.last_mut() {
            parameters.entry(word).or_insert(value);
        }
    }
    let challenges = found.into_iter().filter_map(|(scheme, mut parameters)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
            error: parameters.remove("error"),
        }),
        _ => None,
    });
    challenges.collect()
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope), error: owned(error) }
    }

    #[test]
    fn challenges_are_read() {
        let realm = "https://a.io/t";
        for (header, challenges) in [
            (
                r#"Bearer realm="https://a.io/t",service="r.io",scope="repository:a/b:pull,push""#,
                vec![bearer(realm, Some("r.io"), Some("repository:a/b:pull,push"), None)],
            ),
            (
                r#"bearer  Realm = "https://a.io/t" , error=insufficient_scope"#,
                vec![bearer(realm, None, None, Some("insufficient_scope"))],
            ),
            (
                r#"Basic realm="x, \"y\"=", Negotiate, Bearer realm="https://a.io/t""#,
                vec![Challenge::Basic, bearer(realm, None, None, None)],
            ),
            (r#"Bearer realm="https://a.io/t"#, vec![bearer(realm, None, None, None)]),
            ("Basic", vec![Challenge::Basic]),
            ("Bearer service=x", vec![]),
            ("Negotiate YWJj==", vec![]),
            ("realm=\"x\"", vec![]),
            ("=,=\"", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse_challenges(header), challenges, "{header}");
        }
    }
}
