#![no_main]
//! A Dockerfile, its words with variables, and the excerpt that an error shows.

use libfuzzer_sys::fuzz_target;
use tare_build::dockerfile::{
    Dockerfile, EXPANDED_LIMIT, Instruction, Lines, Problem, Statement, WordProblem, excerpt, expand, expand_document,
    expand_shown, expand_words, parse, parse_statements,
};

fuzz_target!(|text: &str| {
    let count = text.lines().count();
    match parse(text) {
        Ok(dockerfile) => whole(&dockerfile, text, count),
        Err(error) => {
            lines(error.lines, count.max(1));
            let _ = excerpt(text, "Dockerfile", error.lines);
            let _ = error.to_string();
        }
    }
    let _ = parse_statements(text);
    words(text, '\\');
    words(text, '`');
});

fn whole(dockerfile: &Dockerfile, text: &str, count: usize) {
    assert!(!dockerfile.stages.is_empty());
    let statements = dockerfile.stages.iter().flat_map(|stage| &stage.statements).chain(&dockerfile.arguments);
    for Statement { lines: found, text: shown, instruction } in statements {
        lines(*found, count);
        assert!(shown.len() <= text.len() + 16);
        if let Instruction::OnBuild(trigger) = instruction {
            // What was taken here is taken again when an image is built on this one.
            if dockerfile.escape == '\\' {
                assert_eq!(parse_statements(trigger).expect("it was parsed before").len(), 1, "{trigger:?}");
            }
        }
    }
    for warning in &dockerfile.warnings {
        lines(warning.lines, count);
    }
}

fn lines(lines: Lines, count: usize) {
    assert!(0 < lines.first && lines.first <= lines.last && lines.last <= count, "{lines:?} of {count}");
}

fn words(text: &str, escape: char) {
    let lookup = |name: &str| match name.len() % 4 {
        0 => None,
        1 => Some("a/b*c d".to_owned()),
        2 => Some(String::new()),
        _ => Some(text.to_owned()),
    };
    let limit = text.len() + EXPANDED_LIMIT;
    match expand(text, escape, &lookup) {
        Ok(expanded) => assert!(expanded.text.len() <= limit),
        Err(Problem::Word { cause: WordProblem::TooLarge { .. }, .. }) => {}
        Err(problem) => drop(problem.to_string()),
    }
    if let Ok(expanded) = expand_words(text, escape, &lookup) {
        assert!(expanded.words.iter().map(String::len).sum::<usize>() <= limit);
        assert!(expanded.words.iter().all(|word| !word.is_empty()));
    }
    let _ = expand_document(text, &lookup);
    let _ = expand_shown(text, escape, &lookup);
}
