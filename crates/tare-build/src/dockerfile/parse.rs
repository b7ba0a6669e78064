//! From a text to stages and statements.

use super::documents::marks;
use super::instruction::{Head, Parsed, parse as parse_instruction};
use super::lines::{RawStatement, Splitter};
use super::lint::{Linter, Subject};
use super::problem::{ParseError, Problem};
use super::syntax::{Dockerfile, Instruction, Lines, Stage, Statement};

/// 100,000: what a program may have generated, and bounded memory.
pub const STATEMENT_LIMIT: usize = 100_000;

/// Parses a Dockerfile.
///
/// # Errors
/// What is wrong, and on which lines.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let of_all = |lines, problem| Err(ParseError { lines, problem });
    if text.is_empty() {
        return of_all(Lines { first: 1, last: 1 }, Problem::Empty);
    }
    let mut splitter = Splitter::new(text, true)?;
    let mut linter = Linter::default();
    let mut arguments = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    while let Some(next) = next(&mut splitter, &mut linter)? {
        match next {
            Next::Stage(stage) => stages.push(stage),
            Next::Statement(statement) => match stages.last_mut() {
                Some(stage) => stage.statements.push(statement),
                None if matches!(statement.instruction, Instruction::Arg(_)) => arguments.push(statement),
                None => return of_all(statement.lines, Problem::NoStage),
            },
        }
    }
    if stages.is_empty() {
        let problem = if arguments.is_empty() { Problem::NoInstructions } else { Problem::NoStages };
        return of_all(splitter.last(), problem);
    }
    let directives = splitter.directives;
    let (warnings, exceptions) = linter.finish();
    Ok(Dockerfile {
        escape: directives.escape,
        syntax: directives.syntax,
        check: directives.check.check,
        exceptions,
        arguments,
        stages,
        warnings,
    })
}

/// Parses statements that stand by themselves, such as an image's ONBUILD triggers and those of `commit --change`: there is no FROM among
/// them, lines that begin with `#` are comments only, and the escape character is a backslash.
///
/// # Errors
/// What is wrong, and on which lines.
pub fn parse_statements(text: &str) -> Result<Vec<Statement>, ParseError> {
    let mut splitter = Splitter::new(text, false)?;
    let mut linter = Linter::default();
    let mut statements = Vec::new();
    while let Some(next) = next(&mut splitter, &mut linter)? {
        match next {
            Next::Statement(statement) => statements.push(statement),
            Next::Stage(stage) => {
                return Err(ParseError { lines: stage.lines, problem: Problem::Misplaced { instruction: "FROM" } });
            }
        }
    }
    Ok(statements)
}

enum Next {
    Stage(Stage),
    Statement(Statement),
}

fn next(splitter: &mut Splitter<'_>, linter: &mut Linter) -> Result<Option<Next>, ParseError> {
    let Some(raw) = splitter.statement()? else { return Ok(None) };
    let RawStatement { mut lines, text, comments, has_gap } = raw;
    if linter.count() == STATEMENT_LIMIT {
        return Err(ParseError { lines, problem: Problem::TooMany { limit: STATEMENT_LIMIT } });
    }
    let escape = splitter.directives.escape;
    if has_gap {
        linter.gap(&splitter.directives.check, lines.last);
    }
    let head = Head::new(&text, escape);
    let mut documents = Vec::new();
    if head.takes_documents(escape) {
        let marks = marks(&text).map_err(|problem| ParseError { lines, problem })?;
        documents = splitter.documents(&mut lines, marks)?;
    }
    let failed = |problem| ParseError { lines, problem };
    if text.contains('\0') || documents.iter().any(|document| document.content.contains('\0')) {
        return Err(failed(Problem::Nul));
    }
    let parsed = parse_instruction(&head, documents, escape).map_err(failed)?;
    let subject = Subject { head: &head, parsed: &parsed, comments: &comments, lines, escape };
    linter.statement(&splitter.directives.check, &subject);
    let text = head.text();
    Ok(Some(match parsed {
        Parsed::From(from) => {
            let name = from.name.map(|(_, name)| name.to_ascii_lowercase());
            let (image, platform, statements) = (from.image, from.platform, Vec::new());
            Next::Stage(Stage { lines, text, image, name, platform, statements })
        }
        Parsed::Other { instruction, .. } => Next::Statement(Statement { lines, text, instruction }),
    }))
}
