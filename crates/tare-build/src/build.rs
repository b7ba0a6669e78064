//! A build from its request to an image.

use crate::assemble::{BuiltImage, assemble, assemble_index};
use crate::cache::{Cache, CachedStep, Record};
use crate::context::Context;
use crate::dockerfile::{Dockerfile, Lines, Problem, Warning, parse};
use crate::elsewhere::Elsewhere;
use crate::error::{Error, Result};
use crate::executor::{BaseImage, Executor, Folders, WantedImage};
use crate::explain::{StepReport, explain};
use crate::plan::{Action, KnownImage, Plan, PlanOptions, base_images, plan};
use crate::progress::{Announcer, Event, Progress, StepId, StepTitle};
use crate::request::{BuildRequest, Times};
use crate::solve::{Layer, Outcome, Solver};
use crate::squash::squash;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use tare_spec::image::{BuildStep, Descriptor};
use tare_spec::{Platform, Reference};
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
    pub announcer: &'a Announcer<'a>,
    /// Whether the result becomes an image of the store; else the caller's lease is all that keeps it.
    pub keep: bool,
}

/// What a build came to.
#[derive(Clone, Debug)]
pub struct Built {
    /// One image a platform, in the order they were asked for.
    pub images: Vec<(Platform, BuiltImage)>,
    /// What names all of them, where there are several.
    pub index: Option<Descriptor>,
    /// What became of the steps.
    pub steps: Vec<StepReport>,
    /// What is probably not meant.
    pub warnings: Vec<Warning>,
    /// Whether all of it was known.
    pub cached: bool,
    /// The steps that made layers, of all platforms.
    pub cached_steps: Vec<CachedStep>,
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
        let announcer = self.announcer;
        let title =
            StepTitle { name: format!("[internal] load build definition from {}", request.dockerfile), lines: None };
        let step = announcer.planned(&[title]);
        let context = announcer.carry_out(step, || Context::open(self.store, self.executor, request))?;
        let built = self.build_text(request, &cache, &context);
        built.map_err(|error| Box::new(BuildFailure { error, dockerfile: Some(context.dockerfile) }))
    }

    fn build_text(&self, request: &BuildRequest, cache: &Cache, context: &Context) -> Result<Built> {
        let announcer = self.announcer;
        let dockerfile = parse(&context.dockerfile.text)?;
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in &request.platforms {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        let elsewhere = Elsewhere::ask(self.executor, &request.cache_from, announcer);
        let mut built = Built {
            images: Vec::new(),
            index: None,
            steps: Vec::new(),
            warnings: dockerfile.warnings.clone(),
            cached: true,
            cached_steps: Vec::new(),
            dockerfile: context.dockerfile.clone(),
        };
        for platform in platforms {
            let options = options(request, &platform)?;
            let images = Mutex::new(BTreeMap::new());
            let mut plan = self.plan(&dockerfile, &options, &images, announcer)?;
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
                progress: announcer,
                request,
                context,
                cache,
                elsewhere: &elsewhere,
                folders: self.folders,
                images: &images,
                plan: &plan,
            };
            let outcomes = solver.solve()?;
            built.cached &= outcomes.iter().all(|outcome| outcome.cached);
            built.steps.extend(explain(self.folders, request, &platform, &plan, &outcomes)?);
            let layers: Vec<Layer> = plan.target.step.map(|step| outcomes[step].layers.clone()).unwrap_or_default();
            let steps = cached_steps(&plan, &outcomes);
            let layers = match request.squash {
                true => squash(self.store, cache, &mut plan, &outcomes, layers)?,
                false => layers,
            };
            let inline = if request.inline_cache { inline(&steps, &layers) } else { Vec::new() };
            let image = assemble(self.store, &plan.target, layers, inline)?;
            built.cached_steps.extend(steps);
            built.images.push((platform, image));
        }
        if built.images.len() > 1 {
            built.index = Some(assemble_index(self.store, &built.images)?);
        }
        if self.keep {
            self.record(&built, &request.names)?;
        }
        built.warnings.sort_by_key(|warning| warning.lines);
        built.warnings.dedup();
        built.warnings.iter().for_each(|warning| announcer.event(Event::Warning(warning)));
        Ok(built)
    }

    /// Makes it an image of the store, with its names. Those for other platforms are there without a name.
    fn record(&self, built: &Built, names: &[Reference]) -> Result<()> {
        let step = self.announcer.planned(&[StepTitle { name: "exporting to image".to_owned(), lines: None }]);
        self.announcer.carry_out(step, || {
            let tell = |line: String| {
                self.announcer.event(Event::Output { step, stderr: false, bytes: format!("{line}\n").as_bytes() });
            };
            let index = built.index.as_ref().map(|index| &index.digest);
            let of_host = built.images.iter().position(|(platform, _)| platform.matches(&Platform::host()));
            let named = of_host.unwrap_or(0);
            for (platform, image) in &built.images {
                if built.images.len() > 1 {
                    tell(format!("writing image {} for {platform}", image.id));
                } else {
                    tell(format!("writing image {}", image.id));
                }
            }
            // First what has the names: without it the others would be nobody's.
            self.store.put_named_image(&built.images[named].1.manifest.digest, index, names)?;
            for (_, (_, image)) in built.images.iter().enumerate().filter(|(place, _)| *place != named) {
                self.store.put_image(&image.manifest.digest, index)?;
            }
            names.iter().for_each(|name| tell(format!("naming to {name}")));
            Ok(())
        })
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
                    image(&name, &platform).map(drop).map_err(|error| {
                        // Without it there is nothing to build: the others need not come.
                        self.executor.cancel();
                        error.of_image(&name, lines)
                    })
                };
                let fetching: Vec<_> = wanted.into_iter().map(|wanted| scope.spawn(move || fetch(wanted))).collect();
                let joined = fetching.into_iter().map(|one| one.join().expect("a thread that panicked has said why"));
                // Wait for all, tell the first failure, not what was given up because of it.
                let mut failures: Vec<Error> = joined.filter_map(Result::err).collect();
                failures.sort_by_key(Error::is_cancelled);
                failures.into_iter().next().map_or(Ok(()), Err)
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
        let step =
            announcer.planned(&[StepTitle { name: format!("[internal] load metadata for {name}"), lines: None }]);
        let wanted = WantedImage { name, platform, step };
        let image = announcer.carry_out(step, || self.executor.image(&wanted))?;
        Ok(known(images.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(image)))
    }
}

/// The steps that made layers, by what made them.
fn cached_steps(plan: &Plan, outcomes: &[Outcome]) -> Vec<CachedStep> {
    let chain: BTreeSet<StepId> = std::iter::successors(plan.target.step, |step| plan.steps[*step].parent).collect();
    let steps = plan.steps.iter().zip(outcomes).enumerate();
    let made = steps.filter(|(_, (step, _))| !matches!(step.action, Action::Image { .. }));
    made.filter_map(|(id, (step, outcome))| {
        let Layer { descriptor, diff_id } = outcome.layers.last()?.clone();
        let record = Record::new(outcome.parts.key(), descriptor, diff_id, &step.title.name);
        Some(CachedStep { record, in_result: chain.contains(&id) })
    })
    .collect()
}

/// Which step made which layer of a result.
fn inline(steps: &[CachedStep], layers: &[Layer]) -> Vec<BuildStep> {
    let of_result = steps.iter().filter(|step| step.in_result);
    of_result
        .filter_map(|step| {
            // Of equal layers, any is as good.
            let layer = layers.iter().rposition(|layer| layer.diff_id == step.record.diff_id)?;
            Some(BuildStep { key: step.record.key.digest().clone(), layer })
        })
        .collect()
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
        // One that is named twice is one.
        several: request.platforms.iter().any(|other| other != platform),
        network: request.network,
        contexts: request.contexts.clone(),
        allow: request.allow.clone(),
        times: epoch.map_or(request.times, Times::At),
    })
}
