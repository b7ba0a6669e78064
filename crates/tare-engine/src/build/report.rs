//! What is told of a build beyond its result: places in Dockerfiles, reasons of failures, checks, differences.

use tare_build::dockerfile::{Lines, Warning};

pub use tare_build::Text as Source;

/// A file of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextEntry {
    /// Its path in the context.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// The line and the text of the rule that leaves it out.
    pub ignored_by: Option<(usize, String)>,
}

/// What a person needs to know of a failed build beyond the text of its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The statement that failed, where one did.
    pub place: Option<(Source, Lines)>,
    /// The reason, where more is known of it than the error says.
    pub reason: Reason,
}

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A process of RUN ended with this code, which is not 0.
    Exit {
        /// 1 to 255; 128 + n for signal n.
        code: u8,
        /// Whether the kernel killed some of it because memory ran out.
        out_of_memory: bool,
    },
    /// The image has not the program that RUN is to start.
    NoProgram {
        /// The program as it was given.
        program: String,
    },
    /// COPY, ADD or a mount names something that the context has not.
    NoSource {
        /// The path in the context.
        path: String,
        /// The rule that leaves it out, when it is there.
        ignored_by: Option<IgnoreRule>,
        /// A path of the context that is nearly the same.
        near: Option<String>,
    },
    /// COPY or a mount names something that its source, which is not the context, has not.
    NotFoundIn {
        /// The path there.
        path: String,
        /// Where it was looked for: `stage build`, `image debian:13`, `build context docs`.
        place: String,
    },
    /// There is no Dockerfile of this name.
    NoDockerfile {
        /// What the folder has that may be one.
        others: Vec<String>,
    },
    /// The Dockerfile has no such stage.
    NoStage {
        /// The name as it was given.
        name: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// RUN steps for another platform's programs, which this machine cannot execute.
    NoEmulation {
        /// The platform.
        platform: tare_spec::Platform,
    },
    /// A step wants a secret that was not given.
    NoSecret {
        /// Its id.
        id: String,
    },
    /// A step wants an SSH agent that was not given.
    NoAgent {
        /// Its id.
        id: String,
    },
    /// Anything else.
    Other,
}

/// A rule of a `.dockerignore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreRule {
    /// The file's name.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The rule as written.
    pub rule: String,
}

/// What looking at a Dockerfile without building it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The Dockerfile.
    pub source: Source,
    /// What is probably not meant, in the order of lines.
    pub warnings: Vec<Warning>,
    /// The stages, in order.
    pub stages: Vec<StageView>,
}

/// A stage that can be built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageView {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it starts from.
    pub base: String,
    /// `--platform` of its FROM.
    pub platform: Option<String>,
    /// Where its FROM stands.
    pub lines: Lines,
    /// Whether it is the one that is built when none is asked for.
    pub default: bool,
}

/// What a step made differently in two builds of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDifference {
    /// The step, as the image's history has it.
    pub step: String,
    /// The files, by path.
    pub files: Vec<FileDifference>,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDifference {
    /// Its path in the image.
    pub path: String,
    /// How: `contents`, `mode`, `owner`, `time`, `only in the first`, `only in the second`, ….
    pub how: String,
}
