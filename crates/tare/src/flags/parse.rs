//! From words to flags and arguments, by the rules of Docker's parser (Go's pflag).
//!
//! clap splits the words; the rules that differ from its own are set here: a switch takes a value only after `=`,
//! every flag may be repeated, a value may begin with a dash, and errors are in Docker's words.

use super::suggest;
use super::{Flag, Kind};
use crate::cli::Verb;
use crate::failure::{Exit, Failure};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction};

/// Exit code of a command line that Docker's parser refuses.
const BAD_FLAG: u8 = 125;

/// The words of one call, sorted.
#[derive(Debug)]
pub(crate) struct Matches {
    /// The command that was called.
    pub(crate) verb: &'static Verb,
    /// The words it was called by: `tare container ls`.
    pub(crate) path: String,
    /// What is no flag.
    pub(crate) args: Vec<String>,
    values: clap::ArgMatches,
}

impl Matches {
    /// Sorts the words after a command.
    pub(crate) fn parse(verb: &'static Verb, path: String, words: &[String]) -> Result<Self, Failure> {
        let usage_error = |text: String| Failure::usage(verb, &path, text, BAD_FLAG);
        let mut values = match clap_command(verb).try_get_matches_from(words) {
            Ok(values) => values,
            Err(error) => {
                let (text, hint) = in_dockers_words(verb, words, &error);
                return Err(usage_error(text).with_hint(hint));
            }
        };
        for flag in verb.flags().filter(|flag| !flag.supported) {
            if values.contains_id(flag.name) {
                return Err(Failure::new(format!("--{} is not supported yet", flag.name)).with_code(BAD_FLAG));
            }
        }
        let args = values.remove_many(ARGS).map(Iterator::collect).unwrap_or_default();
        Ok(Self { verb, path, args, values })
    }

    /// Whether the flag was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_id(name)
    }

    /// The value of a flag; the last one when it was given several times.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// All values of a flag in their order.
    pub(crate) fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &String> {
        self.values.get_many(name).into_iter().flatten()
    }

    /// A switch that is off by default.
    pub(crate) fn switch(&self, name: &str) -> Result<bool, Failure> {
        self.switch_or(name, false)
    }

    /// A switch with its default.
    pub(crate) fn switch_or(&self, name: &str, default: bool) -> Result<bool, Failure> {
        Ok(self.read(name, super::words::boolean)?.unwrap_or(default))
    }

    /// The value of a flag, read by `read`.
    pub(crate) fn read<T, E: std::fmt::Display>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        // Each of them must be right, the last one counts.
        Ok(self.read_all(name, read)?.pop())
    }

    /// All values of a flag, read by `read`.
    pub(crate) fn read_all<T, E: std::fmt::Display>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Failure> {
        self.all(name).map(|value| read(value).map_err(|error| self.invalid(name, value, &error.to_string()))).collect()
    }

    /// The refusal of a flag's value.
    pub(crate) fn invalid(&self, name: &str, value: &str, why: &str) -> Failure {
        let flag = self.verb.flags().find(|flag| flag.name == name).map_or_else(|| format!("--{name}"), Flag::shown);
        self.bad_flags(format!("invalid argument \"{value}\" for \"{flag}\" flag: {why}"))
    }

    /// The refusal of a combination of flags.
    pub(crate) fn bad_flags(&self, text: String) -> Failure {
        Failure::usage(self.verb, &self.path, text, BAD_FLAG)
    }
}

/// Name of what is no flag, which no flag has.
const ARGS: &str = "";

fn clap_command(verb: &Verb) -> clap::Command {
    let flags = verb.flags().map(|flag| {
        let arg = Arg::new(flag.name).long(flag.name).short(flag.short).action(ArgAction::Append);
        match flag.kind {
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Kind::Value(_) => arg.num_args(1).allow_hyphen_values(true),
        }
    });
    clap::Command::new(verb.name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(flags)
        .arg(Arg::new(ARGS).num_args(0..).action(ArgAction::Append).trailing_var_arg(verb.stops_at_first_argument))
}

/// The text of an error as Docker writes it, and a hint.
fn in_dockers_words(verb: &Verb, words: &[String], error: &clap::Error) -> (String, Option<String>) {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let named = context(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument => match named.strip_prefix("--") {
            Some(name) => {
                let near = suggest::nearest(name, verb.flags().filter(|flag| flag.supported).map(|flag| flag.name));
                (format!("unknown flag: --{name}"), near.map(|name| format!("did you mean `--{name}`?")))
            }
            None => unknown_letter(verb, words, named.trim_start_matches('-')),
        },
        // Only the last word can lack its value: every other word is a value.
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            let last = words.last().map_or("", String::as_str);
            let text = match (last.starts_with("--"), last.chars().last()) {
                (false, Some(letter)) => format!("flag needs an argument: '{letter}' in -{letter}"),
                _ => format!("flag needs an argument: {last}"),
            };
            (text, None)
        }
        _ => (format!("bad arguments: {named} {}", error.kind()).trim_end().to_owned(), None),
    }
}

/// `unknown shorthand flag: 'z' in -zx`, and what may have been meant by one dash where two belong.
fn unknown_letter(verb: &Verb, words: &[String], letter: &str) -> (String, Option<String>) {
    let group = words
        .iter()
        .filter(|word| word.starts_with('-') && !word.starts_with("--"))
        .find_map(|word| word.find(letter).map(|at| (word, &word[at..])));
    let (word, rest) = group.map_or(("", letter), |(word, rest)| (word.as_str(), rest));
    let long = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    let meant = verb.flags().find(|flag| flag.supported && flag.name == long);
    (
        format!("unknown shorthand flag: '{letter}' in -{rest}"),
        meant.map(|flag| format!("did you mean `--{}`?", flag.name)),
    )
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    /// None.
    None,
    /// This many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// No more than this.
    AtMost(usize),
    /// From so many to so many.
    Between(usize, usize),
}

impl Matches {
    /// Compares the arguments with what the command takes.
    pub(crate) fn check_arity(&self) -> Result<(), Failure> {
        self.require(self.verb.arity)
    }

    /// Compares the arguments with this.
    pub(crate) fn require(&self, arity: Arity) -> Result<(), Failure> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let given = self.args.len();
        let wrong = match arity {
            Arity::None if given > 0 => "accepts no arguments".to_owned(),
            Arity::Exactly(n) if given != n => format!("requires {n} {}", plural(n)),
            Arity::AtLeast(n) if given < n => format!("requires at least {n} {}", plural(n)),
            Arity::AtMost(n) if given > n => format!("requires at most {n} {}", plural(n)),
            Arity::Between(from, to) if !(from..=to).contains(&given) => {
                format!("requires at least {from} and at most {to} {}", plural(to))
            }
            _ => return Ok(()),
        };
        Err(Failure::usage(self.verb, &self.path, format!("tare: '{}' {wrong}", self.path), Exit::FAILURE.0))
    }
}
