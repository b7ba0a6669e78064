//! How a command ends: its exit code, or what went wrong and what the person can do about it.

use crate::advice::Topic;
use crate::cli::Verb;
use crate::flags::help;
use std::error::Error;
use std::io;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All went well.
    pub(crate) const SUCCESS: Self = Self(0);
    /// Something went wrong.
    pub(crate) const FAILURE: Self = Self(1);
}

/// What a command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// What is around the text of a failure.
#[derive(Clone, Debug)]
struct Form {
    /// Lines before it.
    before: String,
    /// The word before the text.
    label: &'static str,
}

impl Default for Form {
    fn default() -> Self {
        Self { before: String::new(), label: "Error" }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How it is told where that is not as everywhere. In a box, for failures are returned by everything.
    form: Option<Box<Form>>,
    /// What stderr says; nothing when the reader of our output went away, which is no error.
    pub(crate) text: Option<String>,
    /// What the person can do.
    pub(crate) hint: Option<String>,
    /// What a better hint may be found for.
    pub(crate) topic: Option<Topic>,
    /// The usage lines below a refused command line; there the text stands alone, without `Error:`.
    usage: Option<String>,
    /// Exit code.
    pub(crate) code: u8,
}

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { form: None, text: Some(text.into()), hint: None, topic: None, usage: None, code: Exit::FAILURE.0 }
    }

    /// A command line that makes no sense for `verb`, called as `path`.
    pub(crate) fn usage(verb: &Verb, path: &str, text: String, code: u8) -> Self {
        let usage =
            format!("\nUsage:  {path}{}\n\nRun '{path} --help' for more information", help::with_space(verb.usage));
        Self { usage: Some(usage), code, ..Self::new(text) }
    }

    /// A command that does not exist below `path`.
    pub(crate) fn unknown_command(path: &str, word: &str, near: Option<&str>) -> Self {
        Self {
            hint: near.map(|near| format!("did you mean `{path} {near}`?")),
            usage: Some(format!("\nRun '{path} --help' for more information")),
            ..Self::new(format!("tare: unknown command: {path} {word}"))
        }
    }

    /// The same with another exit code.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same with a hint.
    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// The same with this before its text.
    pub(crate) fn prefixed(mut self, prefix: &str) -> Self {
        self.text = self.text.map(|text| format!("{prefix}{text}"));
        self
    }

    /// The same below these lines.
    pub(crate) fn below(mut self, lines: String) -> Self {
        self.form.get_or_insert_default().before = lines;
        self
    }

    /// The same with another word than `Error` before it.
    pub(crate) fn labelled(mut self, label: &'static str) -> Self {
        self.form.get_or_insert_default().label = label;
        self
    }

    /// What stderr gets, with line breaks.
    pub(crate) fn message(&self) -> String {
        let Some(text) = &self.text else { return String::new() };
        let Form { before, label } = self.form.as_deref().cloned().unwrap_or_default();
        let label = if self.usage.is_some() { String::new() } else { format!("{label}: ") };
        let mut message = format!("{before}{label}{text}\n");
        if let Some(hint) = &self.hint {
            for line in hint.lines() {
                message.push_str(&format!("hint: {line}\n"));
            }
        }
        if let Some(usage) = &self.usage {
            message.push_str(&format!("{usage}\n"));
        }
        message
    }
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let cause_text = match error.downcast_ref::<io::Error>() {
            Some(error) if error.raw_os_error().is_some() => errno_text(error),
            _ => error.to_string(),
        };
        // Some errors are only another layer around their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        cause = error.source();
    }
    text
}

/// The kernel's words for an error, without Rust's `(os error 2)` behind them and in lower case, as Go writes them.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = plain.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl From<tare_engine::Error> for Failure {
    fn from(error: tare_engine::Error) -> Self {
        if error.is_closed_output() {
            return io::Error::from(io::ErrorKind::BrokenPipe).into();
        }
        let topic = Topic::of(&error);
        let failure = Self { topic, ..Self::new(chain(&error)) };
        failure.with_hint(error.hint()).with_code(tare_api::status::exit_code(error.kind()))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { text: None, code: Exit::SUCCESS.0, ..Self::new("") },
            _ => Self::new(format!("write to standard output: {}", errno_text(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.message().as_str(), failure.code), ("", 0));
    }

    #[test]
    fn hints_follow_the_error() {
        let failure = Failure::new("no such image: x").with_hint(Some("tare images".to_owned()));
        assert_eq!(failure.message(), "Error: no such image: x\nhint: tare images\n");
    }

    #[test]
    fn the_kernels_words_read_like_gos() {
        assert_eq!(errno_text(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
