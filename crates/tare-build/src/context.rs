//! The files of a build, opened: its context, its Dockerfile and its rules for what is left out.

use crate::build::Text;
use crate::error::{Error, Result};
use crate::executor::{Checkout, Executor};
use crate::files::{Ignore, Source, SourceKind};
use crate::request::{BuildRequest, ContextSource, DockerfileSource, NamedContext};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use tare_store::Store;
use tare_sys::directory::Directory;

/// Far above any Dockerfile (BuildKit takes 2 MiB of its whole definition).
const DOCKERFILE_LIMIT: u64 = 2 << 20;

/// Far above any list of patterns.
const IGNORE_LIMIT: u64 = 1 << 20;

/// An opened context.
pub(crate) struct Context {
    root: Option<Directory>,
    ignore: Option<Ignore>,
    /// Those of `--build-context` that are folders.
    named: BTreeMap<String, (Directory, Option<Ignore>)>,
    /// The Dockerfile.
    pub(crate) dockerfile: Text,
    _holds: Vec<Box<dyn Send + Sync>>,
}

/// What came of opening the source of a context.
#[derive(Default)]
struct Opened {
    root: Option<Directory>,
    /// A URL may lead to a Dockerfile instead.
    dockerfile: Option<String>,
    holds: Vec<Box<dyn Send + Sync>>,
}

impl Context {
    /// Opens what a build is asked for. Contexts that are archives become layers of the store, which the caller's lease keeps.
    pub(crate) fn open(store: &Store, executor: &dyn Executor, request: &BuildRequest) -> Result<Self> {
        let mut opened = open(store, executor, &request.context)?;
        let (dockerfile, rules) = match (opened.dockerfile.take(), &request.dockerfile) {
            (Some(text), _) => (Text { name: "Dockerfile".to_owned(), text }, None),
            (None, DockerfileSource::Text(text)) => (Text { name: "Dockerfile".to_owned(), text: text.clone() }, None),
            (None, DockerfileSource::InContext(path)) => {
                let root = opened.root.as_ref().ok_or_else(|| Error::NoDockerfile { path: path.clone() })?;
                let text = read_inside(root, path, DOCKERFILE_LIMIT)?;
                let text = text.ok_or_else(|| Error::NoDockerfile { path: path.clone() })?;
                let rules = format!("{path}.dockerignore");
                let found = read_inside(root, &rules, IGNORE_LIMIT)?.map(|text| (rules, text));
                (Text { name: path.clone(), text }, found)
            }
            (None, DockerfileSource::Path(path)) => {
                let text = read_path(path, DOCKERFILE_LIMIT)?;
                let text = text.ok_or_else(|| Error::NoDockerfile { path: path.display().to_string() })?;
                let mut rules = path.clone().into_os_string();
                rules.push(".dockerignore");
                let rules = PathBuf::from(rules);
                let found = read_path(&rules, IGNORE_LIMIT)?.map(|text| (rules.display().to_string(), text));
                (Text { name: path.display().to_string(), text }, found)
            }
        };
        let rules = match (rules, &opened.root) {
            (None, Some(root)) => ignore_text(root)?,
            (rules, _) => rules,
        };
        let mut named = BTreeMap::new();
        for (name, context) in &request.contexts {
            let root = match context {
                NamedContext::Image(_) => continue,
                NamedContext::Folder(path) => open_folder(path)?,
                NamedContext::Git(git) => {
                    let (root, hold) = checked_out(executor.checkout(git)?)?;
                    opened.holds.push(hold);
                    root
                }
            };
            let ignore = parse_ignore(ignore_text(&root)?)?;
            named.insert(name.clone(), (root, ignore));
        }
        let Opened { root, holds, .. } = opened;
        Ok(Self { root, ignore: parse_ignore(rules)?, named, dockerfile, _holds: holds })
    }

    /// The context, or one of `--build-context`. `None`: there is nothing in it.
    pub(crate) fn source(&self, name: Option<&str>) -> Option<Source<'_>> {
        let (root, ignore) = match name {
            None => (self.root.as_ref()?, self.ignore.as_ref()),
            Some(name) => self.named.get(name).map(|(root, ignore)| (root, ignore.as_ref()))?,
        };
        Some(Source { root, ignore, kind: SourceKind::Context })
    }
}

fn open(store: &Store, executor: &dyn Executor, source: &ContextSource) -> Result<Opened> {
    match source {
        ContextSource::Empty => Ok(Opened::default()),
        ContextSource::Folder(path) => Ok(Opened { root: Some(open_folder(path)?), ..Opened::default() }),
        ContextSource::Archive(archive) => {
            let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
            archived(store, &mut **archive)
        }
        ContextSource::Url(url) => {
            let mut file = executor.fetch(url)?.file;
            let mut start = [0; 512];
            let count = read_start(&mut file, &mut start).map_err(failed(url))?;
            if is_archive(&start[..count]) {
                return archived(store, &mut file);
            }
            let mut text = String::new();
            let read = file.take(DOCKERFILE_LIMIT + 1).read_to_string(&mut text).map_err(failed(url))?;
            if read as u64 > DOCKERFILE_LIMIT {
                return Err(Error::TooLarge { what: "Dockerfile", path: url.clone(), limit: DOCKERFILE_LIMIT });
            }
            Ok(Opened { dockerfile: Some(text), ..Opened::default() })
        }
        ContextSource::Git(git) => {
            let (root, hold) = checked_out(executor.checkout(git)?)?;
            Ok(Opened { root: Some(root), dockerfile: None, holds: vec![hold] })
        }
    }
}

/// An archive becomes a layer: taking it in is what makes its paths harmless.
fn archived(store: &Store, archive: &mut dyn Read) -> Result<Opened> {
    let layer = store.layers().ingest(archive)?;
    let mounted = store.layers().mount(&[layer.diff_id])?;
    let root = match mounted.layer(0) {
        Some(path) => Some(Directory::open(path).map_err(failed("."))?),
        None => None,
    };
    Ok(Opened { root, dockerfile: None, holds: vec![Box::new(mounted) as Box<dyn Send + Sync>] })
}

fn checked_out(checkout: Checkout) -> Result<(Directory, Box<dyn Send + Sync>)> {
    let root = open_folder(&checkout.folder)?;
    Ok((root, Box::new(Held(std::sync::Mutex::new(checkout.scratch)))))
}

/// Something that is kept for the sake of its end.
struct Held(#[expect(dead_code, reason = "dropping it takes the files away")] std::sync::Mutex<Box<dyn Send>>);

fn open_folder(path: &Path) -> Result<Directory> {
    Directory::open(path).map_err(|source| Error::ContextMissing { path: path.to_owned(), source })
}

fn ignore_text(root: &Directory) -> Result<Option<(String, String)>> {
    const NAME: &str = ".dockerignore";
    Ok(read_inside(root, NAME, IGNORE_LIMIT)?.map(|text| (NAME.to_owned(), text)))
}

fn parse_ignore(rules: Option<(String, String)>) -> Result<Option<Ignore>> {
    let parse = |(name, text): (String, String)| Ignore::parse(&text).map_err(|error| Error::Ignore { name, error });
    rules.map(parse).transpose()
}

/// A file of the context as text; `None` if it is not there.
fn read_inside(root: &Directory, path: &str, limit: u64) -> Result<Option<String>> {
    let relative = path.trim_start_matches('/');
    match root.resolve_file(Path::new(relative)) {
        Ok(file) => read_text(file, path, limit).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path)(source)),
    }
}

fn read_path(path: &Path, limit: u64) -> Result<Option<String>> {
    match File::open(path) {
        Ok(file) => read_text(file, &path.display().to_string(), limit).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(&path.display().to_string())(source)),
    }
}

fn read_text(file: File, path: &str, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed(path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { what: "file", path: path.to_owned(), limit });
    }
    let invalid = |error: std::string::FromUtf8Error| io::Error::new(io::ErrorKind::InvalidData, error);
    String::from_utf8(bytes).map_err(invalid).map_err(failed(path))
}

/// The first bytes of a file, which is at its beginning again then.
fn read_start(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    file.rewind()?;
    Ok(filled)
}

pub(crate) fn failed(path: &str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Context { action: "read", path, source }
}

/// Whether a file that begins like this is an archive, plain or compressed: else it is text.
fn is_archive(start: &[u8]) -> bool {
    // gzip, zstd, bzip2, xz (their specifications' magic numbers); POSIX and GNU tar at byte 257.
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];
    MAGIC.iter().any(|magic| start.starts_with(magic)) || start.get(257..262) == Some(b"ustar")
}
