//! Why steps ran again: what decided them is compared with what decided them when the same thing was built last.
//!
//! `ROOT/build/last/<SHA-256 of the build's name>.json`, written at the end of each build that came so far; nothing depends on it.

use crate::cache::{Parts, make_folder, write};
use crate::dockerfile::Lines;
use crate::error::Result;
use crate::executor::Folders;
use crate::plan::{Action, Plan};
use crate::request::{BuildRequest, ContextSource, DockerfileSource, NoCache};
use crate::solve::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tare_spec::{Digest, Platform};

const VERSION: u32 = 1;

/// How many files are named.
const NAMED: usize = 3;

/// What became of a step, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// How it is shown.
    pub title: String,
    /// Where its statement stands.
    pub lines: Option<Lines>,
    /// Whether it did not have to run.
    pub cached: bool,
    /// In a few words.
    pub why: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Last {
    version: u32,
    steps: Vec<LastStep>,
}

#[derive(Serialize, Deserialize)]
struct LastStep {
    stage: String,
    parts: Parts,
    files: BTreeMap<String, Digest>,
}

/// The report of all steps. What they are made of is kept for the next time.
pub(crate) fn explain(
    folders: &Folders,
    request: &BuildRequest,
    platform: &Platform,
    plan: &Plan,
    outcomes: &[Outcome],
) -> Result<Vec<StepReport>> {
    let path = path(folders, request, platform);
    let last = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Last>(&bytes).ok());
    let last = last.filter(|last| last.version == VERSION);
    let mut stages: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for (step, outcome) in plan.steps.iter().zip(outcomes) {
        stages.entry(&step.stage).or_default().push(outcome);
    }
    let mut counterparts: BTreeMap<&str, _> = BTreeMap::new();
    for (stage, now) in &stages {
        let before = last.iter().flat_map(|last| &last.steps).filter(|step| step.stage == *stage).collect();
        counterparts.insert(stage, matched(now, before).into_iter());
    }
    let (mut reports, mut steps) = (Vec::new(), Vec::new());
    for (step, outcome) in plan.steps.iter().zip(outcomes) {
        let before = counterparts.get_mut(step.stage.as_str()).and_then(Iterator::next).flatten();
        let anew = match &request.no_cache {
            NoCache::Changed => false,
            NoCache::All => true,
            NoCache::Stages(stages) => stages.contains(&step.stage),
        };
        let why = match (&step.action, before) {
            (Action::Image { .. }, Some(before)) if before.parts != outcome.parts => {
                "another image by this name".to_owned()
            }
            (Action::Image { .. }, _) => "here".to_owned(),
            _ if outcome.cached => "nothing changed".to_owned(),
            _ if anew => "asked for by --no-cache".to_owned(),
            (_, None) if last.is_none() => "first build of this name".to_owned(),
            (_, None) => "a new step".to_owned(),
            (_, Some(before)) => {
                let from_image =
                    step.parent.is_some_and(|parent| matches!(plan.steps[parent].action, Action::Image { .. }));
                reason(outcome, before, from_image)
            }
        };
        reports.push(StepReport {
            title: step.title.name.clone(),
            lines: step.title.lines,
            cached: outcome.cached,
            why,
        });
        steps.push(LastStep { stage: step.stage.clone(), parts: outcome.parts.clone(), files: outcome.files.clone() });
    }
    make_folder(&folders.last())?;
    let bytes = serde_json::to_vec(&Last { version: VERSION, steps }).expect("a structure of strings");
    write(&path, &bytes)?;
    Ok(reports)
}

/// Of each step of a stage the one that it was before: the longest sequence of equal statements tells which stayed; between those
/// one statement stands for the other, in order.
fn matched<'l>(now: &[&Outcome], before: Vec<&'l LastStep>) -> Vec<Option<&'l LastStep>> {
    let same = |new: usize, old: usize| now[new].parts.instruction() == before[old].parts.instruction();
    // The length of that sequence from these two steps on.
    let mut lengths = vec![vec![0_u32; before.len() + 1]; now.len() + 1];
    for new in (0..now.len()).rev() {
        for old in (0..before.len()).rev() {
            lengths[new][old] = if same(new, old) {
                lengths[new + 1][old + 1] + 1
            } else {
                lengths[new + 1][old].max(lengths[new][old + 1])
            };
        }
    }
    let mut found = vec![None; now.len()];
    let (mut new, mut old, mut from) = (0, 0, (0, 0));
    loop {
        let over = new == now.len() || old == before.len();
        if over || same(new, old) {
            let (last_new, last_old) = if over { (now.len(), before.len()) } else { (new, old) };
            (from.0..last_new).zip(from.1..last_old).for_each(|(new, old)| found[new] = Some(before[old]));
            if over {
                return found;
            }
            found[new] = Some(before[old]);
            (new, old) = (new + 1, old + 1);
            from = (new, old);
        } else if lengths[new + 1][old] >= lengths[new][old + 1] {
            new += 1;
        } else {
            old += 1;
        }
    }
}

fn reason(outcome: &Outcome, before: &LastStep, from_image: bool) -> String {
    match outcome.parts.difference(&before.parts) {
        None => "its result is not in the cache any more".to_owned(),
        Some("files") => files(&outcome.files, &before.files),
        Some("instruction") => "the statement changed".to_owned(),
        Some("time") => "the image that its stage starts from is another one".to_owned(),
        Some("base") if from_image => "the image that it starts from changed".to_owned(),
        Some("base") => "an earlier step changed".to_owned(),
        Some(part) => format!("{part} changed"),
    }
}

/// `package.json changed`, `a, b and 3 others changed`.
fn files(now: &BTreeMap<String, Digest>, before: &BTreeMap<String, Digest>) -> String {
    let mut changes: Vec<(&str, &str)> = Vec::new();
    for (path, digest) in now {
        match before.get(path) {
            None => changes.push((path, "is new")),
            Some(other) if other != digest => changes.push((path, "changed")),
            Some(_) => {}
        }
    }
    changes.extend(before.keys().filter(|path| !now.contains_key(*path)).map(|path| (path.as_str(), "is gone")));
    // As a person writes them: from the context's root on.
    let shown = |path: &str| path.strip_prefix('/').filter(|path| !path.is_empty()).unwrap_or(path).to_owned();
    let named = changes.iter().take(NAMED).map(|(path, change)| format!("{} {change}", shown(path)));
    let named: Vec<String> = named.collect();
    match changes.len() {
        0 => "the files changed".to_owned(),
        count if count > NAMED => format!("{} and {} others", named.join(", "), count - NAMED),
        _ => named.join(", "),
    }
}

/// Builds are told apart by the name of their result, or where their files are.
fn path(folders: &Folders, request: &BuildRequest, platform: &Platform) -> PathBuf {
    let place = match &request.context {
        ContextSource::Folder(path) => path.display().to_string(),
        ContextSource::Url(url) => url.clone(),
        ContextSource::Git(git) => format!("{}#{}", git.remote, git.folder),
        ContextSource::Empty | ContextSource::Archive(_) => String::new(),
    };
    let dockerfile = match &request.dockerfile {
        DockerfileSource::InContext(path) => path.clone(),
        DockerfileSource::Path(path) => path.display().to_string(),
        DockerfileSource::Text(_) => String::new(),
    };
    let name = match request.names.first() {
        Some(name) => name.to_string(),
        None => format!("{place}\0{dockerfile}"),
    };
    let identity = format!("{name}\0{}\0{platform}", request.target.as_deref().unwrap_or_default());
    folders.last().join(format!("{}.json", tare_store::sha256(identity.as_bytes()).hex()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_again() {
        let parts = |statement: char| {
            let mut parts = Parts::default();
            parts.add_plain("instruction", statement);
            parts
        };
        for (before, now, expected) in [
            ("abc", "abc", "abc"),
            ("abc", "axbc", "a-bc"),
            ("abc", "xabc", "-abc"),
            ("abc", "ac", "ac"),
            ("abc", "axc", "abc"),
            ("abc", "axyc", "ab-c"),
            ("abc", "abcd", "abc-"),
            ("abcd", "abx", "abc"),
            ("aab", "ab", "ab"),
            ("", "ab", "--"),
        ] {
            let last: Vec<LastStep> = before
                .chars()
                .map(|step| LastStep { stage: String::new(), parts: parts(step), files: BTreeMap::new() })
                .collect();
            let outcomes: Vec<Outcome> =
                now.chars().map(|step| Outcome { parts: parts(step), ..Outcome::default() }).collect();
            let found = matched(&outcomes.iter().collect::<Vec<_>>(), last.iter().collect());
            let name =
                |step: Option<&LastStep>| step.map_or("-".to_owned(), |step| step.parts.instruction().to_owned());
            assert_eq!(found.into_iter().map(name).collect::<String>(), expected, "{before} {now}");
        }
    }

    #[test]
    fn files_are_named() {
        let digest = |number| Digest::from_sha256([number; 32]);
        let map = |files: &[(&str, u8)]| {
            files.iter().map(|(path, number)| ((*path).to_owned(), digest(*number))).collect::<BTreeMap<_, _>>()
        };
        let before = map(&[("a", 1), ("b", 1)]);
        for (now, expected) in [
            (map(&[("a", 2), ("b", 1)]), "a changed"),
            (map(&[("a", 1), ("b", 1), ("/d/c", 1)]), "d/c is new"),
            (map(&[("a", 1)]), "b is gone"),
            (map(&[("a", 1), ("b", 2), ("c", 1)]), "b changed, c is new"),
            (map(&[("c", 1), ("d", 1), ("e", 1)]), "c is new, d is new, e is new and 2 others"),
            (before.clone(), "the files changed"),
        ] {
            assert_eq!(files(&now, &before), expected);
        }
    }
}
