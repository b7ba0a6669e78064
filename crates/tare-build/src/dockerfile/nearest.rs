//! What was meant by a misspelt word: within two steps, as BuildKit has it.

/// Words that are further apart are not slips of the fingers.
const FURTHEST: usize = 2;

/// The candidate with the fewest insertions, deletions and replacements between it and `word`; the first of them where
/// several are as near. None where one is equal: then something else is wrong.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        match distance(word, candidate) {
            Some(0) => return None,
            Some(steps) if best.is_none_or(|(least, _)| steps < least) => best = Some((steps, candidate)),
            _ => {}
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The Levenshtein distance, unless it is more than [`FURTHEST`].
fn distance(from: &str, to: &str) -> Option<usize> {
    // A word of any length may be asked for: each step changes the length, in bytes, by four at most.
    if from.len().abs_diff(to.len()) > 4 * FURTHEST {
        return None;
    }
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > FURTHEST {
        return None;
    }
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, character) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(character != other);
            row.push(replaced.min(last[j + 1] + 1).min(row[j] + 1));
        }
        if row.iter().all(|steps| *steps > FURTHEST) {
            return None;
        }
        last = row;
    }
    Some(last[to.len()]).filter(|steps| *steps <= FURTHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let words = ["from", "to", "chown", "chmod"];
        for (word, expected) in [
            ("form", Some("from")),
            ("fro", Some("from")),
            ("fromm", Some("from")),
            ("chonw", Some("chown")),
            ("chom", Some("from")),
            ("from", None),
            ("link", None),
            ("", Some("to")),
            ("é", Some("to")),
        ] {
            assert_eq!(nearest(word, words.into_iter()), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), words.into_iter()), None);
    }
}
