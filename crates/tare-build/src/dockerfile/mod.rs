//! From a Dockerfile's text to its instructions. Knows no files and no images.

mod expand;
mod lex;
mod parse;

pub use parse::{Command, Instruction, Problem, Statement, parse};

pub(crate) use expand::{expand, words};
pub(crate) use parse::parse_changes;
