//! Images for several platforms: one of them has the names, and the others are found through the index that all of them have.

use super::ImageSummary;
use std::collections::BTreeSet;
use tare_spec::Digest;
use tare_spec::image::{Index, MANIFEST_LIMIT};
use tare_store::Store;

/// An image as it takes part in an index.
pub(crate) trait Part {
    /// Whether it has a name of its own.
    fn is_named(&self) -> bool;
    /// The index that names it.
    fn index(&self) -> Option<&Digest>;
    /// Its manifest.
    fn manifest(&self) -> &Digest;
}

impl Part for ImageSummary {
    fn is_named(&self) -> bool {
        !self.tags.is_empty() || !self.digests.is_empty()
    }

    fn index(&self) -> Option<&Digest> {
        self.index.as_ref()
    }

    fn manifest(&self) -> &Digest {
        &self.manifest
    }
}

impl Part for tare_store::ImageSummary {
    fn is_named(&self) -> bool {
        !self.references.is_empty() || !self.repo_digests.is_empty()
    }

    fn index(&self) -> Option<&Digest> {
        self.index.as_ref()
    }

    fn manifest(&self) -> &Digest {
        &self.manifest
    }
}

/// The indexes of images that have names: what else they name belongs to those images.
pub(crate) fn named_indexes<P: Part>(images: &[P]) -> BTreeSet<Digest> {
    images.iter().filter(|image| image.is_named()).filter_map(|image| image.index().cloned()).collect()
}

/// Whether an image has no name because another one of its index has it.
pub(crate) fn is_part<P: Part>(image: &P, named: &BTreeSet<Digest>) -> bool {
    !image.is_named() && image.index().is_some_and(|index| named.contains(index))
}

/// What an index names, in its order, if all of that is here: who pulls gets one platform of it only.
pub(crate) fn whole<'a, P: Part>(store: &Store, images: &'a [P], index: &Digest) -> Option<(Index, Vec<&'a P>)> {
    // Without it, or damaged: `system check` tells.
    let document = Index::parse(&store.blob(index, MANIFEST_LIMIT).ok()?, None).ok()?;
    let find = |digest: &Digest| images.iter().find(|image| image.manifest() == digest);
    let parts: Option<Vec<&P>> = document.manifests.iter().map(|entry| find(&entry.digest)).collect();
    parts.map(|parts| (document, parts))
}
