//! Images as the engine reports them, and what is done with them.

mod check;
mod commit;
mod history;
mod import;
mod list;
mod load;
mod pattern;
pub(crate) mod platforms;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
mod tags;
mod usage;
mod used;

pub use check::{Checked, Damage, Damaged, Repair};
pub use commit::{CommitRequest, Committed};
pub use history::HistoryStep;
pub use import::{ImportRequest, ImportSource};
pub(crate) use list::has_label;
pub use list::{ImageDetails, ImageFilter, ImageSummary};
pub use load::{ArchiveInput, LoadProgress, Loaded};
pub use prune::{Content, ContentKind, ImagePrune, ImagePrunePlan, ImagesPruned};
pub use pull::{PullEvent, PullProgress, PullRequest, Pulled};
pub(crate) use pull::{Remote, registry_error};
pub(crate) use push::{Known, Push, encode};
pub use push::{PushEvent, PushProgress, PushRequest, Pushed};
pub use remove::ImageRemoval;
pub use usage::{ContainerUsage, DiskUsage, ImageUsage, Usage};
pub(crate) use used::UsedLayers;
pub use used::Without;

use crate::engine::Engine;
use crate::error::{Error, Result};
use tare_spec::image::ImageConfig;
use tare_spec::{Digest, ImageId, Reference};
use tare_store::{Found, ImageRecord};

/// An image of the store with all its names.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of its configuration.
    pub id: ImageId,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// `repository:tag` names.
    pub tags: Vec<Reference>,
    /// `repository@digest` names it was pulled by.
    pub digests: Vec<Reference>,
    /// Its configuration.
    pub config: ImageConfig,
    /// Bytes its unpacked layers occupy.
    pub size: u64,
}

impl Engine {
    /// The image that a name, digest or id (or unique prefix of one) stands for.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::Store`] for an ambiguous prefix and for what is no name.
    pub fn image(&self, name: &str) -> Result<Image> {
        Ok(self.find_image(name)?.image.into())
    }

    /// The same for who does not want its names: to collect them the records of all names are read.
    pub(crate) fn image_without_names(&self, name: &str) -> Result<Image> {
        Ok(self.store()?.resolve_without_names(name).map_err(not_found)?.into())
    }

    fn find_image(&self, name: &str) -> Result<Found> {
        self.store()?.resolve(name).map_err(not_found)
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::Reference`], [`Error::InvalidParameter`] for a name with a digest.
    pub fn tag_image(&self, source: &str, target: &str) -> Result<()> {
        let target = Reference::parse(target)?;
        if target.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let found = self.find_image(source)?;
        let index = self.named_index(source, &found.image, found.reference.as_ref())?;
        Ok(self.store()?.tag(&target.with_default_tag(), &found.image.id, index.as_ref())?)
    }
}

fn not_found(error: tare_store::Error) -> Error {
    match error {
        tare_store::Error::ImageNotFound { name } => Error::NoSuchImage { name },
        error => error.into(),
    }
}

impl From<ImageRecord> for Image {
    fn from(record: ImageRecord) -> Self {
        Self {
            id: record.id,
            manifest: record.manifest,
            tags: record.references,
            digests: record.repo_digests,
            config: record.config,
            size: record.size,
        }
    }
}
