//! What a Dockerfile says, as plain data. Variables are not yet replaced: what they stand for depends on images and arguments
//! that the parser does not know.

use serde::Serialize;

/// The lines that something stands on, counted from 1, the last one included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// A Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dockerfile {
    /// What takes away a character's meaning: `\`, or a backtick by `# escape=`.
    pub escape: char,
    /// `# syntax=`. It is not fetched: this program is the frontend.
    pub syntax: Option<String>,
    /// `# check=`.
    pub check: Check,
    /// `# check=` right above a statement, for that one alone; in the order of lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// The ARG statements before the first FROM.
    pub arguments: Vec<Statement>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What is allowed and probably not meant, in the order of lines. Those that `check` skips are not among them.
    pub warnings: Vec<Warning>,
}

/// `# check=skip=A,B;error=true`: which warnings are left out and whether one of the others fails the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Names of checks.
    pub skip: Vec<String>,
    /// `skip=all`.
    pub skip_all: bool,
    /// `error=true`.
    pub error: bool,
}

/// What `# check=` right above a statement says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// Where the statement begins.
    pub line: usize,
    /// `error` does not count here.
    pub check: Check,
}

/// FROM and what follows up to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Where FROM stands.
    pub lines: Lines,
    /// FROM in one line, its instruction in capitals.
    pub text: String,
    /// What it starts from: an image, an earlier stage or `scratch`.
    pub image: String,
    /// `AS`, in small letters.
    pub name: Option<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// All but FROM.
    pub statements: Vec<Statement>,
}

/// An instruction and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// Here-documents included.
    pub lines: Lines,
    /// The statement in one line, its instruction in capitals, continuations joined: `RUN apt-get update && apt-get install x`.
    /// Here-documents are left out but for their marks.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Instruction {
    /// ADD.
    Add(Copy),
    /// ARG: names, and values for those that nobody gives.
    Arg(Vec<(String, Option<String>)>),
    /// CMD.
    Cmd(Command),
    /// COPY.
    Copy(Copy),
    /// ENTRYPOINT.
    Entrypoint(Command),
    /// ENV, in order.
    Env(Vec<(String, String)>),
    /// EXPOSE.
    Expose(Vec<String>),
    /// HEALTHCHECK; none of its parts is checked beyond its form.
    Healthcheck(Healthcheck),
    /// LABEL, in order.
    Label(Vec<(String, String)>),
    /// MAINTAINER.
    Maintainer(String),
    /// ONBUILD: the statement, its instruction in capitals, here-documents included.
    OnBuild(String),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(String),
    /// USER.
    User(String),
    /// VOLUME.
    Volume(Vec<String>),
    /// WORKDIR.
    Workdir(String),
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// A JSON list: program and arguments.
    Exec(Vec<String>),
    /// Anything else: a line for the shell. Its escapes and quotes are the shell's.
    Shell(String),
}

/// COPY or ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Paths, patterns, and of ADD also URLs; in order.
    pub sources: Vec<String>,
    /// Here-documents: files that the Dockerfile holds itself. They come after `sources`.
    pub documents: Vec<HereDocument>,
    /// Where to.
    pub destination: String,
    /// `--from`: a stage, an image, or the number of a stage. COPY only.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`. COPY only.
    pub parents: bool,
    /// `--exclude`, any number.
    pub exclude: Vec<String>,
    /// `--checksum`. ADD only.
    pub checksum: Option<String>,
    /// `--keep-git-dir`. ADD only.
    pub keep_git_dir: bool,
    /// `--unpack`. ADD only; absent: local archives are unpacked and others are not.
    pub unpack: Option<bool>,
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// `--mount`, each as its fields in order: `type=cache,target=/x` is `[("type", "cache"), ("target", "/x")]`, a field without
    /// `=` has an empty value, and fields are read as CSV, so that quotes protect commas. Names are in small letters.
    pub mounts: Vec<Vec<(String, String)>>,
    /// `--network`.
    pub network: Option<String>,
    /// `--security`.
    pub security: Option<String>,
    /// `--device`.
    pub devices: Vec<String>,
    /// The command. Of `RUN <<EOF` without anything else it is empty, and the only document is the script.
    pub command: Command,
    /// Here-documents in order; their marks are still in a shell form's line.
    pub documents: Vec<HereDocument>,
}

/// `<<EOF` … `EOF`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HereDocument {
    /// The word that ends it.
    pub name: String,
    /// What is between, with its line ends. `<<-` has taken the tabs off the beginning of its lines.
    pub content: String,
    /// Whether variables are replaced: the word was not quoted.
    pub expand: bool,
    /// Whether it was written with `<<-`.
    pub chomp: bool,
}

/// HEALTHCHECK.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Healthcheck {
    /// The command; none for `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// `--interval`, as written. All five: durations as Go has them, and a number.
    pub interval: Option<String>,
    /// `--timeout`.
    pub timeout: Option<String>,
    /// `--start-period`.
    pub start_period: Option<String>,
    /// `--start-interval`.
    pub start_interval: Option<String>,
    /// `--retries`.
    pub retries: Option<String>,
}

/// Something allowed that is probably not meant; the names are those of BuildKit's build checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// `StageNameCasing`, ….
    pub check: &'static str,
    /// Where.
    pub lines: Lines,
    /// What is wrong here, in BuildKit's words.
    pub message: String,
    /// What the check is for, in one sentence.
    pub about: &'static str,
}
