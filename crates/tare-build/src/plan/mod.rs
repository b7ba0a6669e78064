//! What a build will do, as plain data: stages and instructions become steps, variables are replaced, paths are absolute, and all is
//! checked that needs neither files nor processes.
//!
//! Only what the target needs is planned. A step refers to earlier ones only, so that their order is one in which they can be done;
//! what does not depend on each other can be done at once.

mod command;
mod copy;
mod history;
mod mount;
mod scope;
mod stage;

pub use copy::{CopyAction, Origin, RemoteFile, RemoteSource};
pub use mount::{RunMount, Sharing};
pub(crate) use stage::Configuring;

use crate::dockerfile::{Dockerfile, Lines, Problem, Warning};
use crate::error::{Error, Result};
use crate::executor::Network;
use crate::progress::{StepId, StepTitle};
use crate::request::{Entitlement, NamedContext, Times};
use jiff::Timestamp;
use scope::Globals;
use serde::Serialize;
use stage::StageState;
use std::collections::{BTreeMap, BTreeSet};
use tare_spec::Platform;
use tare_spec::image::{Config, History, ImageConfig};

/// A build of one platform, ready to be carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Each refers to earlier ones only.
    pub steps: Vec<Step>,
    /// What comes of it.
    pub target: Target,
    /// What is probably not meant, as far as planning shows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The image that is built.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// The step whose files it has; none: it has no files.
    pub step: Option<StepId>,
    /// What it is for.
    pub platform: Platform,
    /// How containers of it run.
    pub config: Config,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How it came to be: that of the image it starts from, then its own, whose times are those of the build.
    pub history: Vec<History>,
    /// How many entries of `history` are those of the image it starts from.
    pub inherited: usize,
    /// The time of the result; absent: when it is built.
    pub created: Option<Timestamp>,
}

/// Something that makes files.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// How it is shown.
    pub title: StepTitle,
    /// The name of its stage, or its number.
    pub stage: String,
    /// The step whose files it changes; none: there are none yet.
    pub parent: Option<StepId>,
    /// What for.
    pub platform: Platform,
    /// No time in its result is later; absent: times are as they come.
    pub time: Option<Timestamp>,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Has the files of an image.
    Image {
        /// Its name, as written.
        name: String,
    },
    /// Runs a process.
    Run(Box<RunAction>),
    /// Copies files.
    Copy(Box<CopyAction>),
    /// Makes a folder, unless it is there.
    Directory {
        /// Absolute.
        path: String,
        /// Whom it belongs to, if it is made: `user[:group]`; empty: root.
        owner: String,
    },
}

/// A process to run.
#[derive(Clone, Debug, Serialize)]
pub struct RunAction {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The image's variables and the arguments of the build in scope: `NAME=value`.
    pub env: Vec<String>,
    /// Variables that the result does not depend on: those of proxies.
    pub proxies: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// Its network.
    pub network: Network,
    /// `--security=insecure`.
    pub insecure: bool,
    /// What is mounted.
    pub mounts: Vec<RunMount>,
    /// The whole configuration of the image so far.
    pub config: Config,
}

impl Step {
    /// The steps whose results it needs.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<StepId> {
        let mut needs: BTreeSet<StepId> = self.parent.into_iter().collect();
        match &self.action {
            Action::Image { .. } | Action::Directory { .. } => {}
            Action::Run(run) => needs.extend(run.mounts.iter().filter_map(RunMount::origin).filter_map(Origin::step)),
            Action::Copy(copy) => needs.extend(copy.from.step()),
        }
        needs
    }
}

/// What planning needs to know besides the Dockerfile.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions<'a> {
    /// The stage to build, by name or number.
    pub target: Option<&'a str>,
    /// Values for ARG.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the result.
    pub labels: &'a [(String, String)],
    /// What it is built for.
    pub platform: Platform,
    /// Whether it is one of several, so that steps are shown with it.
    pub several: bool,
    /// The network of RUN.
    pub network: Network,
    /// What names mean instead.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What steps may ask for.
    pub allow: BTreeSet<Entitlement>,
    /// The times in the result.
    pub times: Times,
}

/// What is known of an image that a stage starts from.
#[derive(Clone, Debug)]
pub struct KnownImage {
    /// Its name with its digest, as it is shown.
    pub resolved: String,
    /// Its configuration.
    pub config: ImageConfig,
}

/// Gives what is known of an image for a platform.
pub type Images<'a> = &'a dyn Fn(&str, &Platform) -> Result<KnownImage>;

/// Plans the build of a Dockerfile.
///
/// # Errors
/// [`Error::Dockerfile`], [`Error::Target`], and those of `images`.
pub fn plan(dockerfile: &Dockerfile, options: &PlanOptions<'_>, images: Images<'_>) -> Result<Plan> {
    let mut planner = Planner::new(dockerfile, options, images)?;
    let index = planner.target()?;
    let state = planner.stage(index)?;
    let mut config = state.config;
    config.labels.extend(options.labels.iter().cloned());
    // What was asked for by its stage's base is for builds that start from that; this one's own is for its children.
    let created = match options.times {
        Times::Kept => None,
        Times::At(time) => Some(time),
        Times::OfBase => Some(planner.states.iter().flatten().map(|state| state.time).max().unwrap_or(EARLIEST)),
    };
    let target = Target {
        step: state.step,
        platform: state.platform,
        config,
        author: state.author,
        history: state.history,
        inherited: state.inherited,
        created,
    };
    let mut warnings = planner.warnings;
    warnings.retain(|warning| dockerfile.wants(warning.check, warning.lines));
    warnings.sort_by_key(|warning| warning.lines);
    warnings.dedup();
    Ok(Plan { steps: planner.steps, target, warnings })
}

/// The names of the images that a build of the target will ask for with certainty, what for and where: to fetch them at once.
///
/// # Errors
/// As [`plan`].
pub fn base_images(dockerfile: &Dockerfile, options: &PlanOptions<'_>) -> Result<BTreeMap<(String, Platform), Lines>> {
    let unknown = |_: &str, _: &Platform| Ok(KnownImage { resolved: String::new(), config: ImageConfig::default() });
    let planner = Planner::new(dockerfile, options, &unknown)?;
    let target = planner.target()?;
    let mut wanted = vec![target];
    let mut seen = BTreeSet::new();
    let mut images = BTreeMap::new();
    while let Some(index) = wanted.pop() {
        if !seen.insert(index) {
            continue;
        }
        let (base, platform) = planner.base_of(index)?;
        match base {
            stage::Base::Stage(earlier) => wanted.push(earlier),
            stage::Base::Image(name) => drop(images.insert((name, platform), dockerfile.stages[index].lines)),
            stage::Base::Scratch | stage::Base::Folder(_) => {}
        }
        for statement in &dockerfile.stages[index].statements {
            // Names with variables are found out when they are planned.
            let named = copy::stages_named(&statement.instruction).into_iter();
            wanted.extend(named.filter_map(|name| planner.earlier_stage(&name, index)));
        }
    }
    Ok(images)
}

/// The time of what starts from nothing: 1980-01-01, the first that archives of all kinds can tell.
const EARLIEST: Timestamp = Timestamp::constant(315_532_800, 0);

/// What has been planned so far.
struct Planner<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a PlanOptions<'a>,
    images: Images<'a>,
    globals: Globals,
    states: Vec<Option<StageState>>,
    steps: Vec<Step>,
    warnings: Vec<Warning>,
    /// How many bytes all that is expanded may still come to.
    left: usize,
}

impl<'a> Planner<'a> {
    fn new(dockerfile: &'a Dockerfile, options: &'a PlanOptions<'a>, images: Images<'a>) -> Result<Self> {
        let mut warnings = Vec::new();
        let globals = Globals::new(dockerfile, options, &mut warnings)?;
        let states = dockerfile.stages.iter().map(|_| None).collect();
        Ok(Self {
            dockerfile,
            options,
            images,
            globals,
            states,
            steps: Vec::new(),
            warnings,
            left: scope::ALL_EXPANDED,
        })
    }

    /// The number of the stage that is built.
    fn target(&self) -> Result<usize> {
        let stages = &self.dockerfile.stages;
        let Some(name) = self.options.target else { return Ok(stages.len() - 1) };
        let lower = name.to_lowercase();
        // Of stages with one name the last one counts, as for who refers to it from further below.
        if let Some(index) = stages.iter().rposition(|stage| stage.name.as_deref() == Some(&lower)) {
            return Ok(index);
        }
        match name.parse::<usize>() {
            Ok(index) if index < stages.len() => Ok(index),
            _ => Err(Error::Target {
                name: name.to_owned(),
                stages: stages.iter().filter_map(|stage| stage.name.clone()).collect(),
            }),
        }
    }

    /// The stage before `index` that has this name or number.
    fn earlier_stage(&self, name: &str, index: usize) -> Option<usize> {
        let earlier = &self.dockerfile.stages[..index];
        let lower = name.to_lowercase();
        let named = earlier.iter().rposition(|stage| stage.name.as_deref() == Some(&lower));
        named.or_else(|| name.parse().ok().filter(|number| *number < earlier.len()))
    }

    fn push(&mut self, step: Step) -> StepId {
        self.steps.push(step);
        self.steps.len() - 1
    }
}

/// A problem that stands on a statement.
fn at(lines: Lines) -> impl Fn(Problem) -> Error {
    move |problem| Error::Dockerfile { lines, problem }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;
    use tare_spec::ErrorKind;

    fn planned(text: &str) -> Result<Plan> {
        let images = |_: &str, _: &Platform| panic!("nothing is asked for");
        plan(&parse(text).unwrap(), &PlanOptions::default(), &images)
    }

    #[test]
    fn hostile_texts_do_not_grow() {
        let doubled =
            (0..40).map(|index| format!("ENV A{}=${{A{index}}}${{A{index}}}\n", index + 1)).collect::<String>();
        let error = planned(&format!("FROM scratch\nENV A0=0123456789\n{doubled}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{error}");
        let many = "RUN true\n".repeat(600);
        let error = planned(&format!("FROM scratch\n{many}")).unwrap_err();
        assert!(error.to_string().contains("a stage of 601 steps"), "{error}");
        assert!(planned(&format!("FROM scratch\n{}", "ENV A=1\n".repeat(1000))).is_ok());
    }
}
