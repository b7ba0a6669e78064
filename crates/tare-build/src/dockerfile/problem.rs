//! What can be wrong with a Dockerfile, in BuildKit's words: scripts look for them.

use super::syntax::Lines;

/// A Dockerfile that cannot be taken: what is wrong, and where.
///
/// The text begins with `dockerfile parse error on line N:` where a statement is to blame, as Docker's does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The statement, here-documents included; one line of the text where no statement is to blame.
    pub lines: Lines,
    /// What is wrong.
    pub problem: Problem,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.problem.is_of_whole() {
            write!(f, "dockerfile parse error on line {}: ", self.lines.first)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ParseError {}

/// What is wrong. Texts that come from the Dockerfile are as written, and cut to 200 characters where they are shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing at all.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// Nothing but comments.
    #[error("file with no instructions")]
    NoInstructions,
    /// Nothing but ARG.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// An instruction other than ARG before the first FROM.
    #[error("no build stage in current context")]
    NoStage,
    /// More text than is read.
    #[error("the Dockerfile is larger than the {} MiB that are read", .limit >> 20)]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// More statements than are read.
    #[error("the Dockerfile has more than {limit} statements")]
    TooMany {
        /// How many are allowed.
        limit: usize,
    },
    /// A line that is too long.
    #[error("dockerfile line greater than max allowed size of {limit}")]
    LineTooLong {
        /// In bytes.
        limit: usize,
    },
    /// A NUL character, which no argument, path or variable can hold.
    #[error("the text has a NUL character")]
    Nul,
    /// No instruction of any Dockerfile.
    #[error("unknown instruction: {}{}", shortened(.name), did_you_mean(.meant))]
    Unknown {
        /// As written.
        name: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// An instruction of Dockerfiles that is not allowed among statements that stand by themselves.
    #[error("{instruction} isn't allowed here")]
    Misplaced {
        /// In capitals.
        instruction: &'static str,
    },

    /// A parser directive for the second time.
    #[error("only one {name} parser directive can be used")]
    DirectiveTwice {
        /// In small letters.
        name: &'static str,
    },
    /// `# escape=` with something else than a backslash or a backtick.
    #[error("invalid escape token '{}' does not match ` or \\", shortened(.value))]
    Escape {
        /// The value.
        value: String,
    },
    /// `# check=` with an option that there is not.
    #[error("failed to parse check options: invalid check option {:?}", shortened(.option))]
    CheckOption {
        /// As written.
        option: String,
    },

    /// A here-document without its end.
    #[error("unterminated heredoc")]
    HereDocumentOpen {
        /// The word that should end it.
        name: String,
    },
    /// A here-document where the destination should be.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HereDocumentDestination {
        /// In capitals.
        instruction: &'static str,
    },
    /// A here-document whose word stands apart from `<<` or has blanks, which COPY and ADD would take for files.
    #[error("{instruction} cannot accept a heredoc with blanks before or within its word")]
    HereDocumentWord {
        /// In capitals.
        instruction: &'static str,
    },

    /// A JSON list with something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonStrings,
    /// Anything but a JSON list.
    #[error("{instruction} requires the arguments to be in JSON form")]
    JsonForm {
        /// In capitals.
        instruction: &'static str,
    },
    /// `RUN []`.
    #[error("{instruction} requires at least one element in its JSON array")]
    JsonEmpty {
        /// In capitals.
        instruction: &'static str,
    },

    /// Nothing after the instruction.
    #[error("{instruction} requires at least one argument")]
    AtLeastOne {
        /// In capitals.
        instruction: &'static str,
    },
    /// Not the one argument.
    #[error("{instruction} requires exactly one argument")]
    ExactlyOne {
        /// In capitals.
        instruction: &'static str,
    },
    /// COPY or ADD without sources.
    #[error(
        "{instruction} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination {
        /// In capitals.
        instruction: &'static str,
    },
    /// FROM with two words or more than three.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// `AS` with a name that stages cannot have.
    #[error("invalid name for build stage: {:?}, name can't start with a number or contain symbols", shortened(.name))]
    StageName {
        /// As written.
        name: String,
    },
    /// `ENV name`.
    #[error("{instruction} must have two arguments")]
    TwoArguments {
        /// In capitals.
        instruction: &'static str,
    },
    /// A word without `=` among others that have it.
    #[error("Syntax error - can't find = in {:?}. Must be of the form: name=value", shortened(.word))]
    NoEquals {
        /// As written.
        word: String,
    },
    /// `=value`.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// In capitals.
        instruction: &'static str,
    },
    /// An empty path.
    #[error("VOLUME specified can not be an empty string")]
    BlankVolume,

    /// `HEALTHCHECK NONE something`.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// `HEALTHCHECK CMD`.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// Neither CMD nor NONE.
    #[error("Unknown type {:?} in HEALTHCHECK (try CMD)", shortened(.kind))]
    HealthcheckType {
        /// In capitals.
        kind: String,
    },
    /// A span that is none, in the words of Go's `time.ParseDuration`.
    #[error("time: {what} {:?}", shortened(.text))]
    Duration {
        /// `invalid duration`, `missing unit in duration`, `unknown unit "x" in duration`.
        what: String,
        /// As written.
        text: String,
    },
    /// A span of less than a millisecond.
    #[error("Interval {flag:?} cannot be less than 1ms")]
    DurationTooShort {
        /// Without dashes.
        flag: &'static str,
    },
    /// `--retries` that is no number from 0 to 2147483647.
    #[error("--retries is no number from 0 to 2147483647: {:?}", shortened(.value))]
    Retries {
        /// As written.
        value: String,
    },

    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnBuildChained,
    /// `ONBUILD FROM`, `ONBUILD MAINTAINER`.
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    OnBuildTrigger {
        /// In capitals.
        instruction: &'static str,
    },

    /// A flag that the instruction does not have.
    #[error("unknown flag: {}{}", shortened(.flag), did_you_mean(.meant))]
    UnknownFlag {
        /// With its dashes, without value.
        flag: String,
        /// What was probably meant, without dashes.
        meant: Option<String>,
    },
    /// A flag for the second time.
    #[error("duplicate flag specified: {flag}")]
    DuplicateFlag {
        /// With its dashes.
        flag: String,
    },
    /// A flag without its value.
    #[error("missing a value on flag: {flag}")]
    FlagValue {
        /// With its dashes.
        flag: String,
    },
    /// A flag that is on or off, with something else.
    #[error("expecting boolean value for flag {flag}, not: {}", shortened(.value))]
    FlagBoolean {
        /// With its dashes.
        flag: String,
        /// As written.
        value: String,
    },
    /// Fields of `--mount` or `--device` that are not CSV.
    #[error("failed to parse csv {what}: {problem}")]
    Csv {
        /// `mounts` or `devices`.
        what: &'static str,
        /// In the words of Go's `encoding/csv`.
        problem: String,
    },
    /// A field of `--mount` or `--device` that needs a value.
    #[error("invalid field '{}' must be a key=value pair", shortened(.field))]
    FieldValue {
        /// As written.
        field: String,
    },
    /// A field of `--mount` or `--device` that there is not.
    #[error("unexpected key '{}' in '{}'{}", shortened(.key), shortened(.field), did_you_mean(.meant))]
    FieldKey {
        /// In small letters.
        key: String,
        /// As written.
        field: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A field of `--mount` or `--device` that is on or off, with something else.
    #[error("invalid value for {key}: {}", shortened(.value))]
    FieldBoolean {
        /// In small letters.
        key: String,
        /// As written.
        value: String,
    },
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    MountFrom,
    /// `RUN --network` with something else than `default`, `none` and `host`.
    #[error("invalid network mode {:?}", shortened(.value))]
    Network {
        /// As written.
        value: String,
    },
    /// `RUN --security` with something else than `sandbox` and `insecure`.
    #[error("security {:?} is not valid", shortened(.value))]
    Security {
        /// As written.
        value: String,
    },

    /// A word whose variables and quotes cannot be replaced.
    #[error("failed to process {:?}: {cause}", shortened(.word))]
    Word {
        /// As written.
        word: String,
        /// What is wrong with it.
        cause: WordProblem,
    },

    /// Too few arguments, too many, or of the wrong form.
    #[error("{instruction} {expected}")]
    Arguments {
        /// In capitals.
        instruction: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// Something that a step may only do when the person allows it.
    #[error("{entitlement} is not allowed")]
    NotAllowed {
        /// `network.host` or `security.insecure`.
        entitlement: &'static str,
    },
    /// A warning that `# check=error=true` makes an error of.
    #[error("lint violation found for rules: {check}: {message}")]
    Checked {
        /// The check's name.
        check: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A value that its instruction does not take.
    #[error("invalid {what} {:?}", shortened(.value))]
    Value {
        /// Of what.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// Something that Dockerfiles have and this builder has not.
    #[error("{feature} is not supported by this builder")]
    Unsupported {
        /// Its name.
        feature: String,
    },
}

impl Problem {
    /// Whether all of the text is to blame and not a statement of it.
    fn is_of_whole(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::NoInstructions
                | Self::NoStages
                | Self::NoStage
                | Self::TooLarge { .. }
                | Self::TooMany { .. }
        )
    }
}

/// What is wrong with a word's quotes and variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordProblem {
    /// A quote without its other half.
    #[error("unexpected end of statement while looking for matching {what}")]
    Quote {
        /// `single-quote` or `double-quote`.
        what: &'static str,
    },
    /// `${` without its end.
    #[error("syntax error: missing '}}'")]
    Brace,
    /// `${name/` without the second `/`.
    #[error("syntax error: missing '/' in ${{}}")]
    Slash,
    /// `${}`, `${:…}`, `${{…}`.
    #[error("syntax error: bad substitution")]
    Substitution,
    /// A modifier that there is not.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// Up to two characters.
        modifier: String,
    },
    /// `${name?}` or `${name:?}` of a variable that has no value.
    #[error("{name}: {}", shortened(.message))]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it, or what it must not be.
        message: String,
    },
    /// A pattern with a backslash before something that needs none.
    #[error("invalid pattern ({}) in substitution: invalid escape '\\{escape}'", shortened(.pattern))]
    Escape {
        /// All of it.
        pattern: String,
        /// What is behind the backslash; U+FFFD where nothing is.
        escape: char,
    },
    /// A pattern that is too long.
    #[error("a pattern has more than {limit} characters")]
    PatternTooLong {
        /// How many are allowed.
        limit: usize,
    },
    /// Too many substitutions within each other.
    #[error("more than {limit} substitutions within each other")]
    TooDeep {
        /// How many are allowed.
        limit: usize,
    },
    /// A result that is too large, or takes too long to come to.
    #[error("its variables come to more than {} MiB", .limit >> 20)]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

fn did_you_mean(word: &Option<String>) -> String {
    word.as_ref().map_or_else(String::new, |word| format!(" (did you mean {word}?)"))
}

/// A text from a Dockerfile as a message shows it: at most 200 characters.
pub(super) fn shortened(text: &str) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(200) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}
