//! The files that COPY and ADD move: which of a tree are meant, what they are as far as a build's result depends on it, and how
//! they become the members of a layer.
//!
//! Two passes over the same plain data: `select` walks the source, and its `Selection` has a digest that is part of the step's
//! cache key; only when no such step was ever built, a `Copier` reads the files again and writes the layer.
//! Sources and images are hostile: every path is resolved inside its [`Directory`].

mod archive;
mod chmod;
mod copier;
mod error;
mod fingerprint;
mod ignore;
mod known;
mod overlay;
mod owner;
mod pattern;
mod resolve;
mod select;
mod tree;
mod walk;

pub use archive::ArchiveError;
pub use copier::Copier;
pub use error::{FilesError, Hidden};
pub use fingerprint::{FileStamp, Fingerprint, KnownContents};
pub use ignore::{Ignore, InvalidIgnore, Rule, Verdict};
pub use known::ContentCache;
pub use owner::{OwnerError, resolve_owner};
pub use pattern::InvalidPattern;
pub use select::{Entry, Item, Selection, Unmatched, select};
pub use tree::copy_tree;

use serde::Serialize;
use tare_store::tar::Time;
use tare_sys::directory::Directory;

/// A tree that files are copied from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its root. Nothing outside is ever read, wherever symbolic links point.
    pub root: &'a Directory,
    /// What becomes of owners, times and attributes.
    pub kind: SourceKind,
    /// What of it is not there for COPY and ADD.
    pub ignore: Option<&'a Ignore>,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Files of a person: they get owner 0:0, the build's time, and no extended attributes. The times count for nothing.
    Context,
    /// The root of a stage or image: owners, times and extended attributes stay, and count.
    Image,
}

/// What a COPY or ADD asks for, variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// Paths and patterns, as written: absolute ones and those with `..` count from the source's root.
    pub sources: Vec<String>,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--parents`: the path up to a source (from `/./` on, if that is in it) is made below the destination, too.
    pub parents: bool,
    /// Whether local archives are unpacked: ADD without `--unpack=false`.
    pub unpack: bool,
}

/// Where and how the files are put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Absolute, in the image, without `.` and `..`.
    pub path: String,
    /// Whether it is a folder to put things into, whatever they are: written with a slash or a dot at its end, or there are several
    /// sources. An existing folder is one in any case.
    pub into: bool,
    /// User and group of all that is copied.
    pub owner: Option<(u32, u32)>,
    /// `--chmod`.
    pub mode: Option<Mode>,
    /// Whether the layer has to fit onto any image: links in the destination's path are not followed (`--link`).
    pub link: bool,
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Twelve bits.
    Bits(u32),
    /// `u=rwX,go=rX`: as chmod(1).
    Symbolic(String),
}

/// A file that does not come from a tree: a here-document, or something fetched.
pub struct Inline {
    /// Its name, no path.
    pub name: String,
    /// Its contents.
    pub contents: InlineContents,
    /// Its permissions.
    pub mode: u32,
    /// Whether it is unpacked if it is an archive.
    pub unpack: bool,
}

/// What is in an [`Inline`].
pub enum InlineContents {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file from its beginning on, which can be read any number of times.
    File(std::fs::File),
}

/// The layer below, as far as a copy depends on it.
pub struct Below<'a> {
    /// The image so far; none when it starts from nothing.
    pub root: Option<&'a Directory>,
    /// The time of everything new that has no time of its own.
    pub time: Time,
}
