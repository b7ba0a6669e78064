//! Layers as one tree to look into.

use crate::error::{Error, Result};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tare_spec::DiffId;
use tare_store::{Mounted, Store};
use tare_sys::directory::Directory;

/// The files of some layers over each other, there while this lives; no path leads to them.
pub(crate) struct View {
    /// Absent when there are no layers.
    root: Option<Directory>,
    _mount: Option<OwnedFd>,
    mounted: Mounted,
}

impl View {
    pub(crate) fn new(store: &Store, layers: &[DiffId]) -> Result<Self> {
        let mounted = store.layers().mount(layers)?;
        if mounted.lower_dirs().is_empty() {
            return Ok(Self { root: None, _mount: None, mounted });
        }
        let failed = |source| Error::View { source };
        let mount = tare_sys::mount::overlay(mounted.lower_dirs()).map_err(failed)?;
        let root = Directory::of(&mount).map_err(failed)?;
        Ok(Self { root: Some(root), _mount: Some(mount), mounted })
    }

    pub(crate) fn root(&self) -> Option<&Directory> {
        self.root.as_ref()
    }

    /// The directories of the layers, the top one first.
    pub(crate) fn lower_dirs(&self) -> &[PathBuf] {
        self.mounted.lower_dirs()
    }
}
