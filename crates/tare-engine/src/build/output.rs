//! Where the result of a build goes, and which results of other places it may use.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use tare_spec::Reference;

/// What is done with the result of a build beyond keeping it in the cache.
#[derive(Debug, Default)]
pub struct OutputRequest {
    /// Each of them, in order; none: nothing.
    pub outputs: Vec<Output>,
    /// `--cache-to`: where the steps of this build are put for others.
    pub cache_to: Vec<CacheTo>,
}

/// Takes an archive, from its beginning to its end and only once.
pub type Sink = Mutex<Box<dyn Write + Send>>;

/// One place for the result.
pub enum Output {
    /// The store: an image with the names of the request, or without any; of several platforms an index.
    Store,
    /// The files of the result in this folder, which is made when it is not there. What is in it already stays.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Whether each platform gets a folder of its own (`linux_arm64`); absent: where there are several.
        split: Option<bool>,
    },
    /// The files of the result as a tar archive.
    Tar {
        /// Takes it.
        to: Sink,
        /// As of a folder.
        split: Option<bool>,
    },
    /// The image as a layout.
    Layout {
        /// Whose.
        form: LayoutForm,
        /// The names that it has in there.
        names: Vec<Reference>,
        /// Where.
        to: LayoutTarget,
    },
}

/// Whose form a layout has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutForm {
    /// OCI's.
    Oci,
    /// Docker's as of `docker save`, for one platform only.
    Docker,
}

/// Where a layout is written.
pub enum LayoutTarget {
    /// A folder, made when it is not there.
    Folder(PathBuf),
    /// A tar archive.
    Tar(Sink),
}

/// Where steps are put for other builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheTo {
    /// A registry.
    Registry {
        /// The name that they get there.
        reference: Reference,
        /// Whether those of all stages go there, not only those that are part of the result (`mode=max`).
        all: bool,
    },
    /// A folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// As of a registry.
        all: bool,
    },
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("Store"),
            Self::Folder { path, split } => f.debug_struct("Folder").field("path", path).field("split", split).finish(),
            Self::Tar { split, .. } => f.debug_struct("Tar").field("split", split).finish_non_exhaustive(),
            Self::Layout { form, names, to } => {
                f.debug_struct("Layout").field("form", form).field("names", names).field("to", to).finish()
            }
        }
    }
}

impl fmt::Debug for LayoutTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Self::Tar(_) => f.write_str("Tar"),
        }
    }
}
