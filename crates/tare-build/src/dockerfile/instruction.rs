//! Statements to instructions.

use super::documents::{Mark, mark};
use super::duration::duration;
use super::flags::{self, Flags, Kind};
use super::nearest::nearest;
use super::problem::Problem;
use super::syntax::{Command, Copy, Healthcheck, HereDocument, Instruction, Run};
use super::words::{fields, json_list, quoted_words, split_first};
use std::collections::BTreeSet;

/// The names of all instructions.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A statement, taken apart.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// As written.
    pub(super) written: &'a str,
    /// In capitals; none if there is no such instruction.
    pub(super) name: Option<&'static str>,
    /// What follows the name, flags included.
    pub(super) rest: &'a str,
    pub(super) flags: Vec<String>,
    pub(super) arguments: &'a str,
}

impl<'a> Head<'a> {
    /// `text` has no white space at its ends.
    pub(super) fn new(text: &'a str, escape: char) -> Self {
        let (written, rest) = split_first(text);
        let rest = rest.unwrap_or_default();
        let name = NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(written));
        let (flags, arguments) = flags::split(rest, escape);
        Self { written, name, rest, flags, arguments }
    }

    /// The statement in one line, its instruction in capitals.
    pub(super) fn text(&self) -> String {
        match self.name {
            Some(name) if self.rest.is_empty() => name.to_owned(),
            Some(name) => format!("{name} {}", self.rest),
            None => format!("{} {}", self.written, self.rest),
        }
    }

    /// Whether `<<` begins a here-document.
    pub(super) fn takes_documents(&self, escape: char) -> bool {
        match self.name {
            Some("ADD" | "COPY" | "RUN") => !matches!(json_list(self.arguments), Ok(Some(_)) | Err(_)),
            // It is not nested any deeper.
            Some("ONBUILD") => {
                let inner = Head::new(self.arguments, escape);
                inner.name != Some("ONBUILD") && inner.takes_documents(escape)
            }
            _ => false,
        }
    }

    fn unknown(&self) -> Problem {
        let name = self.written.to_ascii_uppercase();
        let meant = nearest(&name, NAMES.into_iter()).map(|name| {
            // In the case that the person prefers.
            let lower = self.written.bytes().all(|byte| !byte.is_ascii_uppercase());
            if lower { name.to_ascii_lowercase() } else { name.to_owned() }
        });
        Problem::Unknown { name: self.written.to_owned(), meant }
    }
}

/// FROM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct From {
    pub(super) image: String,
    /// `AS` and the name, both as written.
    pub(super) name: Option<(String, String)>,
    pub(super) platform: Option<String>,
}

/// What a statement is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    From(From),
    Other {
        instruction: Instruction,
        /// `ENV name value`, without `=`.
        is_legacy: bool,
    },
}

/// Makes a statement's instruction.
pub(super) fn parse(head: &Head<'_>, documents: Vec<HereDocument>, escape: char) -> Result<Parsed, Problem> {
    let Some(name) = head.name else { return Err(head.unknown()) };
    let arguments = head.arguments;
    let mut is_legacy = false;
    let known: &[(&'static str, Kind)] = match name {
        "ADD" => &ADD_FLAGS,
        "COPY" => &COPY_FLAGS,
        "RUN" => &RUN_FLAGS,
        "FROM" => &[("platform", Kind::Text)],
        "HEALTHCHECK" => &HEALTHCHECK_FLAGS,
        _ => &[],
    };
    let flags = Flags::read(&head.flags, known)?;
    let instruction = match name {
        "ADD" => Instruction::Add(copy(name, arguments, &flags, documents)?),
        "COPY" => Instruction::Copy(copy(name, arguments, &flags, documents)?),
        "ARG" => Instruction::Arg(arg(arguments, escape)?),
        "CMD" => Instruction::Cmd(command(arguments)?),
        "ENTRYPOINT" => Instruction::Entrypoint(command(arguments)?),
        "ENV" | "LABEL" => {
            let (pairs, legacy) = pairs(name, arguments, escape)?;
            is_legacy = legacy;
            if name == "ENV" { Instruction::Env(pairs) } else { Instruction::Label(pairs) }
        }
        "EXPOSE" => {
            let mut ports: Vec<String> = fields(arguments).map(str::to_owned).collect();
            // In the order in which BuildKit's history has them.
            ports.sort();
            Instruction::Expose(at_least_one(name, ports)?)
        }
        "FROM" => return from(arguments, &flags).map(Parsed::From),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(arguments, &flags)?),
        "MAINTAINER" => Instruction::Maintainer(exactly_one(name, arguments)?),
        "ONBUILD" => Instruction::OnBuild(trigger(arguments, documents, escape)?),
        "RUN" => Instruction::Run(run(arguments, &flags, documents)?),
        "SHELL" => match json_list(arguments)? {
            _ if arguments.is_empty() => return Err(Problem::AtLeastOne { instruction: name }),
            Some(words) => Instruction::Shell(at_least_one(name, words)?),
            None => return Err(Problem::JsonForm { instruction: name }),
        },
        "STOPSIGNAL" => Instruction::StopSignal(exactly_one(name, arguments)?),
        "USER" => Instruction::User(exactly_one(name, arguments)?),
        "VOLUME" => Instruction::Volume(volumes(arguments)?),
        "WORKDIR" => Instruction::Workdir(exactly_one(name, arguments)?),
        _ => return Err(head.unknown()),
    };
    Ok(Parsed::Other { instruction, is_legacy })
}

fn exactly_one(instruction: &'static str, arguments: &str) -> Result<String, Problem> {
    if arguments.is_empty() { Err(Problem::ExactlyOne { instruction }) } else { Ok(arguments.to_owned()) }
}

fn at_least_one(instruction: &'static str, words: Vec<String>) -> Result<Vec<String>, Problem> {
    if words.is_empty() { Err(Problem::AtLeastOne { instruction }) } else { Ok(words) }
}

fn command(arguments: &str) -> Result<Command, Problem> {
    Ok(match json_list(arguments)? {
        Some(words) => Command::Exec(words),
        None => Command::Shell(arguments.to_owned()),
    })
}

fn from(arguments: &str, flags: &Flags) -> Result<From, Problem> {
    let mut words = fields(arguments);
    let (image, keyword, name, more) = (words.next(), words.next(), words.next(), words.next());
    let name = match (keyword, name, more) {
        (None, ..) => None,
        (Some(keyword), Some(name), None) if keyword.eq_ignore_ascii_case("as") => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || !name.bytes().all(is_part) {
                return Err(Problem::StageName { name: name.to_owned() });
            }
            Some((keyword.to_owned(), name.to_owned()))
        }
        _ => return Err(Problem::FromArguments),
    };
    let image = image.ok_or(Problem::FromArguments)?.to_owned();
    Ok(From { image, name, platform: flags.text("platform") })
}

/// `name=value …`, or the old form `name the whole rest`; which of the two it was.
fn pairs(instruction: &'static str, arguments: &str, escape: char) -> Result<(Vec<(String, String)>, bool), Problem> {
    let words = quoted_words(arguments, escape);
    let Some(first) = words.first() else { return Err(Problem::AtLeastOne { instruction }) };
    if !first.contains('=') {
        let (name, value) = split_first(arguments);
        let value = value.ok_or(Problem::TwoArguments { instruction })?;
        return Ok((vec![(name.to_owned(), value.to_owned())], true));
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        match word.split_once('=') {
            Some(("", _)) => return Err(Problem::BlankName { instruction }),
            Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
            None => return Err(Problem::NoEquals { word: word.to_owned() }),
        }
    }
    Ok((pairs, false))
}

fn arg(arguments: &str, escape: char) -> Result<Vec<(String, Option<String>)>, Problem> {
    let instruction = "ARG";
    let mut found = Vec::new();
    for word in quoted_words(arguments, escape) {
        found.push(match word.split_once('=') {
            Some(("", _)) => return Err(Problem::BlankName { instruction }),
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.to_owned(), None),
        });
    }
    if found.is_empty() { Err(Problem::AtLeastOne { instruction }) } else { Ok(found) }
}

fn volumes(arguments: &str) -> Result<Vec<String>, Problem> {
    let paths = match json_list(arguments)? {
        Some(paths) => paths.iter().map(|path| path.trim().to_owned()).collect(),
        None => fields(arguments).map(str::to_owned).collect(),
    };
    let paths = at_least_one("VOLUME", paths)?;
    if paths.iter().any(String::is_empty) { Err(Problem::BlankVolume) } else { Ok(paths) }
}

const ADD_FLAGS: [(&str, Kind); 7] = [
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Boolean),
    ("keep-git-dir", Kind::Boolean),
    ("checksum", Kind::Text),
    ("unpack", Kind::Boolean),
    ("exclude", Kind::Texts),
];

const COPY_FLAGS: [(&str, Kind); 6] = [
    ("chown", Kind::Text),
    ("from", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Boolean),
    ("exclude", Kind::Texts),
    ("parents", Kind::Boolean),
];

fn copy(
    instruction: &'static str,
    arguments: &str,
    flags: &Flags,
    mut documents: Vec<HereDocument>,
) -> Result<Copy, Problem> {
    let list = json_list(arguments)?;
    let is_json = list.is_some();
    let mut words = list.unwrap_or_else(|| fields(arguments).map(str::to_owned).collect());
    let destination = words.pop().filter(|_| !words.is_empty()).ok_or(Problem::NoDestination { instruction })?;
    let mark_of = |word: &str| -> Option<Mark> { mark(word).ok().flatten().filter(|_| !is_json) };
    if mark_of(&destination).is_some() {
        return Err(Problem::HereDocumentDestination { instruction });
    }
    // Words are split at blanks, marks are found as a shell finds them: `<< EOF` and `<<'a b'` come out differently.
    let (marks, sources): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| mark_of(word).is_some());
    if marks.len() != documents.len() {
        return Err(Problem::HereDocumentWord { instruction });
    }
    // Two of one name are one file; the later one counts.
    let mut names = BTreeSet::new();
    documents.reverse();
    documents.retain(|document| names.insert(document.name.clone()));
    documents.reverse();
    Ok(Copy {
        sources,
        documents,
        destination,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.boolean("link").unwrap_or_default(),
        parents: flags.boolean("parents").unwrap_or_default(),
        exclude: flags.texts("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.boolean("keep-git-dir").unwrap_or_default(),
        unpack: flags.boolean("unpack"),
    })
}

const RUN_FLAGS: [(&str, Kind); 4] =
    [("mount", Kind::Texts), ("network", Kind::Text), ("security", Kind::Text), ("device", Kind::Texts)];

fn run(arguments: &str, flags: &Flags, documents: Vec<HereDocument>) -> Result<Run, Problem> {
    let mounts = flags.texts("mount").iter().map(|text| flags::mount(text)).collect::<Result<_, _>>()?;
    let network = flags.value("network").map(str::to_owned);
    if let Some(value) = network.clone().filter(|value| !matches!(value.as_str(), "default" | "none" | "host")) {
        return Err(Problem::Network { value });
    }
    let security = flags.value("security").map(str::to_owned);
    if let Some(value) = security.clone().filter(|value| !matches!(value.as_str(), "sandbox" | "insecure")) {
        return Err(Problem::Security { value });
    }
    let devices = flags.texts("device");
    devices.iter().try_for_each(|device| flags::device(device))?;
    let mut command = command(arguments)?;
    if command == Command::Exec(Vec::new()) {
        return Err(Problem::JsonEmpty { instruction: "RUN" });
    }
    if documents.len() == 1 && mark(arguments).is_ok_and(|mark| mark.is_some()) {
        command = Command::Shell(String::new());
    }
    Ok(Run { mounts, network, security, devices, command, documents })
}

const HEALTHCHECK_FLAGS: [(&str, Kind); 5] = [
    ("interval", Kind::Text),
    ("timeout", Kind::Text),
    ("start-period", Kind::Text),
    ("start-interval", Kind::Text),
    ("retries", Kind::Text),
];

/// A millisecond, in nanoseconds: what a container engine waits at least.
const SHORTEST: i64 = 1_000_000;

fn healthcheck(arguments: &str, flags: &Flags) -> Result<Healthcheck, Problem> {
    if arguments.is_empty() {
        return Err(Problem::AtLeastOne { instruction: "HEALTHCHECK" });
    }
    let (kind, rest) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    let rest = rest.trim_start();
    let command = match kind.to_ascii_uppercase() {
        kind if kind == "NONE" && rest.is_empty() => None,
        kind if kind == "NONE" => return Err(Problem::HealthcheckNone),
        kind if kind == "CMD" => match command(rest)? {
            Command::Exec(words) if words.is_empty() => return Err(Problem::HealthcheckCommand),
            Command::Shell(line) if line.is_empty() => return Err(Problem::HealthcheckCommand),
            command => Some(command),
        },
        kind => return Err(Problem::HealthcheckType { kind }),
    };
    let span = |flag: &'static str| {
        let text = flags.text(flag);
        if let Some(text) = &text
            && !matches!(duration(text)?, 0 | SHORTEST..)
        {
            return Err(Problem::DurationTooShort { flag });
        }
        Ok(text)
    };
    let retries = flags.text("retries");
    if let Some(value) = retries.clone().filter(|value| !value.parse::<i32>().is_ok_and(|number| number >= 0)) {
        return Err(Problem::Retries { value });
    }
    Ok(Healthcheck {
        command,
        interval: span("interval")?,
        timeout: span("timeout")?,
        start_period: span("start-period")?,
        start_interval: span("start-interval")?,
        retries,
    })
}

/// The statement of ONBUILD. It is looked at as if it were to be carried out here, so that a mistake shows before others build
/// on the image.
fn trigger(arguments: &str, documents: Vec<HereDocument>, escape: char) -> Result<String, Problem> {
    if arguments.is_empty() {
        return Err(Problem::AtLeastOne { instruction: "ONBUILD" });
    }
    let head = Head::new(arguments, escape);
    match head.name {
        Some("ONBUILD") => return Err(Problem::OnBuildChained),
        Some(instruction @ ("FROM" | "MAINTAINER")) => return Err(Problem::OnBuildTrigger { instruction }),
        _ => {}
    }
    let mut text = head.text();
    for document in &documents {
        text.push('\n');
        text.push_str(&document.content);
        text.push_str(&document.name);
    }
    parse(&head, documents, escape)?;
    Ok(text)
}
