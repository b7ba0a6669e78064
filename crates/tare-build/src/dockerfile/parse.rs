//! Statements to instructions.

use super::lex::{Line, lex};
use super::words;

/// An instruction and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The line it begins on, counted from 1.
    pub line: usize,
    /// The statement in one line, its instruction in capitals: what an image's history shows.
    pub text: String,
    /// What it says. Variables are not yet replaced.
    pub instruction: Instruction,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// The image to start from.
    From {
        /// Its name.
        image: String,
    },
    /// Files of the context to put into the image.
    Copy {
        /// `--chown`.
        owner: Option<String>,
        /// `--chmod`.
        mode: Option<String>,
        /// Paths in the context.
        sources: Vec<String>,
        /// Path in the image.
        destination: String,
    },
    /// Environment variables, in order.
    Env(Vec<(String, String)>),
    /// Labels, in order.
    Label(Vec<(String, String)>),
    /// Ports.
    Expose(Vec<String>),
    /// The default command.
    Cmd(Command),
    /// The program.
    Entrypoint(Command),
    /// The folder to work in.
    Workdir(String),
    /// The user to run as.
    User(String),
    /// The signal that ends the program.
    StopSignal(String),
    /// Folders that want a volume.
    Volume(Vec<String>),
    /// A statement for builds that start from the image.
    OnBuild(String),
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A JSON list: program and arguments.
    Exec(Vec<String>),
    /// Anything else: a line for the shell.
    Shell(String),
}

/// What is wrong with a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing but comments.
    #[error("the Dockerfile (Dockerfile) cannot be empty")]
    Empty,
    /// The first instruction is not FROM.
    #[error("no build stage in current context: the first instruction is FROM")]
    NoStage,
    /// No instruction of any Dockerfile.
    #[error("unknown instruction: {name}")]
    Unknown {
        /// As written.
        name: String,
    },
    /// Something that Dockerfiles have and this builder does not yet.
    #[error("{feature} is not supported by this builder yet")]
    Unsupported {
        /// Its name.
        feature: String,
    },
    /// Too few arguments, too many, or of the wrong form.
    #[error("{instruction} {expected}")]
    Arguments {
        /// The instruction.
        instruction: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// `# escape=` with something else than a backslash or a backtick.
    #[error("invalid escape token {value:?}: expected \\ or `")]
    Escape {
        /// The value.
        value: String,
    },
    /// A quote or brace without its end.
    #[error("unexpected end of statement while looking for matching {what}")]
    Unclosed {
        /// Which.
        what: &'static str,
    },
    /// A modifier of a variable that is not known.
    #[error("unsupported variable substitution {text}")]
    Substitution {
        /// The substitution.
        text: String,
    },
    /// A value that its instruction does not take.
    #[error("invalid {what} {value:?}")]
    Value {
        /// Of what.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// All instructions that Dockerfiles know, and this parser does not take.
const KNOWN: [&str; 6] = ["ADD", "ARG", "HEALTHCHECK", "MAINTAINER", "RUN", "SHELL"];

/// Parses a Dockerfile; returns its statements and its escape character.
///
/// # Errors
/// The line and what is wrong there.
pub fn parse(text: &str) -> Result<(Vec<Statement>, char), (usize, Problem)> {
    let (lines, escape) = lex(text)?;
    if lines.is_empty() {
        return Err((1, Problem::Empty));
    }
    let mut statements = Vec::with_capacity(lines.len());
    for line in lines {
        let number = line.number;
        let statement = statement(&line, escape).map_err(|problem| (number, problem))?;
        match statement.instruction {
            Instruction::From { .. } if !statements.is_empty() => {
                let feature = "a second FROM (a build in several stages)".to_owned();
                return Err((number, Problem::Unsupported { feature }));
            }
            Instruction::From { .. } => {}
            _ if statements.is_empty() => return Err((number, Problem::NoStage)),
            _ => {}
        }
        statements.push(statement);
    }
    Ok((statements, escape))
}

/// Parses statements that stand by themselves, as `commit --change` and `import --change` take them.
pub(crate) fn parse_changes(text: &str) -> Result<Vec<Statement>, (usize, Problem)> {
    let (lines, escape) = lex(text)?;
    lines.iter().map(|line| statement(line, escape).map_err(|problem| (line.number, problem))).collect()
}

fn statement(line: &Line<'_>, escape: char) -> Result<Statement, Problem> {
    let name = line.name.to_ascii_uppercase();
    let arguments = line.arguments.as_str();
    let missing = |instruction| Problem::Arguments { instruction, expected: "requires at least one argument" };
    let instruction = match name.as_str() {
        "FROM" => from(arguments)?,
        "COPY" => copy(arguments, escape)?,
        "ENV" => Instruction::Env(pairs("ENV", arguments, escape)?),
        "LABEL" => Instruction::Label(pairs("LABEL", arguments, escape)?),
        "EXPOSE" if arguments.is_empty() => return Err(missing("EXPOSE")),
        "EXPOSE" => Instruction::Expose(words(arguments, escape).into_iter().map(str::to_owned).collect()),
        "CMD" => Instruction::Cmd(command(arguments)),
        "ENTRYPOINT" => Instruction::Entrypoint(command(arguments)),
        "WORKDIR" => Instruction::Workdir(single("WORKDIR", arguments)?),
        "USER" => Instruction::User(single("USER", arguments)?),
        "STOPSIGNAL" => Instruction::StopSignal(single("STOPSIGNAL", arguments)?),
        "VOLUME" => Instruction::Volume(volumes(arguments, escape)?),
        "ONBUILD" => Instruction::OnBuild(trigger(arguments)?),
        known if KNOWN.contains(&known) => return Err(Problem::Unsupported { feature: known.to_owned() }),
        _ => return Err(Problem::Unknown { name: line.name.chars().take(80).collect() }),
    };
    Ok(Statement { line: line.number, text: format!("{name} {arguments}").trim_end().to_owned(), instruction })
}

fn from(arguments: &str) -> Result<Instruction, Problem> {
    let mut words = arguments.split_whitespace();
    match (words.next(), words.next()) {
        (Some(flag), _) if flag.starts_with("--") => Err(flag_of("FROM", flag)),
        (Some(_), Some(word)) if word.eq_ignore_ascii_case("as") => {
            Err(Problem::Unsupported { feature: "FROM … AS (a build in several stages)".to_owned() })
        }
        (Some(image), None) => Ok(Instruction::From { image: image.to_owned() }),
        _ => Err(Problem::Arguments { instruction: "FROM", expected: "requires either one or three arguments" }),
    }
}

fn copy(arguments: &str, escape: char) -> Result<Instruction, Problem> {
    let (mut owner, mut mode) = (None, None);
    let mut rest = arguments;
    while rest.starts_with("--") {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (flag, after) = rest.split_at(end);
        rest = after.trim_start();
        match flag.split_once('=') {
            Some(("--chown", value)) => owner = Some(value.to_owned()),
            Some(("--chmod", value)) => mode = Some(value.to_owned()),
            _ => return Err(flag_of("COPY", flag)),
        }
    }
    let mut paths = match json_list(rest) {
        Some(paths) => paths,
        None => words(rest, escape).into_iter().map(str::to_owned).collect(),
    };
    if paths.iter().any(|path| path.starts_with("<<")) {
        return Err(Problem::Unsupported { feature: "a here-document in COPY".to_owned() });
    }
    if let Some(pattern) = paths.iter().rev().skip(1).find(|path| path.contains(['*', '?', '['])) {
        return Err(Problem::Unsupported { feature: format!("the pattern {pattern:?} in COPY") });
    }
    match paths.pop() {
        Some(destination) if !paths.is_empty() => Ok(Instruction::Copy { owner, mode, sources: paths, destination }),
        _ => Err(Problem::Arguments {
            instruction: "COPY",
            expected: "requires at least two arguments: sources and a destination",
        }),
    }
}

/// `name=value …`, or the old form `name the whole rest`.
fn pairs(instruction: &'static str, arguments: &str, escape: char) -> Result<Vec<(String, String)>, Problem> {
    let words = words(arguments, escape);
    match words.first() {
        None => return Err(Problem::Arguments { instruction, expected: "requires at least one argument" }),
        Some(first) if !first.contains('=') => {
            let value = arguments[first.len()..].trim_start();
            if value.is_empty() {
                return Err(Problem::Arguments { instruction, expected: "names must have values: name=value" });
            }
            return Ok(vec![((*first).to_owned(), value.to_owned())]);
        }
        Some(_) => {}
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Problem::Arguments { instruction, expected: "names cannot be blank" }),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                Err(Problem::Arguments { instruction, expected: "takes name=value only, with quotes around spaces" })
            }
        })
        .collect()
}

fn command(arguments: &str) -> Command {
    match json_list(arguments) {
        Some(words) => Command::Exec(words),
        None => Command::Shell(arguments.to_owned()),
    }
}

/// A JSON list of strings; what merely looks like one is a line for the shell, as Docker has it.
fn json_list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn volumes(arguments: &str, escape: char) -> Result<Vec<String>, Problem> {
    let words = || words(arguments, escape).into_iter().map(str::to_owned).collect();
    let paths: Vec<String> = json_list(arguments).unwrap_or_else(words);
    if paths.is_empty() {
        return Err(Problem::Arguments { instruction: "VOLUME", expected: "requires at least one argument" });
    }
    if paths.iter().any(String::is_empty) {
        return Err(Problem::Value { what: "volume", value: String::new() });
    }
    Ok(paths)
}

/// The statement of ONBUILD, its instruction in capitals. What it says is looked at when it is run.
fn trigger(arguments: &str) -> Result<String, Problem> {
    let arguments = single("ONBUILD", arguments)?;
    let (name, rest) = arguments.split_once(char::is_whitespace).unwrap_or((&arguments, ""));
    let name = name.to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" | "FROM" | "MAINTAINER" => Err(Problem::Arguments {
            instruction: "ONBUILD",
            expected: "takes any instruction but ONBUILD, FROM and MAINTAINER",
        }),
        _ => Ok(format!("{name} {}", rest.trim_start()).trim_end().to_owned()),
    }
}

fn single(instruction: &'static str, arguments: &str) -> Result<String, Problem> {
    if arguments.is_empty() {
        return Err(Problem::Arguments { instruction, expected: "requires exactly one argument" });
    }
    Ok(arguments.to_owned())
}

fn flag_of(instruction: &str, flag: &str) -> Problem {
    let name = flag.split('=').next().unwrap_or(flag);
    Problem::Unsupported { feature: format!("the flag {name} of {instruction}").chars().take(120).collect() }
}
