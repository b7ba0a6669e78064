//! Looking at a build without building: what is probably not meant, and what the context has.

use crate::build::{Builder, Text};
use crate::context::{Context, failed};
use crate::dockerfile::{Dockerfile, Warning, parse};
use crate::error::{Error, Result};
use crate::files::Source;
use crate::plan::{KnownImage, plan};
use crate::request::BuildRequest;
use rustix::fs::FileType;
use std::cell::Cell;
use tare_spec::Platform;
use tare_spec::image::ImageConfig;
use tare_sys::directory::Directory;

/// What looking at a Dockerfile tells.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The Dockerfile.
    pub source: Text,
    /// What it says.
    pub dockerfile: Dockerfile,
    /// What is probably not meant, in the order of lines.
    pub warnings: Vec<Warning>,
}

/// A file of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile {
    /// Its path in the context.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Line and text of the rule that leaves it out.
    pub ignored_by: Option<(usize, String)>,
}

/// How deep folders are looked into: deeper than trees of people are.
const DEPTH: usize = 256;

impl Builder<'_> {
    /// Reads the Dockerfile and plans it, with the configurations of those images that the store has.
    ///
    /// # Errors
    /// As [`Builder::build`], without those of building.
    pub fn look(&self, request: &BuildRequest) -> std::result::Result<Looked, Box<crate::BuildFailure>> {
        let _lease = self.store.lease().map_err(Error::from)?;
        let context = Context::open(self.store, self.executor, request)?;
        let look = || {
            let dockerfile = parse(&context.dockerfile.text)?;
            let platform = request.platforms.first().cloned().unwrap_or_else(Platform::host);
            let options = crate::build::options(request, &platform)?;
            let complete = Cell::new(true);
            let images = |name: &str, _: &Platform| {
                let config = self.store.resolve_without_names(name).map(|image| image.config);
                complete.set(complete.get() && config.is_ok());
                // Without its image a variable of it seems undefined: such warnings are left out below.
                Ok(KnownImage { resolved: name.to_owned(), config: config.unwrap_or_else(|_| ImageConfig::default()) })
            };
            let planned = plan(&dockerfile, &options, &images)?.warnings;
            let known = planned.into_iter().filter(|warning| complete.get() || warning.check != "UndefinedVar");
            let mut warnings: Vec<Warning> = dockerfile.warnings.iter().cloned().chain(known).collect();
            warnings.sort_by_key(|warning| warning.lines);
            warnings.dedup();
            Ok((dockerfile, warnings))
        };
        match look() {
            Ok((dockerfile, warnings)) => Ok(Looked { source: context.dockerfile, dockerfile, warnings }),
            Err(error) => Err(Box::new(crate::BuildFailure { error, dockerfile: Some(context.dockerfile) })),
        }
    }

    /// All files of the context, sorted, with the rule that leaves each out.
    ///
    /// # Errors
    /// Of opening and reading the context.
    pub fn context_files(&self, request: &BuildRequest) -> Result<Vec<ContextFile>> {
        let _lease = self.store.lease()?;
        let context = Context::open(self.store, self.executor, request)?;
        let mut files = Vec::new();
        if let Some(source) = context.source(None) {
            list(&source, source.root, &mut Vec::new(), 0, &mut files)?;
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }
}

fn list(
    source: &Source<'_>,
    folder: &Directory,
    path: &mut Vec<u8>,
    depth: usize,
    files: &mut Vec<ContextFile>,
) -> Result<()> {
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    if depth > DEPTH {
        return Ok(());
    }
    let length = path.len();
    for name in folder.names().map_err(failed(&shown(path)))? {
        path.truncate(length);
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_encoded_bytes());
        // Gone since the folder was listed.
        let Some(metadata) = folder.metadata(&name).map_err(failed(&shown(path)))? else { continue };
        if metadata.file_type == FileType::Directory {
            let child = folder.child(&name).map_err(failed(&shown(path)))?;
            list(source, &child, path, depth + 1, files)?;
            continue;
        }
        let verdict = source.ignore.map(|ignore| ignore.verdict(path));
        let rule = verdict.filter(|verdict| verdict.ignored).and_then(|verdict| verdict.rule);
        let ignored_by = rule.map(|rule| (rule.line, rule.text.clone()));
        files.push(ContextFile { path: shown(path), size: metadata.size, ignored_by });
    }
    path.truncate(length);
    Ok(())
}
