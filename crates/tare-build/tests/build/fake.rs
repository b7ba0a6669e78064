//! A store of its own, and an executor that starts no processes: what RUN does is a function of the test.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tare_build::cache::Key;
use tare_build::executor::{
    BaseImage, Checkout, Executor, ExecutorError, Fetched, Finished, Folders, GitSource, Output, Process, WantedImage,
};
use tare_build::progress::{Announcer, Event, Progress, StepId, StepTitle};
use tare_build::request::{BuildRequest, CacheFrom, ContextSource, DockerfileSource};
use tare_build::{BuildFailure, Builder, Built};
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, ErrorKind};
use tare_store::tar::{Kind, Member, Time, Writer};
use tare_store::{ImageRecord, Store, StoreOptions};

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// What RUN does; the result is its exit code.
type Act<'a> = dyn Fn(&Doing<'_>) -> u8 + Sync + 'a;

/// A step of a cache: its layer, and the archive of that unless it is gone.
type Told = (Key, DiffId, Option<Vec<u8>>);

/// A RUN under way.
pub(crate) struct Doing<'a> {
    pub(crate) process: &'a Process<'a>,
    /// The folder that its changes go to.
    pub(crate) upper: &'a Path,
    /// Comes when the build has failed elsewhere.
    pub(crate) cancelled: &'a Flag,
}

impl Doing<'_> {
    /// The last argument.
    pub(crate) fn last(&self) -> &str {
        self.process.args.last().unwrap()
    }
}

/// Something that happens once, and that others wait for.
#[derive(Default)]
pub(crate) struct Flag(Mutex<bool>, Condvar);

impl Flag {
    pub(crate) fn set(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.lock().unwrap()
    }

    #[track_caller]
    pub(crate) fn wait(&self) {
        let (is_set, _) = self.1.wait_timeout_while(self.0.lock().unwrap(), PATIENCE, |is_set| !*is_set).unwrap();
        assert!(*is_set, "it never came");
    }
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) folders: Folders,
}

pub(crate) struct Fake<'a> {
    world: &'a World,
    act: &'a Act<'a>,
    files: BTreeMap<String, Vec<u8>>,
    /// What every cache that is asked knows.
    pub(crate) elsewhere: Option<Vec<Told>>,
    /// The last argument of each process that ran.
    pub(crate) ran: Mutex<Vec<String>>,
    pub(crate) cancelled: Flag,
}

/// Remembers what happened to steps, in the words of their titles.
#[derive(Default)]
pub(crate) struct Recorder {
    titles: Mutex<Vec<String>>,
    lines: Mutex<Vec<String>>,
    /// Told of each line.
    told: Condvar,
    /// Comes when a step waits for another build.
    waiting: Arc<Flag>,
}

impl World {
    /// `None` where the tests cannot run: layers need root's rights.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("TARE_REQUIRE_ROOT").as_deref(), Ok("1"), "this test needs root");
            eprintln!("skipped: needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let store = Store::open(&StoreOptions::new(&root, folder.path().join("mounts"))).unwrap();
        let folders = Folders::new(&root);
        Some(Self { folder, store, folders })
    }

    /// Builds with nobody listening.
    pub(crate) fn build(&self, executor: &Fake<'_>, request: &BuildRequest) -> Result<Built, Box<BuildFailure>> {
        self.build_told(executor, request, &Recorder::default())
    }

    pub(crate) fn build_told(
        &self,
        executor: &Fake<'_>,
        request: &BuildRequest,
        progress: &Recorder,
    ) -> Result<Built, Box<BuildFailure>> {
        let announcer = &Announcer::new(progress);
        Builder { store: &self.store, executor, folders: &self.folders, announcer, keep: true }.build(request)
    }

    /// Builds without processes.
    pub(crate) fn image(&self, request: &BuildRequest) -> ImageRecord {
        self.record(&self.build(&self.fake(&|_| 1), request).unwrap())
    }

    pub(crate) fn record(&self, built: &Built) -> ImageRecord {
        self.store.find(&built.images[0].1.id.to_string()).unwrap()
    }

    /// The text of an error of a build without processes.
    pub(crate) fn error(&self, request: &BuildRequest) -> (String, ErrorKind) {
        let error = self.build(&self.fake(&|_| 1), request).unwrap_err().error;
        (error.to_string(), error.kind())
    }

    pub(crate) fn fake<'a>(&'a self, act: &'a Act<'a>) -> Fake<'a> {
        Fake {
            world: self,
            act,
            files: BTreeMap::new(),
            elsewhere: None,
            ran: Mutex::default(),
            cancelled: Flag::default(),
        }
    }

    /// A file of the result, by its layers.
    pub(crate) fn read(&self, image: &ImageRecord, path: &str) -> Option<String> {
        let mounted = self.store.layers().mount(&image.layers).unwrap();
        mounted.lower_dirs().iter().find_map(|layer| fs::read_to_string(layer.join(path)).ok())
    }
}

impl<'a> Fake<'a> {
    /// What is behind a URL.
    pub(crate) fn serving(mut self, url: &str, contents: &[u8]) -> Self {
        self.files.insert(url.to_owned(), contents.to_vec());
        self
    }

    /// What ran since this was asked last, sorted.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.ran.lock().unwrap());
        ran.sort();
        ran
    }
}

impl Recorder {
    /// One that sets this when a step waits for another build.
    pub(crate) fn telling(waiting: &Arc<Flag>) -> Self {
        Self { waiting: Arc::clone(waiting), ..Self::default() }
    }

    /// The lines since this was asked last, sorted: several steps go on at once.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut lines = std::mem::take(&mut *self.lines.lock().unwrap());
        lines.sort();
        lines
    }

    /// Returns when so many waits have begun since lines were taken last.
    #[track_caller]
    pub(crate) fn await_waits(&self, count: usize) {
        let missing =
            |lines: &mut Vec<String>| lines.iter().filter(|line| line.starts_with("waiting ")).count() < count;
        let lines = self.lines.lock().unwrap();
        let (lines, waited) = self.told.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "fewer than {count} waits: {lines:?}");
    }

    fn title(&self, step: StepId) -> String {
        self.titles.lock().unwrap()[step].clone()
    }
}

impl Progress for Recorder {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Planned(titles) => {
                let names = titles.iter().map(|StepTitle { name, .. }| name.clone());
                return self.titles.lock().unwrap().extend(names);
            }
            Event::Cached(step) => format!("cached {}", self.title(step)),
            Event::Waiting { step, what } => {
                self.waiting.set();
                format!("waiting {} for {what}", self.title(step))
            }
            Event::Done { step, .. } => format!("done {}", self.title(step)),
            Event::Failed { step, error, .. } => format!("failed {}: {error}", self.title(step)),
            Event::Cancelled(step) => format!("cancelled {}", self.title(step)),
            Event::Output { bytes, .. } => format!("output {}", String::from_utf8_lossy(bytes)),
            Event::Warning(warning) => format!("warning {}", warning.check),
            Event::Started(_) | Event::Bytes { .. } => return,
        };
        self.lines.lock().unwrap().push(line);
        self.told.notify_all();
    }
}

impl Executor for Fake<'_> {
    fn image(&self, wanted: &WantedImage<'_>) -> Result<BaseImage, ExecutorError> {
        let missing = |error| ExecutorError::new(ErrorKind::NotFound, error);
        let store = &self.world.store;
        let image = store.find(wanted.name).map_err(missing)?;
        let manifest = store.manifest(&image.manifest).unwrap();
        let lease = store.lease().unwrap();
        let ImageRecord { manifest: digest, config, .. } = image;
        Ok(BaseImage { resolved: wanted.name.to_owned(), manifest: digest, config, layers: manifest.layers, lease })
    }

    fn run(&self, process: &Process<'_>, output: Output<'_>) -> Result<Finished, ExecutorError> {
        let last = process.args.last().unwrap().clone();
        output(false, last.as_bytes());
        let scratch = tempfile::tempdir_in(self.world.folder.path()).unwrap();
        let upper = scratch.path().join("upper");
        fs::create_dir(&upper).unwrap();
        self.ran.lock().unwrap().push(last);
        let exit_code = (self.act)(&Doing { process, upper: &upper, cancelled: &self.cancelled });
        if self.cancelled.is_set() {
            return Err(ExecutorError::new(ErrorKind::Cancelled, "cancelled"));
        }
        Ok(Finished { exit_code, out_of_memory: false, upper, scratch: Box::new(scratch) })
    }

    fn cancel(&self) {
        self.cancelled.set();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.is_set()
    }

    fn fetch(&self, url: &str) -> Result<Fetched, ExecutorError> {
        let missing = || ExecutorError::new(ErrorKind::NotFound, format!("{url}: 404"));
        let contents = self.files.get(url).ok_or_else(missing)?;
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, contents).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Ok(Fetched { file, name: url.rsplit('/').next().unwrap().to_owned() })
    }

    fn checkout(&self, git: &GitSource) -> Result<Checkout, ExecutorError> {
        let scratch = tempfile::tempdir_in(self.world.folder.path()).unwrap();
        fs::write(scratch.path().join("remote"), &git.remote).unwrap();
        let folder: PathBuf = scratch.path().to_owned();
        Ok(Checkout { folder, commit: "0".repeat(40), scratch: Box::new(scratch) })
    }

    fn import(&self, cache: &CacheFrom) -> Result<Vec<(Key, DiffId)>, ExecutorError> {
        let missing = || ExecutorError::new(ErrorKind::NotFound, format!("{cache}: 404"));
        Ok(self
            .elsewhere
            .as_ref()
            .ok_or_else(missing)?
            .iter()
            .map(|(key, layer, _)| (key.clone(), layer.clone()))
            .collect())
    }

    fn import_layer(&self, _: &CacheFrom, layer: &DiffId, _: StepId) -> Result<Descriptor, ExecutorError> {
        let known = self.elsewhere.iter().flatten().find(|(_, known, _)| known == layer).unwrap();
        let gone = || ExecutorError::new(ErrorKind::NotFound, "404");
        let mut archive = known.2.as_deref().ok_or_else(gone)?;
        let (descriptor, actual) = self.world.store.ingest_layer(&mut archive, false).unwrap();
        assert_eq!(actual, *layer);
        Ok(descriptor)
    }
}

/// A build of this Dockerfile with files in memory. Paths with a slash at the end are folders.
pub(crate) fn request(dockerfile: &str, files: &[(&str, &str)]) -> BuildRequest {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, *text, 0o644)).collect();
    request_with(dockerfile, &archive(&files))
}

pub(crate) fn request_with(dockerfile: &str, archive: &[u8]) -> BuildRequest {
    BuildRequest {
        context: ContextSource::Archive(Mutex::new(Box::new(Cursor::new(archive.to_vec())))),
        dockerfile: DockerfileSource::Text(dockerfile.to_owned()),
        ..BuildRequest::default()
    }
}

/// The same with a folder.
pub(crate) fn request_in(dockerfile: &str, folder: &Path) -> BuildRequest {
    BuildRequest {
        context: ContextSource::Folder(folder.to_owned()),
        dockerfile: DockerfileSource::Text(dockerfile.to_owned()),
        ..BuildRequest::default()
    }
}

/// An archive of files with these contents and modes.
pub(crate) fn archive(files: &[(&str, &str, u32)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, text, mode) in files {
        let member = Member {
            path: path.as_bytes().to_vec(),
            kind: if path.ends_with('/') { Kind::Directory } else { Kind::File },
            link: Vec::new(),
            mode: *mode,
            uid: 7,
            gid: 8,
            mtime: Time { seconds: 1_000_000_000, nanoseconds: 0 },
            size: text.len() as u64,
            device: (0, 0),
            attributes: BTreeMap::new(),
        };
        writer.append(&member, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}
