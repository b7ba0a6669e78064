//! Dockerfiles to images: a parser with positions, a plan of plain data, and the assembly of layers,
//! configuration and manifest.
//!
//! What is taken so far is what an image from nothing needs: `FROM scratch`, `COPY`, `ENV`, `LABEL`, `EXPOSE`,
//! `CMD`, `ENTRYPOINT`, `WORKDIR`, `USER`, `STOPSIGNAL`. Everything else is refused by its name and line, never
//! ignored.

mod assemble;
mod change;
mod context;
pub mod dockerfile;
mod error;
pub mod hello;
mod plan;

pub use change::change;
pub use context::Context;
pub use error::{Error, Result};
pub use plan::{Action, Plan, Step, plan};

use jiff::Timestamp;
use tare_spec::{ImageId, Reference};
use tare_store::Store;

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildRequest<'a> {
    /// The Dockerfile's text.
    pub dockerfile: &'a str,
    /// The files that it may copy.
    pub context: Context,
    /// The name that the image gets.
    pub reference: Option<&'a Reference>,
    /// The time that everything in the image carries; the same request at the same time gives the same image.
    pub created: Timestamp,
}

/// Builds an image into the store.
///
/// # Errors
/// [`Error`]; nothing is named then, and finished layers are left for the next collection.
pub fn build(store: &Store, request: &BuildRequest<'_>) -> Result<ImageId> {
    let plan = plan(request.dockerfile)?;
    let files =
        request.context.open().map_err(|source| Error::Context { action: "open", path: ".".to_owned(), source })?;
    if files.has_ignore_file() {
        return Err(Error::Ignore);
    }
    let _lease = store.lease()?;
    assemble::assemble(store, &plan, &files, request.created, request.reference)
}
