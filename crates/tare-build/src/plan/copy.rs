//! COPY and ADD.

use super::history::{EntryText, entry};
use super::stage::Draft;
use super::{Action, Planner, Step, at, clean};
use crate::dockerfile::{Copy, Instruction, Lines, Problem, Statement, expand_document, expand_shown};
use crate::error::Result;
use crate::executor::GitSource;
use crate::files::{Destination, Mode, Wish};
use crate::progress::{StepId, StepTitle};
use crate::request::NamedContext;
use serde::Serialize;
use tare_spec::url::without_users;
use tare_spec::{Digest, Platform};

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The build's context.
    Context,
    /// What a step has made.
    Step(StepId),
    /// Nothing at all: a stage from scratch without files.
    Nothing,
    /// A context of `--build-context`, by its name.
    Named(String),
}

impl Origin {
    /// The step, if it is one.
    #[must_use]
    pub fn step(&self) -> Option<StepId> {
        match self {
            Self::Step(step) => Some(*step),
            Self::Context | Self::Nothing | Self::Named(_) => None,
        }
    }
}

/// Files to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyAction {
    /// Where from.
    pub from: Origin,
    /// Which.
    pub wish: Wish,
    /// Files that the Dockerfile holds itself: name and contents.
    pub documents: Vec<(String, String)>,
    /// What is fetched.
    pub remotes: Vec<RemoteFile>,
    /// Where to. Its owner is found out when the files below are there.
    pub destination: Destination,
    /// `user[:group]`.
    pub owner: Option<String>,
}

/// Something that ADD fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteFile {
    /// Where from.
    pub source: RemoteSource,
    /// How many of the other sources come before it: of two files with one name the later one stays.
    pub after: usize,
    /// Whether it is unpacked if it is an archive.
    pub unpack: bool,
    /// What it must be.
    pub checksum: Option<Digest>,
}

/// Where something is fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemoteSource {
    /// A file.
    Url(String),
    /// A repository.
    Git(GitSource),
}

/// The stages, by name or number, that an instruction takes files from, as far as they are named without variables.
pub(super) fn stages_named(instruction: &Instruction) -> Vec<String> {
    let named: Vec<&String> = match instruction {
        Instruction::Copy(copy) => copy.from.iter().collect(),
        Instruction::Run(run) => {
            let fields = run.mounts.iter().flatten();
            fields.filter(|(name, _)| name == "from").map(|(_, value)| value).collect()
        }
        _ => Vec::new(),
    };
    named.into_iter().filter(|name| !name.contains('$')).cloned().collect()
}

impl Planner<'_> {
    pub(super) fn copy(&mut self, draft: &mut Draft, statement: &Statement, copy: &Copy, is_add: bool) -> Result<()> {
        let lines = statement.lines;
        let problem = at(lines);
        let mut expand = |word: &String| self.scope(draft, lines).expand(word);
        let mut all = |words: &[String]| words.iter().map(&mut expand).collect::<std::result::Result<Vec<_>, _>>();
        let sources = all(&copy.sources).map_err(&problem)?;
        let exclude = all(&copy.exclude).map_err(&problem)?;
        let words = [Some(&copy.destination), copy.from.as_ref(), copy.chown.as_ref(), copy.chmod.as_ref()];
        let mut words = words.map(|word| word.map(&mut expand).transpose());
        let mut next = |index: usize| std::mem::replace(&mut words[index], Ok(None)).map_err(&problem);
        let destination = next(0)?.unwrap_or_default();
        let (from, owner, mode) = (next(1)?, next(2)?, next(3)?);
        let checksum = copy.checksum.as_ref().map(&mut expand).transpose().map_err(&problem)?;
        let from = match from {
            None => Origin::Context,
            Some(name) => self.origin(draft, lines, &name)?,
        };
        let (mut remote, mut local) = (Vec::new(), Vec::new());
        for source in &sources {
            if is_remote(source) { remote.push((source, local.len())) } else { local.push(source.clone()) }
        }
        if !is_add && let Some((url, _)) = remote.first() {
            return Err(problem(Problem::Value {
                what: "source: COPY takes files only, ADD fetches",
                value: without_users(url),
            }));
        }
        let remotes = remote
            .iter()
            .map(|(url, after)| remote_file(url, *after, copy, checksum.as_deref()))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(&problem)?;
        if checksum.is_some() && remotes.len() != 1 {
            let what = "--checksum: it needs exactly one source that is fetched,";
            return Err(problem(Problem::Value { what, value: without_users(&statement.text) }));
        }
        let mut documents = Vec::new();
        for document in &copy.documents {
            let mut scope = self.scope(draft, lines);
            let content = if document.expand {
                let expanded = expand_document(&document.content, &|name| scope.lookup(name));
                let expanded = expanded.map_err(&problem)?;
                scope.check(expanded.text, &expanded.missing).map_err(&problem)?
            } else {
                document.content.clone()
            };
            documents.push((document.name.clone(), content));
        }
        let count = local.len() + remotes.len() + documents.len();
        let last = destination.rsplit('/').next().unwrap_or_default();
        let action = CopyAction {
            from,
            wish: Wish {
                sources: local,
                exclude: exclude.clone(),
                parents: copy.parents,
                unpack: is_add && copy.unpack != Some(false),
            },
            documents,
            remotes,
            destination: Destination {
                path: clean(&draft.state.config.working_dir, &destination),
                into: count > 1 || copy.parents || matches!(last, "" | "." | ".."),
                owner: None,
                mode: mode.as_deref().map(parse_mode).transpose().map_err(&problem)?,
                link: copy.link,
            },
            owner: owner.clone(),
        };
        let text = without_users(&text(copy, is_add, &sources, &exclude, owner.as_deref(), &destination));
        let scope = self.scope(draft, lines);
        let title = without_users(&expand_shown(&statement.text, scope.escape, &|name| scope.lookup(name)));
        self.step(draft, lines, title, Action::Copy(Box::new(action)));
        draft.state.history.push(entry(EntryText::Plain(text), true));
        Ok(())
    }

    /// What `--from` and `from=` mean: an earlier stage, a context that was named, or an image.
    pub(super) fn origin(&mut self, draft: &Draft, lines: Lines, name: &str) -> Result<Origin> {
        if name.is_empty() {
            return Err(at(lines)(Problem::Value { what: "--from", value: String::new() }));
        }
        let image = match self.options.contexts.get(name) {
            Some(NamedContext::Image(image)) => image.clone(),
            Some(NamedContext::Folder(_) | NamedContext::Git(_)) => return Ok(Origin::Named(name.to_owned())),
            None if name == "scratch" => return Ok(Origin::Nothing),
            None => match self.earlier_stage(name, draft.index) {
                Some(index) => return Ok(self.stage(index)?.step.map_or(Origin::Nothing, Origin::Step)),
                None if self.dockerfile.stages[draft.index].name.as_deref() == Some(name.to_lowercase().as_str()) => {
                    let what = "--from: circular dependency detected on stage";
                    return Err(at(lines)(Problem::Value { what, value: name.to_owned() }));
                }
                None if name.parse::<usize>().is_ok() => {
                    let what = "--from: there is no earlier stage with this number,";
                    return Err(at(lines)(Problem::Value { what, value: name.to_owned() }));
                }
                None => name.to_owned(),
            },
        };
        let platform: &Platform = &draft.state.platform;
        let known = (self.images)(&image, platform).map_err(|error| error.of_image(&image, lines))?;
        let same = self.steps.iter().position(|step| {
            step.platform == *platform && matches!(&step.action, Action::Image { name } if *name == image)
        });
        let step = same.unwrap_or_else(|| {
            let name = format!("FROM {}", known.resolved);
            let title = StepTitle { name, lines: Some(lines) };
            let (platform, action) = (platform.clone(), Action::Image { name: image });
            self.push(Step { title, stage: String::new(), parent: None, platform, time: None, action })
        });
        Ok(Origin::Step(step))
    }
}

fn is_remote(source: &str) -> bool {
    let is_url = ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|start| source.starts_with(start));
    is_url || GitSource::parse(source).is_some()
}

fn remote_file(
    url: &str,
    after: usize,
    copy: &Copy,
    checksum: Option<&str>,
) -> std::result::Result<RemoteFile, Problem> {
    let unpack = copy.unpack == Some(true);
    match GitSource::parse(url) {
        Some(Err(problem)) => Err(Problem::Value { what: "git source", value: problem.to_string() }),
        Some(Ok(git)) => {
            let checksum = checksum.map(str::to_owned).or(git.checksum);
            let git = GitSource { keep_git_dir: copy.keep_git_dir, checksum, ..git };
            Ok(RemoteFile { source: RemoteSource::Git(git), after, unpack: false, checksum: None })
        }
        None => {
            let invalid = |_| Problem::Value { what: "digest", value: checksum.unwrap_or_default().to_owned() };
            let checksum = checksum.map(Digest::parse).transpose().map_err(invalid)?;
            Ok(RemoteFile { source: RemoteSource::Url(url.to_owned()), after, unpack, checksum })
        }
    }
}

fn parse_mode(text: &str) -> std::result::Result<Mode, Problem> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777 && !text.is_empty());
        return bits.map(Mode::Bits).ok_or(Problem::Value { what: "octal mode", value: text.to_owned() });
    }
    Ok(Mode::Symbolic(text.to_owned()))
}

/// The statement as history and progress show it.
fn text(
    copy: &Copy,
    is_add: bool,
    sources: &[String],
    exclude: &[String],
    owner: Option<&str>,
    destination: &str,
) -> String {
    let mut words = vec![if is_add { "ADD".to_owned() } else { "COPY".to_owned() }];
    words.extend(copy.parents.then(|| "--parents".to_owned()));
    words.extend(owner.map(|owner| format!("--chown={owner}")));
    words.extend(copy.chmod.as_ref().map(|mode| format!("--chmod={mode}")));
    words.extend(copy.link.then(|| "--link".to_owned()));
    words.extend(exclude.iter().map(|pattern| format!("--exclude={pattern}")));
    words.extend(sources.iter().cloned());
    words.extend(copy.documents.iter().map(|document| format!("<<{}", document.name)));
    words.push(destination.to_owned());
    words.join(" ")
}
