//! All layers of a store, each in the form it has.

use super::folder::{Folders, Form, LayerRecord, write_record};
use super::mounts::Mounts;
use super::{LayerInfo, Mounted, Snapshotter, dir, erofs};
use crate::check::digest_of;
use crate::error::{Context, Error, Result};
use crate::layer::{Limits, Source};
use crate::temporary::unique;
use crate::{Backend, StoreOptions};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use tare_spec::DiffId;
use tare_spec::image::{Descriptor, media_type};
use tare_sys::directory::{Directory, remove_tree};

/// What the kernel and the disk can do is tried out once a boot and noted in this file beside the mounts: the device
/// that the layers are on, and `yes` or the reason why not.
const NOTE: &str = "erofs.probe";

/// Layers of both forms. New ones get the form that the options ask for, or the best that the kernel can; existing ones
/// are used in the form they have, and changed into directories only where the kernel cannot mount them.
pub struct Layers {
    folders: Folders,
    mounts: Mounts,
    limits: Limits,
    forced: Option<Backend>,
    probed: OnceLock<Backend>,
}

impl Layers {
    /// Opens or creates the folders, sweeps what dead writers left and unmounts what dead users left.
    ///
    /// # Errors
    /// Of the disk, and of unmounting.
    pub fn open(options: &StoreOptions) -> Result<Self> {
        Ok(Self {
            folders: Folders::open(&options.root.join("layers"))?,
            mounts: Mounts::open(&options.mounts)?,
            limits: options.limits,
            forced: options.backend,
            probed: OnceLock::new(),
        })
    }

    /// The form of new layers.
    ///
    /// # Errors
    /// Of the disk while the kernel is tried out.
    pub fn backend(&self) -> Result<Backend> {
        if let Some(backend) = self.forced.or_else(|| self.probed.get().copied()) {
            return Ok(backend);
        }
        let works = self.note()?.is_none();
        Ok(*self.probed.get_or_init(|| if works { Backend::Erofs } else { Backend::Directory }))
    }

    /// Why the kernel cannot mount layers here, if it cannot.
    fn note(&self) -> Result<Option<String>> {
        let path = self.mounts.note(NOTE);
        let device = fs::metadata(self.folders.layers()).context("inspect", self.folders.layers())?.dev();
        match fs::read_to_string(&path) {
            Ok(text) if text == format!("{device} yes\n") => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("read", &path),
        }
        let scratch = self.folders.scratch()?;
        let outcome = erofs::probe(scratch.path(), &self.mounts)?;
        scratch.remove()?;
        let result = outcome.err();
        // Only what works is noted: a failure may have been this process's alone.
        if result.is_none() {
            let temporary = self.mounts.note(&unique(NOTE));
            fs::write(&temporary, format!("{device} yes\n")).context("write", &temporary)?;
            fs::rename(&temporary, &path).context("rename to", &path)?;
        }
        Ok(result)
    }

    fn fill(&self, folder: &Path, source: Source<'_>) -> Result<LayerRecord> {
        match self.backend()? {
            Backend::Erofs => erofs::fill(folder, source, &self.limits),
            Backend::Directory => dir::fill(folder, source, &self.limits),
        }
    }

    /// Unpacks a layer that the kernel cannot mount. Its archive stays: it may be the only copy.
    fn unpack(&self, diff_id: &DiffId) -> Result<()> {
        let lock = self.folders.lock(diff_id)?;
        if self.folders.existing(diff_id)?.form == Form::Dir {
            return Ok(()); // somebody else has done it meanwhile
        }
        self.refill(diff_id, Form::Dir, &lock)?;
        let index = self.folders.folder(diff_id).join(erofs::INDEX);
        fs::remove_file(&index).context("remove", &index)
    }

    /// Makes a layer in this form from its archive, durably.
    fn refill(&self, diff_id: &DiffId, form: Form, lock: &Directory) -> Result<()> {
        let folder = self.folders.folder(diff_id);
        let path = folder.join(erofs::ARCHIVE);
        let mut archive = File::open(&path).context("open", &path)?;
        let size = archive.metadata().context("inspect", &path)?.len();
        let layer = Descriptor::new(media_type::OCI_LAYER, diff_id.0.clone(), size);
        let source = Source::Blob { layer: &layer, diff_id, blob: &mut archive };
        let record = match form {
            Form::Erofs => erofs::reindex(&folder, source, size, &self.limits)?,
            Form::Dir => {
                let files = folder.join(dir::FILES);
                remove_tree(&files).context("remove", &files)?;
                dir::fill(&folder, source, &self.limits)?
            }
        };
        write_record(&folder, &record)?;
        lock.sync().context("sync", &folder)
    }
}

impl Snapshotter for Layers {
    fn name(&self) -> &'static str {
        match self.backend() {
            Ok(Backend::Erofs) => "erofs",
            // The failure will show when something is done with the layers.
            Ok(Backend::Directory) | Err(_) => "dir",
        }
    }

    fn keeps_archives(&self) -> Result<bool> {
        Ok(self.backend()? == Backend::Erofs)
    }

    fn contains(&self, diff_id: &DiffId) -> Result<bool> {
        self.folders.contains(diff_id)
    }

    fn apply(&self, layer: &Descriptor, diff_id: &DiffId, blob: &mut dyn Read) -> Result<LayerInfo> {
        self.folders.apply(layer, diff_id, blob, |folder, source| self.fill(folder, source))
    }

    fn ingest(&self, archive: &mut dyn Read) -> Result<LayerInfo> {
        self.folders.ingest(archive, |folder, source| self.fill(folder, source))
    }

    fn archive(&self, diff_id: &DiffId) -> Result<Option<File>> {
        self.folders.existing(diff_id)?;
        let path = self.folders.folder(diff_id).join(erofs::ARCHIVE);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("open", &path),
        }
    }

    fn mount(&self, layers: &[DiffId]) -> Result<Mounted> {
        let mut mounted = Mounted { lower_dirs: Vec::with_capacity(layers.len()), held: Vec::new() };
        let mut seen = BTreeSet::new();
        for diff_id in layers.iter().rev() {
            // overlayfs refuses a directory that is there twice (ELOOP), and the one further down shows nothing that the upper
            // one does not: steps that changed nothing all have the same layer.
            if !seen.insert(diff_id) {
                continue;
            }
            let folder = self.folders.folder(diff_id);
            let mut form = self.folders.existing(diff_id)?.form;
            if form == Form::Erofs {
                let name = format!("{}-{}", diff_id.0.algorithm().name(), diff_id.0.hex());
                match self.mounts.hold(&name, |target| erofs::mount(&folder, target)) {
                    Ok(held) => {
                        mounted.lower_dirs.push(held.path().to_owned());
                        mounted.held.push(held);
                    }
                    Err(error @ Error::Io { .. }) if self.note()?.is_none() => return Err(error),
                    Err(Error::Io { .. }) => {
                        self.unpack(diff_id)?;
                        form = Form::Dir;
                    }
                    Err(error) => return Err(error),
                }
            }
            if form == Form::Dir {
                mounted.lower_dirs.push(folder.join(dir::FILES));
            }
        }
        Ok(mounted)
    }

    fn unmount_unused(&self) -> Result<()> {
        self.mounts.sweep()
    }

    fn usage(&self, diff_id: &DiffId) -> Result<u64> {
        Ok(self.folders.existing(diff_id)?.info.size)
    }

    fn disk(&self, diff_id: &DiffId) -> Result<u64> {
        self.folders.existing(diff_id)?;
        crate::disk::occupied(&self.folders.folder(diff_id))
    }

    fn verify(&self, diff_id: &DiffId) -> Result<Option<String>> {
        let record = match self.folders.existing(diff_id) {
            Err(Error::Record { source, .. }) => return Ok(Some(format!("its record cannot be read: {source}"))),
            result => result?,
        };
        let folder = self.folders.folder(diff_id);
        Ok(match record.form {
            Form::Dir => dir::verify(&folder, &record),
            Form::Erofs => erofs::verify(&folder, &record),
        })
    }

    fn rebuild(&self, diff_id: &DiffId) -> Result<bool> {
        let lock = match self.folders.lock(diff_id) {
            Err(Error::LayerMissing { .. }) => return Ok(false),
            result => result?,
        };
        let archive = self.folders.folder(diff_id).join(erofs::ARCHIVE);
        if digest_of(&archive, &diff_id.0)?.as_ref() != Some(&diff_id.0) {
            return Ok(false);
        }
        let form = match (self.folders.record(diff_id), self.backend()?) {
            (Ok(Some(record)), _) => record.form,
            (_, Backend::Erofs) => Form::Erofs,
            (_, Backend::Directory) => Form::Dir,
        };
        self.refill(diff_id, form, &lock)?;
        Ok(true)
    }

    fn remove_all(&self, layers: &[DiffId]) -> Vec<Result<()>> {
        self.folders.remove_all(layers)
    }

    fn list(&self) -> Result<Vec<DiffId>> {
        self.folders.list()
    }
}
