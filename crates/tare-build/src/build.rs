//! A build from its request to an image.

use crate::assemble::{BuiltImage, assemble};
use crate::cache::Cache;
use crate::context::Context;
use crate::dockerfile::{Dockerfile, Lines, Problem, Warning, parse};
use crate::error::{Error, Result};
use crate::executor::{BaseImage, Executor, Folders, WantedImage};
use crate::explain::{StepReport, explain};
use crate::plan::{KnownImage, Plan, PlanOptions, base_images, plan};
use crate::progress::{Announcer, Event, Progress, StepTitle};
use crate::request::{BuildRequest, Times};
use crate::solve::{Layer, Solver};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tare_spec::Platform;
use tare_store::Store;

/// The variable that times are taken from, as an argument of the build.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What builds are done with.
#[derive(Clone, Copy)]
pub struct Builder<'a> {
    /// Where images are.
    pub store: &'a Store,
    /// What starts processes and uses the network.
    pub executor: &'a dyn Executor,
    /// Where the cache is.
    pub folders: &'a Folders,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Whether the result becomes an image of the store; else the caller's lease is all that keeps it.
    pub keep: bool,
}

/// What a build came to.
#[derive(Clone, Debug)]
pub struct Built {
    /// One image a platform, in the order they were asked for.
    pub images: Vec<(Platform, BuiltImage)>,
    /// What became of the steps.
    pub steps: Vec<StepReport>,
    /// What is probably not meant.
    pub warnings: Vec<Warning>,
    /// Whether all of it was known.
    pub cached: bool,
    /// The Dockerfile.
    pub dockerfile: Text,
}

/// A Dockerfile's name and text, from which excerpts are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// As a person knows it: `Dockerfile`, `sub/web.Dockerfile`.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A failure, and the Dockerfile that it belongs to.
#[derive(Debug)]
pub struct BuildFailure {
    /// What went wrong.
    pub error: Error,
    /// The Dockerfile, when it had been read.
    pub dockerfile: Option<Text>,
}

impl From<Error> for Box<BuildFailure> {
    fn from(error: Error) -> Self {
        Self::new(BuildFailure { error, dockerfile: None })
    }
}

impl Builder<'_> {
    /// Builds. The images are durable and have their names when it returns.
    ///
    /// # Errors
    /// [`BuildFailure`]; nothing is named then, and what was done is known to the next build.
    pub fn build(&self, request: &BuildRequest) -> std::result::Result<Built, Box<BuildFailure>> {
        // Nobody may collect what is taken in, or what the cache has, until the image's record tells of it.
        let _lease = self.store.lease().map_err(Error::from)?;
        let cache = Cache::open(self.folders)?;
        let announcer = Announcer::new(self.progress);
        let started = Instant::now();
        let title =
            StepTitle { name: format!("[internal] load build definition from {}", request.dockerfile), lines: None };
        let step = announcer.planned(&[title]);
        self.progress.event(Event::Started(step));
        let context = Context::open(self.store, self.executor, request).inspect_err(|error| {
            let text = crate::error::text(error);
            self.progress.event(Event::Failed { step, error: &text, took: started.elapsed() });
        })?;
        self.progress.event(Event::Done { step, took: started.elapsed() });
        let built = self.build_text(request, &cache, &context, &announcer);
        built.map_err(|error| Box::new(BuildFailure { error, dockerfile: Some(context.dockerfile) }))
    }

    fn build_text(
        &self,
        request: &BuildRequest,
        cache: &Cache,
        context: &Context,
        announcer: &Announcer<'_>,
    ) -> Result<Built> {
        let dockerfile = parse(&context.dockerfile.text)?;
        let platforms = match request.platforms.as_slice() {
            [] => vec![Platform::host()],
            platforms => platforms.to_vec(),
        };
        let mut built = Built {
            images: Vec::new(),
            steps: Vec::new(),
            warnings: dockerfile.warnings.clone(),
            cached: true,
            dockerfile: context.dockerfile.clone(),
        };
        for platform in platforms {
            let options = options(request, &platform)?;
            let images = Mutex::new(BTreeMap::new());
            let plan = self.plan(&dockerfile, &options, &images, announcer)?;
            built.warnings.extend(plan.warnings.iter().cloned());
            if dockerfile.check.error
                && let Some(warning) = built.warnings.first()
            {
                let (check, message) = (warning.check, warning.message.clone());
                return Err(Error::Dockerfile { lines: warning.lines, problem: Problem::Checked { check, message } });
            }
            let titles: Vec<_> = plan.steps.iter().map(|step| step.title.clone()).collect();
            let first = announcer.planned(&titles);
            let solver = Solver {
                first,
                store: self.store,
                executor: self.executor,
                progress: self.progress,
                request,
                context,
                cache,
                folders: self.folders,
                images: &images,
                plan: &plan,
            };
            let outcomes = solver.solve()?;
            built.cached &= outcomes.iter().all(|outcome| outcome.cached);
            built.steps.extend(explain(self.folders, request, &platform, &plan, &outcomes)?);
            let layers: Vec<Layer> = plan.target.step.map(|step| outcomes[step].layers.clone()).unwrap_or_default();
            let image = assemble(self.store, &plan.target, layers)?;
            if self.keep {
                self.store.put_named_image(&image.manifest.digest, None, &request.names)?;
            }
            built.images.push((platform, image));
        }
        built.warnings.sort_by_key(|warning| warning.lines);
        built.warnings.dedup();
        built.warnings.iter().for_each(|warning| self.progress.event(Event::Warning(warning)));
        Ok(built)
    }

    /// Plans a platform. The images that it names are fetched at once, as far as they are known before.
    fn plan(
        &self,
        dockerfile: &Dockerfile,
        options: &PlanOptions<'_>,
        images: &Images,
        announcer: &Announcer<'_>,
    ) -> Result<Plan> {
        let wanted: Vec<_> = base_images(dockerfile, options)?.into_iter().collect();
        let image = |name: &str, platform: &Platform| self.image(images, name, platform, announcer);
        if wanted.len() > 1 {
            std::thread::scope(|scope| {
                let fetch = |((name, platform), lines): ((String, Platform), Lines)| {
                    image(&name, &platform).map(drop).map_err(|error| error.of_image(&name, lines))
                };
                let fetching: Vec<_> = wanted.into_iter().map(|wanted| scope.spawn(move || fetch(wanted))).collect();
                let joined = fetching.into_iter().map(|one| one.join().expect("a thread that panicked has said why"));
                // Wait for all, tell the first failure.
                joined.fold(Ok(()), Result::and)
            })?;
        }
        plan(dockerfile, options, &image)
    }

    fn image(&self, images: &Images, name: &str, platform: &Platform, announcer: &Announcer<'_>) -> Result<KnownImage> {
        let key = (name.to_owned(), platform.clone());
        let known = |image: &BaseImage| KnownImage { resolved: image.resolved.clone(), config: image.config.clone() };
        if let Some(image) = images.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known(image));
        }
        let started = Instant::now();
        let step =
            announcer.planned(&[StepTitle { name: format!("[internal] load metadata for {name}"), lines: None }]);
        self.progress.event(Event::Started(step));
        let image = self.executor.image(&WantedImage { name, platform, step }).map_err(|error| {
            let error = Error::from(error);
            let text = crate::error::text(&error);
            self.progress.event(Event::Failed { step, error: &text, took: started.elapsed() });
            error
        })?;
        self.progress.event(Event::Done { step, took: started.elapsed() });
        Ok(known(images.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(image)))
    }
}

type Images = Mutex<BTreeMap<(String, Platform), BaseImage>>;

pub(crate) fn options<'r>(request: &'r BuildRequest, platform: &Platform) -> Result<PlanOptions<'r>> {
    let epoch = match request.arguments.get(EPOCH) {
        None => None,
        Some(text) => {
            Some(text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).ok_or_else(|| {
                let problem = Problem::Value { what: EPOCH, value: text.clone() };
                Error::Dockerfile { lines: Lines::default(), problem }
            })?)
        }
    };
    Ok(PlanOptions {
        target: request.target.as_deref(),
        arguments: request.arguments.clone(),
        labels: &request.labels,
        platform: platform.clone(),
        network: request.network,
        contexts: request.contexts.clone(),
        allow: request.allow.clone(),
        times: epoch.map_or(request.times, Times::At),
    })
}
