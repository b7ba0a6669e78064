//! Building an image, and putting it where it is wanted.

use super::output::{Output, OutputRequest};
use super::report::{Checked, ContextEntry, StageView};
use super::{ExecutorOptions, PullBytes};
use crate::engine::Engine;
use crate::error::{Error, Result};
use tare_build::dockerfile::Warning;
use tare_build::progress::{Announcer, Event, Progress};
use tare_build::request::BuildRequest;
use tare_build::{Builder, ContextFile, StepReport, Text};
use tare_spec::{Digest, ImageId, Platform, Reference};

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The images, in the order of the platforms.
    pub images: Vec<(Platform, ImageId)>,
    /// Of the manifest, or of the index of several platforms.
    pub digest: Digest,
    /// The names that it has now.
    pub names: Vec<Reference>,
    /// The steps, in order.
    pub steps: Vec<StepReport>,
    /// What is probably not meant, in the order of lines.
    pub warnings: Vec<Warning>,
    /// The Dockerfile, for excerpts.
    pub source: Text,
}

impl Engine {
    /// Builds. The image is durable and has its names when this returns; an output other than the store is complete, and durable as far
    /// as its file system makes it.
    ///
    /// # Errors
    /// [`Error::Build`]; nothing is named then, nothing runs or is mounted, and what was done is known to the next build.
    pub fn build(&self, request: &BuildRequest, outputs: &OutputRequest, progress: &dyn Progress) -> Result<Built> {
        self.sweep_builds()?;
        let several = request.platforms.iter().any(|platform| request.platforms.first() != Some(platform));
        let has_folders =
            |output: &Output| matches!(output, Output::Tar { split, .. } if several || *split == Some(true));
        if outputs.outputs.iter().any(has_folders) {
            return Err(Error::Unsupported {
                message:
                    "folders for platforms in an archive of files are not supported: -o FOLDER writes a folder for each"
                        .to_owned(),
            });
        }
        let store = self.store()?;
        let folders = self.build_folders();
        let announcer = Announcer::new(progress);
        let told = |bytes: PullBytes<'_>| {
            let PullBytes { step, layer, current, total } = bytes;
            announcer.event(Event::Bytes { step, what: layer, current, total });
        };
        let options = ExecutorOptions { pull: request.pull, pull_progress: &told };
        let executor = self.executor(options);
        // Held until the outputs are written: an image that the store does not keep could be collected before.
        let lease = store.lease()?;
        let keep = outputs.outputs.iter().any(|output| matches!(output, Output::Store));
        let built =
            Builder { store, executor: &executor, folders: &folders, announcer: &announcer, keep }.build(request);
        let built = built.map_err(|failure| self.explain_failure(failure, request))?;
        let written = outputs.outputs.iter().try_for_each(|output| self.write_output(&built, output)).and_then(|()| {
            let mut places = outputs.cache_to.iter();
            places.try_for_each(|place| self.export_cache(&built.cached_steps, place, &announcer))
        });
        drop(lease);
        written?;
        if !built.cached {
            // What contexts and mounts needed for a while goes, and what is too much.
            self.bound_build_cache()?;
            self.collect()?;
        }
        let digest = built.index.or_else(|| built.images.first().map(|(_, image)| image.manifest.clone()));
        Ok(Built {
            digest: digest.ok_or_else(|| Error::invalid("the build made no image"))?.digest,
            images: built.images.into_iter().map(|(platform, image)| (platform, image.id)).collect(),
            names: if keep { request.names.clone() } else { Vec::new() },
            steps: built.steps,
            warnings: built.warnings,
            source: built.dockerfile,
        })
    }
}

impl Engine {
    /// Reads a Dockerfile and looks for what is probably not meant, without building.
    ///
    /// # Errors
    /// [`Error::BuildFailed`].
    pub fn check_build(&self, request: &BuildRequest) -> Result<Checked> {
        let executor = self.executor(ExecutorOptions::default());
        let builder = Builder {
            store: self.store()?,
            executor: &executor,
            folders: &self.build_folders(),
            announcer: &Announcer::new(&Silent),
            keep: false,
        };
        let looked = builder.look(request).map_err(|failure| self.explain_failure(failure, request))?;
        let last = looked.dockerfile.stages.len() - 1;
        let stages = looked.dockerfile.stages.into_iter().enumerate();
        let stages = stages.map(|(index, stage)| StageView {
            name: stage.name,
            base: stage.image,
            platform: stage.platform,
            lines: stage.lines,
            default: index == last,
        });
        Ok(Checked { stages: stages.collect(), source: looked.source, warnings: looked.warnings })
    }

    /// The files of the context, and which rule leaves which out.
    ///
    /// # Errors
    /// [`Error::BuildFailed`].
    pub fn explain_context(&self, request: &BuildRequest) -> Result<Vec<ContextEntry>> {
        let executor = self.executor(ExecutorOptions::default());
        let builder = Builder {
            store: self.store()?,
            executor: &executor,
            folders: &self.build_folders(),
            announcer: &Announcer::new(&Silent),
            keep: false,
        };
        let files = builder.context_files(request);
        let files = files.map_err(|error| self.explain_failure(error.into(), request))?;
        let entry = |file: ContextFile| ContextEntry { path: file.path, size: file.size, ignored_by: file.ignored_by };
        Ok(files.into_iter().map(entry).collect())
    }
}

/// Tells nobody.
struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
