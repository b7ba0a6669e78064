//! From a Dockerfile's text to its instructions. Knows no files and no images.
//!
//! ```text
//! lines.rs        text → statements: directives.rs, comments, continuations, contents of here-documents (documents.rs)
//! instruction.rs  statement → name, flags (flags.rs), words (words.rs) → Instruction (syntax.rs)
//! parse.rs        statements → stages
//! lint.rs         what is allowed and probably not meant
//! expand.rs       later, by the planner: variables in words, patterns (pattern.rs)
//! excerpt.rs      the lines that an error is about
//! ```
//!
//! The text is hostile: its size, its lines, their number and what variables come to are bounded, and all takes time in proportion to
//! the text.

mod directives;
mod documents;
mod duration;
mod excerpt;
mod expand;
mod flags;
mod instruction;
mod lines;
pub mod lint;
mod nearest;
mod parse;
mod pattern;
mod problem;
mod syntax;
mod words;

pub use duration::duration;
pub use excerpt::excerpt;
pub use expand::{
    EXPANDED_LIMIT, Expanded, ExpandedWords, Lookup, expand, expand_document, expand_shown, expand_words,
};
pub use lines::{LINE_LIMIT, TEXT_LIMIT};
pub use nearest::nearest;
pub use parse::{STATEMENT_LIMIT, parse, parse_statements};
pub use problem::{ParseError, Problem, WordProblem};
pub use syntax::{
    Check, Command, Copy, Dockerfile, Exception, Healthcheck, HereDocument, Instruction, Lines, Run, Stage, Statement,
    Warning,
};
