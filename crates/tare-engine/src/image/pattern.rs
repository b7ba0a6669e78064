//! Shell patterns of `--filter reference=`, as Go's `path.Match` reads them.

/// Whether `text` matches a pattern of `*`, `?`, `[a-z]`, `[^a-z]` and `\` escapes, none of which match a slash.
/// `None` for a pattern that cannot be read.
pub(crate) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern = parse(pattern)?;
    let text: Vec<char> = text.chars().collect();
    // Where a later part fails, the last star takes one more: no more than pattern times text steps.
    let (mut at, mut from, mut retry) = (0, 0, None);
    loop {
        match pattern.get(at) {
            Some(Part::Star) => {
                retry = Some((at, from));
                at += 1;
                continue;
            }
            Some(part) if text.get(from).is_some_and(|&letter| part.takes(letter)) => {
                (at, from) = (at + 1, from + 1);
                continue;
            }
            None if from == text.len() => return Some(true),
            _ => {}
        }
        match retry {
            Some((star, start)) if text.get(start).is_some_and(|&letter| letter != '/') => {
                retry = Some((star, start + 1));
                (at, from) = (star + 1, start + 1);
            }
            _ => return Some(false),
        }
    }
}

enum Part {
    Star,
    Any,
    Letter(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Star | Self::Any => letter != '/',
            Self::Letter(wanted) => letter == *wanted,
            Self::Class { negated, ranges } => {
                letter != '/' && ranges.iter().any(|&(low, high)| (low..=high).contains(&letter)) != *negated
            }
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Part>> {
    let mut letters = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(letter) = letters.next() {
        parts.push(match letter {
            '*' => Part::Star,
            '?' => Part::Any,
            '\\' => Part::Letter(letters.next()?),
            '[' => {
                let negated = letters.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || letters.peek()? != &']' {
                    let low = class_letter(&mut letters)?;
                    let high = if letters.next_if_eq(&'-').is_some() { class_letter(&mut letters)? } else { low };
                    ranges.push((low, high));
                }
                letters.next();
                Part::Class { negated, ranges }
            }
            letter => Part::Letter(letter),
        });
    }
    Some(parts)
}

fn class_letter(letters: &mut impl Iterator<Item = char>) -> Option<char> {
    match letters.next()? {
        '\\' => letters.next(),
        '-' | ']' => None,
        letter => Some(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_a_part_of_the_path() {
        for (pattern, text, expected) in [
            ("nginx", "nginx", true),
            ("ngin?", "nginx", true),
            ("n*:lat*", "nginx:latest", true),
            ("*", "library/nginx", false),
            ("*/*", "library/nginx", true),
            ("*x", "nginx", true),
            ("*a*b", "aabb", true),
            ("*a*c", "aabb", false),
            ("nginx", "nginx:latest", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("[a-cx]y", "by", true),
            ("[^a-c]y", "by", false),
            ("[^a-c]y", "zy", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(matches(pattern, text), Some(expected), "{pattern} {text}");
        }
        for pattern in ["[", "[]", "[a", "[a-", "a\\", "[-x]"] {
            assert_eq!(matches(pattern, "a"), None, "{pattern}");
        }
        let long = "a".repeat(2000);
        assert_eq!(matches(&format!("{}b", "a*".repeat(200)), &long), Some(false));
    }
}
