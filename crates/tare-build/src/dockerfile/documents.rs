//! Here-documents: their marks in a statement's line.

use super::expand::{quoted_and_not, shell_words};
use super::problem::Problem;

/// `<<EOF`, `<<-'EOF'`, `3<<"EOF"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The word without its quotes.
    pub(super) name: String,
    /// No part of the word was quoted.
    pub(super) expand: bool,
    /// `<<-`.
    pub(super) chomp: bool,
}

/// The marks in a line for the shell. A line whose quotes do not match has none, as BuildKit has it.
pub(super) fn marks(line: &str) -> Result<Vec<Mark>, Problem> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let mut marks = Vec::new();
    for word in shell_words(line).unwrap_or_default() {
        marks.extend(mark(&word)?);
    }
    Ok(marks)
}

/// The mark that a word is.
pub(super) fn mark(word: &str) -> Result<Option<Mark>, Problem> {
    let Some(rest) = word.trim_start_matches(|character: char| character.is_ascii_digit()).strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let (words, kept) = quoted_and_not(rest)?;
    let ([name], [kept]) = (&words[..], &kept[..]) else { return Ok(None) };
    let quotes = |text: &str| text.bytes().filter(|byte| matches!(byte, b'\'' | b'"')).count();
    Ok(Some(Mark { expand: quotes(name) == quotes(kept), name: name.clone(), chomp }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_lines() {
        for (line, expected) in [
            ("RUN <<EOF", &[("EOF", true, false)][..]),
            ("RUN <<-EOF", &[("EOF", true, true)]),
            ("RUN <<- EOF", &[("EOF", true, true)]),
            ("RUN << -EOF", &[("-EOF", true, false)]),
            ("RUN <<  EOF  > x", &[("EOF", true, false)]),
            ("RUN 3<<EOF", &[("EOF", true, false)]),
            ("RUN <<'EOF'", &[("EOF", false, false)]),
            ("RUN <<-\"EOF\" | sh", &[("EOF", false, true)]),
            ("RUN <<E\"O\"F", &[("EOF", false, false)]),
            ("RUN <<a\\'b", &[("a'b", true, false)]),
            ("RUN <<'a'\\'b", &[("a'b", false, false)]),
            ("RUN <<'one two'", &[("one two", false, false)]),
            ("RUN <<$X", &[("$X", true, false)]),
            ("RUN <<${X:-y}", &[("${X:-y}", true, false)]),
            ("COPY <<A <<-B /x", &[("A", true, false), ("B", true, true)]),
            ("RUN cat <<A;cat <<B", &[("A;cat", true, false), ("B", true, false)]),
            ("RUN ${x:0:3} ${y:-z} <<EOF", &[("EOF", true, false)]),
            ("RUN ${x^^} <<EOF", &[]),
            ("RUN x<<EOF", &[]),
            ("RUN <<<EOF", &[]),
            ("RUN a<b", &[]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN \\<<EOF", &[]),
            ("RUN <<", &[]),
            ("RUN << ", &[]),
            ("RUN <<-", &[]),
            ("RUN <<''", &[]),
            ("RUN it's <<EOF", &[]),
        ] {
            let actual = marks(line).unwrap();
            let actual: Vec<_> = actual.iter().map(|mark| (mark.name.as_str(), mark.expand, mark.chomp)).collect();
            assert_eq!(actual, expected, "{line}");
        }
    }

    #[test]
    fn words_of_marks() {
        assert!(mark("<<'EOF").is_err() && mark("<<EOF\"").is_err());
        for word in ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh", "x<<EOF"] {
            assert_eq!(mark(word), Ok(None), "{word}");
        }
    }
}
