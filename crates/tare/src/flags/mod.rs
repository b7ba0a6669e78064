//! Flags: how a command describes them, and how their values are read.
//!
//! A [`Flag`] is plain constant data. From it come the parser ([`parse`]) and the help text ([`help`]), and only for
//! the command that was called, so that starting one command costs nothing for the others.

pub(crate) mod build;
pub(crate) mod bytes;
pub(crate) mod cache_filter;
pub(crate) mod container;
pub(crate) mod env;
pub(crate) mod fields;
pub(crate) mod filter;
pub(crate) mod help;
pub(crate) mod image_filter;
pub(crate) mod mounts;
pub(crate) mod numbers;
pub(crate) mod parse;
pub(crate) mod suggest;
pub(crate) mod words;

/// One flag of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Long name, without dashes.
    pub(crate) name: &'static str,
    /// Its one-letter form.
    pub(crate) short: Option<char>,
    /// Whether and which value it takes.
    pub(crate) kind: Kind,
    /// What it does, as help shows it; flags without a text are not shown.
    pub(crate) help: &'static str,
    /// Whether it works here. Docker's other flags are known, so that the answer is not "unknown flag".
    pub(crate) supported: bool,
}

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true`/`=false`.
    Switch,
    /// A value of this type, by the word that help shows.
    Value(&'static str),
}

impl Flag {
    /// A flag that is on or off.
    pub(crate) const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Switch, help, supported: true }
    }

    /// A flag with a value; `of` is the type that help names.
    pub(crate) const fn value(name: &'static str, of: &'static str, help: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Value(of), help, supported: true }
    }

    /// A switch of Docker's that does not work here.
    pub(crate) const fn no_switch(name: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Switch, help: "", supported: false }
    }

    /// A flag of Docker's with a value, that does not work here.
    pub(crate) const fn no_value(name: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Value("value"), help: "", supported: false }
    }

    /// The same flag with a one-letter form.
    pub(crate) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// How messages name it: `-m, --memory`.
    pub(crate) fn shown(&self) -> String {
        self.short.map_or_else(|| format!("--{}", self.name), |short| format!("-{short}, --{}", self.name))
    }
}

/// The Go template flag that several commands share.
pub(crate) const FORMAT: Flag = Flag::value(
    "format",
    "string",
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.",
)
.short('f');

/// The Go template flag of lists, which have a table, too.
pub(crate) const TABLE_FORMAT: Flag = Flag::value(
    "format",
    "string",
    "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.",
);

/// The key sequence that leaves a container running.
pub(crate) const DETACH_KEYS: Flag =
    Flag::value("detach-keys", "string", "Override the key sequence for detaching a container");
