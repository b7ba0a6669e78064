//! The image that is built into the program, so that the first container needs no registry.
//!
//! Its files are in `images/hello`; its server was compiled together with this crate.

use crate::build::{BuildFailure, Builder};
use crate::cache::Key;
use crate::executor::{
    BaseImage, Checkout, Executor, ExecutorError, Fetched, Finished, Folders, GitSource, Output, Process, WantedImage,
};
use crate::progress::{Announcer, Event, Progress, StepId};
use crate::request::{BuildRequest, CacheFrom, ContextSource, DockerfileSource, Times};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, ErrorKind, ImageId, Reference};
use tare_store::Store;
use tare_store::tar::{Kind, Member, Time, Writer};

/// The server, a static program for this machine.
const SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/server"));
const DOCKERFILE: &str = include_str!("../../../images/hello/Dockerfile");
/// 2026-11-01T00:00:00Z. The same for everyone, so that the same server makes the same image.
const CREATED: jiff::Timestamp = jiff::Timestamp::constant(1_793_491_200, 0);

/// Builds the image and names it `docker.io/library/hello:latest`. Idempotent: the same program always makes
/// the same image.
///
/// # Errors
/// [`crate::Error::Store`].
pub fn install(store: &Store, folders: &Folders) -> Result<ImageId, Box<BuildFailure>> {
    let reference = Reference::parse("hello:latest").expect("a plain name with a tag is a reference");
    let request = BuildRequest {
        context: ContextSource::Archive(Mutex::new(Box::new(std::io::Cursor::new(context())))),
        dockerfile: DockerfileSource::Text(DOCKERFILE.to_owned()),
        names: vec![reference],
        times: Times::At(CREATED),
        ..BuildRequest::default()
    };
    let announcer = &Announcer::new(&Nobody);
    let built = Builder { store, executor: &Nobody, folders, announcer, keep: true }.build(&request)?;
    let (_, image) = built.images.into_iter().next().expect("a build of one platform makes one image");
    Ok(image.id)
}

/// An archive with the server.
fn context() -> Vec<u8> {
    let member = Member {
        path: b"server".to_vec(),
        kind: Kind::File,
        link: Vec::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: CREATED.as_second(), nanoseconds: 0 },
        size: SERVER.len() as u64,
        device: (0, 0),
        attributes: BTreeMap::new(),
    };
    let mut writer = Writer::new(Vec::with_capacity(SERVER.len() + 4096));
    let written = writer.append(&member, &mut &SERVER[..]).and_then(|()| writer.finish());
    written.expect("a vector takes everything")
}

/// Needs no processes and no network, and tells nobody.
struct Nobody;

impl Progress for Nobody {
    fn event(&self, _: Event<'_>) {}
}

fn refused<T>() -> Result<T, ExecutorError> {
    Err(ExecutorError::new(ErrorKind::NotImplemented, "the built-in image needs neither processes nor the network"))
}

impl Executor for Nobody {
    fn image(&self, _: &WantedImage<'_>) -> Result<BaseImage, ExecutorError> {
        refused()
    }

    fn run(&self, _: &Process<'_>, _: Output<'_>) -> Result<Finished, ExecutorError> {
        refused()
    }

    fn cancel(&self) {}

    fn is_cancelled(&self) -> bool {
        false
    }

    fn fetch(&self, _: &str) -> Result<Fetched, ExecutorError> {
        refused()
    }

    fn checkout(&self, _: &GitSource) -> Result<Checkout, ExecutorError> {
        refused()
    }

    fn import(&self, _: &CacheFrom) -> Result<Vec<(Key, DiffId)>, ExecutorError> {
        refused()
    }

    fn import_layer(&self, _: &CacheFrom, _: &DiffId, _: StepId) -> Result<Descriptor, ExecutorError> {
        refused()
    }
}
