//! What is allowed and probably not meant: the build checks of BuildKit, by its names and in its words
//! (<https://docs.docker.com/reference/build-checks/>).
//!
//! Here is what the text alone shows. What depends on variables, images or files is found by the planner, with the constructors below.

use super::directives::Checks;
use super::expand::{expand, expand_words};
use super::instruction::{From, Head, Parsed};
use super::lines::Comments;
use super::syntax::{Command, Dockerfile, Exception, Instruction, Lines, Warning};
use std::collections::{BTreeMap, BTreeSet};
use tare_spec::Platform;

/// A person reads no more of them, and a hostile text could have millions.
const WARNING_LIMIT: usize = 1000;

/// A check: its name, and what it is for.
#[derive(Clone, Copy, Debug)]
struct Rule(&'static str, &'static str);

impl Rule {
    fn at(self, lines: Lines, message: String) -> Warning {
        Warning { check: self.0, lines, message, about: self.1 }
    }
}

impl Dockerfile {
    /// Whether a check is made on a statement: neither `# check=` at the top nor a comment above the statement skips it.
    #[must_use]
    pub fn wants(&self, check: &str, lines: Lines) -> bool {
        let skips = |skipped: &super::syntax::Check| skipped.skip_all || skipped.skip.iter().any(|name| name == check);
        let exception = self.exceptions.binary_search_by_key(&lines.first, |exception| exception.line);
        !skips(&self.check) && !exception.is_ok_and(|index| skips(&self.exceptions[index].check))
    }
}

/// A variable that nobody defines, and what was probably meant.
#[must_use]
pub fn undefined_var(name: &str, lines: Lines, meant: Option<&str>) -> Warning {
    let meant = meant.map_or_else(String::new, |meant| format!(" (did you mean ${meant}?)"));
    Rule("UndefinedVar", "Variables should be defined before their use")
        .at(lines, format!("Usage of undefined variable '${name}'{meant}"))
}

/// A variable in FROM that no ARG before the first FROM declares, and what was probably meant.
#[must_use]
pub fn undefined_arg_in_from(name: &str, lines: Lines, meant: Option<&str>) -> Warning {
    let meant = meant.map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"));
    Rule("UndefinedArgInFrom", "FROM command must use declared ARGs")
        .at(lines, format!("FROM argument '{name}' is not declared{meant}"))
}

/// An image, as written, that is empty or wrong when no argument is given.
#[must_use]
pub fn invalid_default_arg_in_from(image: &str, lines: Lines) -> Warning {
    let about = "Default value for global ARG results in an empty or invalid base image name";
    Rule("InvalidDefaultArgInFrom", about)
        .at(lines, format!("Default value for ARG {image} results in empty or invalid base image name"))
}

/// `--platform=$TARGETPLATFORM`, as written.
#[must_use]
pub fn redundant_target_platform(platform: &str, lines: Lines) -> Warning {
    let about = "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    let message =
        format!("Setting platform to predefined {platform} in FROM is redundant as this is the default behavior");
    Rule("RedundantTargetPlatform", about).at(lines, message)
}

/// A source that `.dockerignore` leaves out. `instruction` is `Copy` or `Add`.
#[must_use]
pub fn copy_ignored_file(instruction: &str, source: &str, lines: Lines) -> Warning {
    Rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore")
        .at(lines, format!("Attempting to {instruction} file {source:?} that is excluded by .dockerignore"))
}

/// A base image for another platform than the one that is built for.
#[must_use]
pub fn invalid_base_image_platform(image: &str, expected: &Platform, actual: &Platform, lines: Lines) -> Warning {
    let (expected, actual) = (expected.to_string(), actual.to_string());
    let message =
        format!("Base image {image} was pulled with platform {actual:?}, expected {expected:?} for current build");
    Rule("InvalidBaseImagePlatform", "Base image platform does not match expected target platform").at(lines, message)
}

/// The first WORKDIR of a stage and those it starts from, when it is relative. Those without variables are found by the parser.
#[must_use]
pub fn workdir_relative_path(path: &str, lines: Lines) -> Warning {
    let about = "Relative workdir without an absolute workdir declared within the build can have unexpected results \
                 if the base image changes";
    Rule("WorkdirRelativePath", about)
        .at(lines, format!("Relative workdir {path:?} can have unexpected results if the base image changes"))
}

/// A port as EXPOSE has it, when its protocol has capitals. Those without variables are found by the parser.
#[must_use]
pub fn expose_proto_casing(port: &str, lines: Lines) -> Option<Warning> {
    let (_, protocol) = port.rsplit(':').next()?.split_once('/')?;
    let rule = Rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase");
    let message = || format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
    protocol.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| rule.at(lines, message()))
}

/// A port as EXPOSE has it, when it is one of the host's, too. Those without variables are found by the parser.
#[must_use]
pub fn expose_invalid_format(port: &str, lines: Lines) -> Option<Warning> {
    let about = "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error \
                 in a future release";
    let message = format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
    let (host, _) = port.rsplit_once(':')?;
    host.bytes().any(|byte| byte != b':').then(|| Rule("ExposeInvalidFormat", about).at(lines, message))
}

/// A platform that is always the same; `stage` is the stage's name, which may tell why. That without variables is found by the parser.
#[must_use]
pub fn from_platform_flag_const(platform: &str, stage: &str, lines: Lines) -> Option<Warning> {
    let parsed = Platform::parse(platform).ok()?;
    if stage.contains(&parsed.os) || stage.contains(&parsed.architecture) {
        return None;
    }
    let rule = Rule("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value");
    Some(rule.at(lines, format!("FROM --platform flag should not use constant value {platform:?}")))
}

/// A statement, as a check sees it.
pub(super) struct Subject<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) parsed: &'a Parsed,
    pub(super) comments: &'a Comments,
    pub(super) lines: Lines,
    pub(super) escape: char,
}

/// Looks at one statement after the other.
#[derive(Debug, Default)]
pub(super) struct Linter {
    warnings: Vec<Warning>,
    /// The statements from the first FROM on: where, as written, and whether its casing is of interest.
    instructions: Vec<(Lines, String, bool)>,
    exceptions: Vec<Exception>,
    stage: StageState,
    in_stage: bool,
    names: BTreeSet<String>,
    /// What later stages that start from a stage take over.
    bases: BTreeMap<String, StageState>,
    name: Option<String>,
    count: usize,
}

/// What is known of a stage so far.
#[derive(Clone, Debug, Default)]
struct StageState {
    has_shell: bool,
    has_workdir: bool,
    /// Where CMD, ENTRYPOINT and HEALTHCHECK stand.
    once: BTreeMap<&'static str, Lines>,
}

impl Linter {
    /// How many statements there were.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// An empty line between the parts of a statement that ends in this line.
    pub(super) fn gap(&mut self, checks: &Checks, line: usize) {
        let rule = Rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release");
        let warning = rule.at(Lines { first: line, last: line }, "Empty continuation line".to_owned());
        self.add(&[checks], warning);
    }

    pub(super) fn statement(&mut self, checks: &Checks, subject: &Subject<'_>) {
        self.count += 1;
        let lines = subject.lines;
        let own = subject.comments.checks.as_ref();
        if let Some(own) = own {
            self.exceptions.push(Exception { line: lines.first, check: own.check.clone() });
        }
        let checks: Vec<&Checks> = std::iter::once(checks).chain(own).collect();
        match subject.parsed {
            Parsed::From(from) => self.from(&checks, subject, from),
            Parsed::Other { instruction, is_legacy } => {
                self.instruction(&checks, subject, instruction);
                if *is_legacy {
                    let about = "Legacy key/value format with whitespace separator should not be used";
                    let name = subject.head.written;
                    let message =
                        format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
                    self.add(&checks, Rule("LegacyKeyValueFormat", about).at(lines, message));
                }
            }
        }
        if self.in_stage {
            let counts = !skips(&checks, CASING.0);
            self.instructions.push((lines, subject.head.written.to_owned(), counts));
        }
    }

    /// All that was found, in the order of lines, and the comments that apply to one statement only.
    pub(super) fn finish(mut self) -> (Vec<Warning>, Vec<Exception>) {
        let is = |written: &str, upper: bool| {
            written.bytes().all(|byte| if upper { !byte.is_ascii_lowercase() } else { !byte.is_ascii_uppercase() })
        };
        let count = |upper| self.instructions.iter().filter(|(_, written, _)| is(written, upper)).count();
        let upper = count(true) >= count(false);
        for (lines, written, counts) in std::mem::take(&mut self.instructions) {
            if counts && !is(&written, upper) {
                let casing = if upper { "uppercase" } else { "lowercase" };
                let message = format!("Command '{written}' should match the case of the command majority ({casing})");
                self.add(&[], CASING.at(lines, message));
            }
        }
        self.warnings.sort_by_key(|warning| warning.lines.first);
        (self.warnings, self.exceptions)
    }

    fn add(&mut self, checks: &[&Checks], warning: Warning) {
        if !skips(checks, warning.check) && self.warnings.len() < WARNING_LIMIT {
            self.warnings.push(warning);
        }
    }

    fn from(&mut self, checks: &[&Checks], subject: &Subject<'_>, from: &From) {
        let (lines, written) = (subject.lines, subject.head.written);
        if let Some(name) = self.name.take() {
            self.bases.insert(name, std::mem::take(&mut self.stage));
        }
        self.in_stage = true;
        let base = self.bases.get(&from.image).cloned().unwrap_or_default();
        self.stage = StageState { once: BTreeMap::new(), ..base };
        let name = from.name.as_ref().map(|(_, name)| name.to_ascii_lowercase());
        if let Some((keyword, name)) = &from.name {
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                let message = format!("Stage name '{name}' should be lowercase");
                self.add(checks, Rule("StageNameCasing", "Stage names should be lowercase").at(lines, message));
            }
            let differs =
                |is: fn(&u8) -> bool| !written.bytes().any(|byte| is(&byte)) && keyword.bytes().any(|byte| is(&byte));
            if differs(u8::is_ascii_uppercase) || differs(u8::is_ascii_lowercase) {
                let about = "The 'as' keyword should match the case of the 'from' keyword";
                let message = format!("'{keyword}' and '{written}' keywords' casing do not match");
                self.add(checks, Rule("FromAsCasing", about).at(lines, message));
            }
        }
        if let Some(name) = &name {
            if matches!(name.as_str(), "context" | "scratch") {
                let about = "Reserved words should not be used as stage names";
                let message = format!("Stage name should not use the same name as reserved stage {name:?}");
                self.add(checks, Rule("ReservedStageName", about).at(lines, message));
            }
            if !self.names.insert(name.clone()) {
                let message = format!("Duplicate stage name {name:?}, stage names should be unique");
                self.add(checks, Rule("DuplicateStageName", "Stage names should be unique").at(lines, message));
            }
            self.description(checks, subject, "FROM", &[name.as_str()]);
        }
        if let Some(platform) = constant(from.platform.as_deref(), subject.escape)
            && let Some(warning) = from_platform_flag_const(&platform, name.as_deref().unwrap_or_default(), lines)
        {
            self.add(checks, warning);
        }
        self.name = name;
    }

    fn instruction(&mut self, checks: &[&Checks], subject: &Subject<'_>, instruction: &Instruction) {
        let lines = subject.lines;
        match instruction {
            Instruction::Maintainer(_) => {
                let about = "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
                let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
                self.add(checks, Rule("MaintainerDeprecated", about).at(lines, message));
            }
            Instruction::Arg(arguments) => {
                let names: Vec<&str> = arguments.iter().map(|(name, _)| name.as_str()).collect();
                self.description(checks, subject, "ARG", &names);
                if self.in_stage {
                    names.iter().for_each(|name| self.secret(checks, lines, "ARG", name));
                }
            }
            Instruction::Env(pairs) => pairs.iter().for_each(|(name, _)| self.secret(checks, lines, "ENV", name)),
            Instruction::Shell(_) => self.stage.has_shell = true,
            Instruction::Cmd(command) => {
                self.once(checks, subject, "CMD");
                self.json(checks, subject, command);
            }
            Instruction::Entrypoint(command) => {
                self.once(checks, subject, "ENTRYPOINT");
                self.json(checks, subject, command);
            }
            Instruction::Healthcheck(_) => self.once(checks, subject, "HEALTHCHECK"),
            Instruction::Workdir(path) => {
                let first = !std::mem::replace(&mut self.stage.has_workdir, true);
                if let Some(path) = constant(Some(path), subject.escape).filter(|path| first && !path.starts_with('/'))
                {
                    self.add(checks, workdir_relative_path(&path, lines));
                }
            }
            Instruction::Expose(ports) => {
                for text in ports.iter().filter(|text| !text.contains('$')) {
                    // What cannot be expanded is an error later.
                    let Ok(expanded) = expand_words(text, subject.escape, &|_| None) else { continue };
                    for port in &expanded.words {
                        let found = [expose_proto_casing(port, lines), expose_invalid_format(port, lines)];
                        found.into_iter().flatten().for_each(|warning| self.add(checks, warning));
                    }
                }
            }
            _ => {}
        }
    }

    /// Of these only the last one of a stage counts; the earlier one is to blame.
    fn once(&mut self, checks: &[&Checks], subject: &Subject<'_>, name: &'static str) {
        if let Some(earlier) = self.stage.once.insert(name, subject.lines) {
            let about = "Multiple instructions of the same type should not be used in the same stage";
            let name = subject.head.written;
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            self.add(checks, Rule("MultipleInstructionsDisallowed", about).at(earlier, message));
        }
    }

    /// A shell in between does not pass signals on; who chose the shell knows.
    fn json(&mut self, checks: &[&Checks], subject: &Subject<'_>, command: &Command) {
        if matches!(command, Command::Shell(_)) && !self.stage.has_shell {
            let about =
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
            let name = subject.head.written;
            let message =
                format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals");
            self.add(checks, Rule("JSONArgsRecommended", about).at(subject.lines, message));
        }
    }

    fn secret(&mut self, checks: &[&Checks], lines: Lines, instruction: &str, name: &str) {
        if is_secret(name) {
            let about = "Sensitive data should not be used in the ARG or ENV commands";
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
            self.add(checks, Rule("SecretsUsedInArgOrEnv", about).at(lines, message));
        }
    }

    /// Off unless asked for.
    fn description(&mut self, checks: &[&Checks], subject: &Subject<'_>, instruction: &str, names: &[&str]) {
        let check = "InvalidDefinitionDescription";
        let asked = |checks: &&Checks| checks.experimental_all || checks.experimental.iter().any(|name| name == check);
        let Some(comment) = &subject.comments.last else { return };
        let first = comment.split(' ').next().unwrap_or_default();
        if names.contains(&first) || !checks.iter().any(asked) || self.warnings.len() == WARNING_LIMIT {
            return;
        }
        let about = "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If \
                     this is not intended to be a description comment, add an empty line or comment between the \
                     instruction and the comment.";
        let name = if let [name] = names { name } else { "<arg_key>" };
        let message = format!("Comment for {instruction} should follow the format: `# {name} <description>`");
        // What is asked for by name is not skipped with all the rest.
        self.warnings.push(Rule(check, about).at(subject.lines, message));
    }
}

const CASING: Rule = Rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
);

fn skips(checks: &[&Checks], name: &str) -> bool {
    checks.iter().any(|checks| checks.check.skip_all || checks.check.skip.iter().any(|skipped| skipped == name))
}

/// The word without its quotes, if it has no variables.
fn constant(word: Option<&str>, escape: char) -> Option<String> {
    let word = word.filter(|word| !word.contains('$'))?;
    expand(word, escape, &|_| None).ok().map(|expanded| expanded.text)
}

/// Whether a variable is probably a secret: one of its words says so, and none that it is harmless.
fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let has = |words: &[&str]| name.split('_').any(|part| words.iter().any(|word| word.eq_ignore_ascii_case(part)));
    has(&SECRET) && !has(&HARMLESS)
}
