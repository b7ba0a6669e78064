//! Texts that are made to take long. What is quadratic shows as minutes; these bounds are far above what is needed, since machines
//! are busy.

use std::time::{Duration, Instant};
use tare_build::dockerfile::{Instruction, Problem, STATEMENT_LIMIT, TEXT_LIMIT, parse, parse_statements};

fn in_time<T>(what: &str, action: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = action();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{what} took {took:?}");
    result
}

/// About a MiB of something after `FROM a`.
fn mebibyte(text: &str) -> String {
    format!("FROM a\n{}", text.repeat((1 << 20) / text.len()))
}

#[test]
fn large_texts_take_no_longer_than_their_size_asks_for() {
    for text in [
        mebibyte("RUN true && \\\n true\n"),
        mebibyte("\n"),
        mebibyte("# comment\n"),
        mebibyte("ENV A=b B=\"c d\" C='e'\n"),
        mebibyte("COPY --chown=1:2 a b c d/\n"),
        mebibyte("RUN [\"a\", \"b\"]\n"),
        mebibyte("COPY <<EOF /x\nabc $X\nEOF\n"),
        mebibyte("RUN <<-'EOF' sh\n\tabc\n\tEOF\n"),
        mebibyte("EXPOSE 80/TCP 1:2\n"),
        mebibyte("ONBUILD RUN <<EOF\na\nEOF\n"),
        mebibyte("RUN --mount=type=cache,target=/x --mount=type=bind,target=/y true\n"),
        format!("FROM a\nENV {}\n", "A=b \\\n".repeat(200_000)),
        format!("FROM a\nLABEL {}\n", "A=\"b\\\"\" \\\n".repeat(100_000)),
        format!("FROM a\nRUN {}\n", "\\\n".repeat(500_000)),
        format!("FROM a\nRUN x {}\n", "\\\n\n# c\n".repeat(200_000)),
        format!("FROM a\nRUN {} x\n", "--mount=target=/x \\\n".repeat(50_000)),
        format!("FROM a\nEXPOSE {}\n", "1:2/TCP \\\n".repeat(100_000)),
        format!("FROM a\nRUN [{}\n", "[\\\n".repeat(300_000)),
        format!("FROM a\nRUN [\"x\"{}]\n", ",\\\n\"x\"".repeat(150_000)),
        format!("FROM a\nRUN <<EOF\n{}EOF\n", "EO\n".repeat(300_000)),
        format!("FROM a\nRUN <<EOF\n{}EOF\n", "E".repeat(60_000) + "\n"),
        format!("FROM a\nCOPY {} /x\n{}", "<<A \\\n".repeat(100_000), "A\n".repeat(100_000)),
        mebibyte("FROM b AS c\n"),
    ] {
        let what = &text[..text.len().min(60)];
        assert_eq!(in_time(what, || parse(&text).map(|dockerfile| dockerfile.stages.is_empty())), Ok(false), "{what}");
    }
}

#[test]
fn what_is_refused_is_refused_in_time() {
    for text in [
        mebibyte("FOO\n"),
        format!("FROM a\nRUN <<EOF\n{}", "EO\n".repeat(300_000)),
        format!("FROM a\n{}", "ONBUILD ".repeat(8_000)),
        format!("FROM a\n{}x", "ONBUILD \\\n".repeat(100_000)),
        format!("FROM a\nRUN {}", "--x \\\n".repeat(200_000)),
        format!("FROM a\nRUN {}", "<<A \\\n".repeat(200_000)),
        format!("FROM a\nRUN {}{} <<A\nA\nb", "${x:-\\\n".repeat(150_000), "}\\\n".repeat(150_000)),
        format!("FROM a\nHEALTHCHECK --interval={} CMD x", "99h\\\n".repeat(200_000)),
        format!("FROM {}", "a \\\n".repeat(200_000)),
        "FROM a\nRUN x\0".to_owned(),
        "FROM a\nCOPY <<A /x\n\0\nA\n".to_owned(),
    ] {
        let what = &text[..text.len().min(60)];
        assert!(in_time(what, || parse(&text)).is_err(), "{what}");
    }
}

#[test]
fn statements_are_counted() {
    let allowed = "CMD\n".repeat(STATEMENT_LIMIT);
    assert_eq!(parse_statements(&allowed).unwrap().len(), STATEMENT_LIMIT);
    let error = parse_statements(&(allowed + "CMD\n")).unwrap_err();
    assert_eq!(error.problem, Problem::TooMany { limit: STATEMENT_LIMIT });
}

#[test]
fn statements_by_themselves() {
    let statements = parse_statements("# escape=`\nenv A=b\nRUN a \\\nb\n").unwrap();
    let texts: Vec<_> = statements.iter().map(|statement| (statement.lines.first, statement.text.as_str())).collect();
    assert_eq!(texts, [(2, "ENV A=b"), (3, "RUN a b")]);
    let error = parse_statements("RUN a\nFROM b").unwrap_err();
    assert_eq!(error.to_string(), "dockerfile parse error on line 2: FROM isn't allowed here");
    assert_eq!(parse_statements("").unwrap(), []);
}

#[test]
fn texts_at_the_limit_fit_into_memory() {
    for word in ["1 \\\n", "A=b \\\n"] {
        let instruction = if word.contains('=') { "ENV" } else { "EXPOSE" };
        let count = (TEXT_LIMIT - 20) / word.len();
        let text = format!("FROM a\n{instruction} {}", word.repeat(count));
        let dockerfile = in_time(word, || parse(&text)).unwrap();
        let instruction = &dockerfile.stages[0].statements[0].instruction;
        assert!(
            matches!(instruction, Instruction::Env(words) if words.len() == count)
                || matches!(instruction, Instruction::Expose(words) if words.len() == count)
        );
    }
}
