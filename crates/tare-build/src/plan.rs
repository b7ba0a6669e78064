//! What a build will do, as plain data: variables replaced, paths absolute, everything checked that needs neither
//! the context nor the store.

use crate::dockerfile::{Command, Instruction, Problem, Statement, expand, parse, words};
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use tare_spec::image::{Config, Empty};
use tare_spec::port::ExposedPort;

/// The search path of images that start from nothing, as BuildKit sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A build, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// One for each statement after FROM.
    pub steps: Vec<Step>,
    /// How containers of the image will run.
    pub config: Config,
}

/// What a statement does to the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where the statement begins, counted from 1.
    pub line: usize,
    /// The statement in one line.
    pub text: String,
    /// What it does to the files.
    pub action: Action,
}

/// What a step does to the image's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing: the configuration is all it changes.
    Nothing,
    /// Makes a directory, unless it is there.
    Directory {
        /// Absolute path.
        path: String,
    },
    /// Copies from the context.
    Copy {
        /// Paths relative to the context, without `..`; an empty one is all of it.
        sources: Vec<String>,
        /// Absolute path.
        destination: String,
        /// Whether the destination is a directory whatever the sources are.
        into: bool,
        /// User and group of what is copied.
        owner: (u32, u32),
        /// Mode of what is copied; none keeps the context's.
        mode: Option<u32>,
    },
}

/// Plans the build of a Dockerfile.
///
/// # Errors
/// [`Error::Dockerfile`].
pub fn plan(dockerfile: &str) -> Result<Plan> {
    let at = |(line, problem)| Error::Dockerfile { line, problem };
    let (statements, escape) = parse(dockerfile).map_err(at)?;
    let mut planner = Planner {
        escape,
        variables: BTreeMap::new(),
        config: Config { working_dir: "/".to_owned(), ..Config::default() },
    };
    planner.set("PATH", DEFAULT_PATH);
    let mut steps = Vec::new();
    for Statement { line, text, instruction } in statements {
        let is_from = matches!(instruction, Instruction::From { .. });
        let action = planner.step(instruction).map_err(|problem| at((line, problem)))?;
        if !is_from {
            steps.push(Step { line, text, action });
        }
    }
    Ok(Plan { steps, config: planner.config })
}

/// What the statements so far have come to.
pub(crate) struct Planner {
    pub(crate) escape: char,
    /// The environment of the image so far.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) config: Config,
}

impl Planner {
    pub(crate) fn step(&mut self, instruction: Instruction) -> std::result::Result<Action, Problem> {
        match instruction {
            Instruction::From { image } if image == "scratch" => {}
            Instruction::From { image } => {
                return Err(Problem::Unsupported { feature: format!("FROM {image} (anything but scratch)") });
            }
            Instruction::Env(pairs) => {
                // A statement's own variables count from the next statement on.
                let pairs = self.pairs(pairs)?;
                for (name, value) in pairs {
                    self.set(&name, &value);
                }
            }
            Instruction::Label(pairs) => self.config.labels.extend(self.pairs(pairs)?),
            Instruction::Expose(ports) => {
                for port in ports {
                    for word in words(&self.expand(&port)?, self.escape) {
                        let invalid = |_| Problem::Value { what: "port", value: word.to_owned() };
                        let ports = ExposedPort::parse(word).map_err(invalid)?;
                        self.config.exposed_ports.extend(ports.iter().map(|port| (port.to_string(), Empty {})));
                    }
                }
            }
            Instruction::Cmd(command) => self.config.cmd = self.arguments(command),
            Instruction::Entrypoint(command) => self.config.entrypoint = self.arguments(command),
            Instruction::Volume(paths) => {
                for path in paths {
                    self.config.volumes.insert(self.expand(&path)?, Empty {});
                }
            }
            Instruction::OnBuild(statement) => self.config.on_build.get_or_insert_default().push(statement),
            Instruction::User(user) => self.config.user = self.expand(&user)?,
            Instruction::StopSignal(signal) => {
                let signal = self.expand(&signal)?;
                if signal.is_empty() || !signal.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-')) {
                    return Err(Problem::Value { what: "signal", value: signal });
                }
                self.config.stop_signal = Some(signal);
            }
            Instruction::Workdir(path) => {
                let path = self.absolute(&self.expand(&path)?);
                self.config.working_dir.clone_from(&path);
                return Ok(Action::Directory { path });
            }
            Instruction::Copy { owner, mode, sources, destination } => {
                return self.copy(owner.as_deref(), mode.as_deref(), &sources, &destination);
            }
        }
        Ok(Action::Nothing)
    }

    fn copy(
        &self,
        owner: Option<&str>,
        mode: Option<&str>,
        sources: &[String],
        destination: &str,
    ) -> std::result::Result<Action, Problem> {
        let owner = match owner {
            None => (0, 0),
            Some(text) => parse_owner(&self.expand(text)?)?,
        };
        let mode = match mode {
            None => None,
            Some(text) => {
                let text = self.expand(text)?;
                let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
                Some(mode.ok_or(Problem::Value { what: "octal mode", value: text })?)
            }
        };
        let sources = sources.iter().map(|source| self.source(source)).collect::<std::result::Result<Vec<_>, _>>()?;
        let destination = self.expand(destination)?;
        let into = sources.len() > 1 || destination.ends_with('/') || matches!(destination.as_str(), "." | "..");
        Ok(Action::Copy { sources, destination: self.absolute(&destination), into, owner, mode })
    }

    /// A path within the context: absolute ones count from its root, `..` does not lead out of it, as in Docker.
    fn source(&self, source: &str) -> std::result::Result<String, Problem> {
        let source = self.expand(source)?;
        if source.contains("://") || source.starts_with("git@") {
            return Err(Problem::Value { what: "source: COPY takes files of the context only", value: source });
        }
        Ok(clean("/", &source)[1..].to_owned())
    }

    /// A program and its arguments; no words mean none.
    fn arguments(&self, command: Command) -> Option<Vec<String>> {
        match command {
            Command::Exec(words) => Some(words),
            Command::Shell(line) if line.is_empty() => None,
            Command::Shell(line) => {
                let shell = self.config.shell.clone();
                let shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
                Some(shell.into_iter().chain([line]).collect())
            }
        }
    }

    fn absolute(&self, path: &str) -> String {
        clean(&self.config.working_dir, path)
    }

    fn expand(&self, word: &str) -> std::result::Result<String, Problem> {
        let expanded = expand(word, self.escape, &self.variables)?;
        if expanded.contains('\0') {
            return Err(Problem::Value { what: "text with a NUL byte", value: expanded });
        }
        Ok(expanded)
    }

    fn pairs(&self, pairs: Vec<(String, String)>) -> std::result::Result<Vec<(String, String)>, Problem> {
        pairs.into_iter().map(|(name, value)| Ok((self.expand(&name)?, self.expand(&value)?))).collect()
    }

    /// Sets a variable in its old place, or behind the others.
    fn set(&mut self, name: &str, value: &str) {
        let line = format!("{name}={value}");
        let prefix = format!("{name}=");
        match self.config.env.iter_mut().find(|old| old.starts_with(&prefix)) {
            Some(old) => *old = line,
            None => self.config.env.push(line),
        }
        self.variables.insert(name.to_owned(), value.to_owned());
    }
}

/// `uid[:gid]`; the group is the user's number if there is none. Names would need an /etc/passwd.
fn parse_owner(text: &str) -> std::result::Result<(u32, u32), Problem> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let parse = |id: &str| match id.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(id),
        Err(_) if !id.is_empty() && !id.bytes().all(|b| b.is_ascii_digit()) => {
            Err(Problem::Unsupported { feature: format!("the name {id:?} in --chown (numbers are)") })
        }
        _ => Err(Problem::Value { what: "owner", value: text.to_owned() }),
    };
    Ok((parse(user)?, parse(group)?))
}

/// An absolute path without empty, `.` and `..` components, which are resolved by their text.
fn clean(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut components: Vec<&str> = Vec::new();
    for component in joined.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}
