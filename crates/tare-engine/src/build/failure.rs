//! What a person needs to know of a failed build.

use super::report::{BuildFailure, IgnoreRule, Reason};
use crate::engine::Engine;
use crate::error::Error;
use std::path::Path;
use tare_build::dockerfile::nearest;
use tare_build::files::{FilesError, Hidden};
use tare_build::request::{BuildRequest, ContextSource};
use tare_build::{Error as BuildError, OfWhat};

/// Names that Dockerfiles have where they are not called that.
const OTHER_NAMES: [&str; 3] = ["Containerfile", "dockerfile", "DockerFile"];

/// A build's error with what else is known of it. Its text and its causes are the error's.
#[derive(Debug)]
pub struct FailedBuild {
    /// What went wrong.
    pub error: BuildError,
    /// What a person needs to know beyond that.
    pub report: BuildFailure,
}

impl std::fmt::Display for FailedBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for FailedBuild {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Engine {
    /// The error of a build with what else is known of it.
    #[expect(clippy::boxed_local, reason = "it comes in a box, as it is large")]
    pub(super) fn explain_failure(&self, failure: Box<tare_build::BuildFailure>, request: &BuildRequest) -> Error {
        let tare_build::BuildFailure { error, dockerfile } = *failure;
        let place = dockerfile.zip(error.lines().filter(|lines| lines.first > 0));
        let reason = reason(&error, request);
        Error::BuildFailed(Box::new(FailedBuild { error, report: BuildFailure { place, reason } }))
    }
}

impl Error {
    /// What is known of a failed build; nothing for other errors.
    #[must_use]
    pub fn build_failure(&self) -> Option<&BuildFailure> {
        match self {
            Self::BuildFailed(failed) => Some(&failed.report),
            _ => None,
        }
    }
}

fn reason(error: &BuildError, request: &BuildRequest) -> Reason {
    match error {
        BuildError::Failed { exit_code, out_of_memory, .. } => {
            Reason::Exit { code: *exit_code, out_of_memory: *out_of_memory }
        }
        BuildError::OfStatement(failed) => match (&failed.what, failed.error.error.downcast_ref::<Error>()) {
            (OfWhat::Program(program), Some(Error::Monitor(failure))) if failure.exit_code == Some(127) => {
                Reason::NoProgram { program: program.clone() }
            }
            _ => Reason::Other,
        },
        BuildError::Files { error, .. } => match &**error {
            FilesError::NotFound { path, hidden } => {
                let rule = |hidden: &Hidden| IgnoreRule {
                    file: hidden.file.clone(),
                    line: hidden.line,
                    rule: hidden.rule.clone(),
                };
                Reason::NoSource {
                    path: path.trim_start_matches('/').to_owned(),
                    ignored_by: hidden.as_ref().map(rule),
                    near: near(&request.context, path),
                }
            }
            _ => Reason::Other,
        },
        BuildError::NotFoundIn { path, place, .. } => Reason::NotFoundIn { path: path.clone(), place: place.clone() },
        BuildError::NoDockerfile { .. } => Reason::NoDockerfile { others: other_dockerfiles(&request.context) },
        BuildError::Target { name, stages } => Reason::NoStage { name: name.clone(), names: stages.clone() },
        BuildError::SecretMissing { id, .. } => Reason::NoSecret { id: id.clone() },
        BuildError::AgentMissing { id, .. } => Reason::NoAgent { id: id.clone() },
        _ => Reason::Other,
    }
}

/// What the context has that may be the Dockerfile.
fn other_dockerfiles(context: &ContextSource) -> Vec<String> {
    let ContextSource::Folder(folder) = context else { return Vec::new() };
    let names = file_names(folder);
    names
        .into_iter()
        .filter(|name| {
            OTHER_NAMES.contains(&name.as_str()) || name.starts_with("Dockerfile") || name.ends_with(".Dockerfile")
        })
        .collect()
}

/// A path of the context that is nearly this one.
fn near(context: &ContextSource, path: &str) -> Option<String> {
    let ContextSource::Folder(folder) = context else { return None };
    let path = Path::new(path.trim_start_matches('/'));
    let parent = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name()?.to_str()?;
    let names = file_names(&folder.join(parent));
    let same = names.iter().find(|other| other.eq_ignore_ascii_case(name)).map(String::as_str);
    let found = same.or_else(|| nearest(name, names.iter().map(String::as_str)))?;
    Some(parent.join(found).display().to_string())
}

fn file_names(folder: &Path) -> Vec<String> {
    // What cannot be read is not hinted at.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
