//! What builds need that only an engine can do: images, processes, files of the network.
//!
//! ```text
//! ROOT/build/work/<id>/             what is under way: a step's process, a git checkout; 64 hexadecimal digits, 0700
//!                      upper/       what a step writes, an overlay's upper directory; work/ beside it
//!                      hosts, hostname, resolv.conf
//!                      mounts/, <n>/   see sources.rs
//!                      tree/, home/    a git checkout, and git's home directory
//! ```
//!
//! A folder is locked (flock(2)) by the builder that made it, and by the same lock of the process that carries the step out
//! ([`BUILD_RUN_NAME`]): whoever gets it knows that both are gone. The step's id names its cgroup and its place in the
//! network as well.
//!
//! **After a crash** of the builder the runner ends the step and removes all of it; of the runner, the builder does; of
//! both, the next build or prune ([`Engine::sweep_builds`]).

mod agent;
mod cache;
mod cache_document;
mod cache_export;
mod cache_folder;
mod checkout;
mod compare;
mod configuration;
mod elsewhere;
mod export;
mod failure;
mod fetch;
mod filter;
mod git;
mod image;
mod output;
mod perform;
mod process;
mod report;
mod request;
mod runner;
mod sources;
mod targets;
mod work;

pub use cache::{BuildsPruned, CacheRecord, PruneBuilds};
pub use failure::FailedBuild;
pub use filter::CacheFilter;
pub use output::{CacheTo, LayoutForm, LayoutTarget, Output, OutputRequest, Sink};
pub use perform::Built;
pub use report::{
    BuildFailure, Checked, ContextEntry, FileDifference, IgnoreRule, Reason, Source, StageView, StepDifference,
};
pub use runner::{BUILD_RUN_NAME, build_run_main};
pub use tare_build::StepReport;
pub use tare_build::dockerfile::{Lines, Warning};
pub use tare_build::executor::{GitSource, Network};
pub use tare_build::progress::{Event, Progress, StepId, StepTitle};
pub use tare_build::request::{
    BuildRequest, CacheFrom, ContextSource, DockerfileSource, Entitlement, NamedContext, NoCache, SecretSource, Times,
};

use crate::engine::Engine;
use crate::error::{Error, Result};
use elsewhere::Imported;
use image::Images;
use process::Steps;
use std::sync::OnceLock;
use std::time::Duration;
use tare_build::cache::Key;
use tare_build::executor::{
    BaseImage, Checkout, Executor, ExecutorError, Fetched, Finished, Output as StepOutput, Process, WantedImage,
};
use tare_registry::Client;
use tare_spec::DiffId;
use tare_spec::image::Descriptor;

/// What no build has used for so long goes (BuildKit's default policy says two days for what can be made again at once, and
/// a month or two for the rest).
const CACHE_AGE: Duration = Duration::from_secs(60 * 24 * 3600);

/// The cache may have at least so many bytes, however small the disk is: some builds' worth.
const CACHE_MINIMUM: u64 = 2 << 30;

/// How an [`EngineExecutor`] behaves.
#[derive(Clone, Copy)]
pub struct ExecutorOptions<'a> {
    /// Names of images are looked up in their registries although the store has them.
    pub pull: bool,
    /// Told of the bytes of layers while images are pulled, from several threads.
    pub pull_progress: &'a (dyn Fn(PullBytes<'_>) + Sync),
}

impl Default for ExecutorOptions<'_> {
    fn default() -> Self {
        Self { pull: false, pull_progress: &|_| {} }
    }
}

/// How far a layer of an image has come.
#[derive(Clone, Copy, Debug)]
pub struct PullBytes<'a> {
    /// The step that wanted the image.
    pub step: StepId,
    /// `sha256:…`
    pub layer: &'a str,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in the end.
    pub total: u64,
}

/// Carries out what a build asks for, with the images, networks and folders of an engine.
pub struct EngineExecutor<'e> {
    engine: &'e Engine,
    pull: bool,
    pull_progress: &'e (dyn Fn(PullBytes<'_>) + Sync),
    steps: Steps,
    images: Images,
    imported: Imported,
    client: OnceLock<Client>,
}

impl Engine {
    /// An executor for one build.
    #[must_use]
    pub fn executor<'e>(&'e self, options: ExecutorOptions<'e>) -> EngineExecutor<'e> {
        let ExecutorOptions { pull, pull_progress } = options;
        EngineExecutor {
            engine: self,
            pull,
            pull_progress,
            steps: Steps::default(),
            images: Images::default(),
            imported: Imported::default(),
            client: OnceLock::new(),
        }
    }

    /// Takes away what builds have left that were killed together with the processes of their steps: processes, networks and
    /// files. What others work in stays.
    ///
    /// # Errors
    /// Everything that went wrong, after all was tried.
    pub fn sweep_builds(&self) -> Result<()> {
        work::sweep(self)
    }
}

impl Executor for EngineExecutor<'_> {
    fn image(&self, wanted: &WantedImage<'_>) -> Result<BaseImage, ExecutorError> {
        self.base_image(wanted).map_err(failed)
    }

    fn run(&self, process: &Process<'_>, output: StepOutput<'_>) -> Result<Finished, ExecutorError> {
        self.run_step(process, output).map_err(failed)
    }

    fn cancel(&self) {
        self.steps.cancel();
    }

    fn is_cancelled(&self) -> bool {
        self.steps.check().is_err()
    }

    fn fetch(&self, url: &str) -> Result<Fetched, ExecutorError> {
        self.fetch_file(url).map_err(failed)
    }

    fn checkout(&self, git: &GitSource) -> Result<Checkout, ExecutorError> {
        self.check_out(git).map_err(failed)
    }

    fn import(&self, cache: &CacheFrom) -> Result<Vec<(Key, DiffId)>, ExecutorError> {
        self.import_steps(cache).map_err(failed)
    }

    fn import_layer(&self, cache: &CacheFrom, layer: &DiffId, step: StepId) -> Result<Descriptor, ExecutorError> {
        self.import_layer_of(cache, layer, step).map_err(failed)
    }
}

fn failed(error: Error) -> ExecutorError {
    ExecutorError::new(error.kind(), error)
}
