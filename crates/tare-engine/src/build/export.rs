//! The result of a build outside of the store: its files in a folder or an archive, or the image as a layout.

use super::output::{LayoutForm, LayoutTarget, Output, Sink};
use crate::container::changes::view;
use crate::engine::Engine;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::PoisonError;
use tare_build::files::copy_tree;
use tare_build::{Built, BuiltImage};
use tare_spec::{ImageId, Platform, Reference};
use tare_store::tar::{Kind, Reader, Writer};
use tare_store::{ImageRecord, Mounted, Saved, Tree};
use tare_sys::directory::Directory;

impl Engine {
    /// Writes what was built to one place. The caller holds a lease that keeps it.
    pub(super) fn write_output(&self, built: &Built, output: &Output) -> Result<()> {
        match output {
            // The builder has put it there.
            Output::Store => Ok(()),
            Output::Folder { path, split } => {
                for (platform, image) in &built.images {
                    let folder = match split.unwrap_or(built.images.len() > 1) {
                        true => path.join(platform_folder(platform)),
                        false => path.clone(),
                    };
                    fs::create_dir_all(&folder).map_err(|source| Error::file("create", &folder, source))?;
                    let target = Directory::open(&folder).map_err(|source| Error::file("open", &folder, source))?;
                    self.with_files(image, |root| {
                        copy_tree(root, &target, false)
                            .map_err(|source| Error::file("write the files to", &folder, source))
                    })?;
                }
                Ok(())
            }
            Output::Tar { to, .. } => {
                let mut out = lock(to);
                let mut writer = Writer::new(&mut *out);
                // Of one platform: more were refused before anything was built.
                for (_, image) in &built.images {
                    self.with_files(image, |root| {
                        let tree = Tree { upper: root, lower: None, skip: &|_| false, latest: None };
                        Ok(tree.write(&mut writer).map(drop)?)
                    })?;
                }
                let failed = |source| tare_store::Error::Output { source };
                Ok(writer.finish().and_then(|out| out.flush()).map_err(failed)?)
            }
            // Ours are both at once.
            Output::Layout { form: LayoutForm::Oci | LayoutForm::Docker, names, to } => {
                self.with_images(built, names, |saved| match to {
                    LayoutTarget::Tar(sink) => Ok(self.store()?.save_archive(saved, &mut *lock(sink))?),
                    LayoutTarget::Folder(folder) => self.save_folder(saved, folder),
                })
            }
        }
    }

    /// Shows the files of an image.
    fn with_files(&self, image: &BuiltImage, act: impl FnOnce(&Directory) -> Result<()>) -> Result<()> {
        let layers: Mounted = self.store()?.layers().mount(&image.layers)?;
        if layers.lower_dirs().is_empty() {
            return Ok(());
        }
        let directories = layers.lower_dirs().to_vec();
        let view = view(&directories, Some(layers))?;
        act(&view.root)
    }

    /// Has the images recorded while they are written: those that were not asked into the store are forgotten again.
    fn with_images(&self, built: &Built, names: &[Reference], act: impl FnOnce(&[Saved]) -> Result<()>) -> Result<()> {
        let store = self.store()?;
        let index = built.index.as_ref().map(|index| &index.digest);
        let mut made: Vec<ImageId> = Vec::new();
        let mut images: Vec<ImageRecord> = Vec::new();
        for (_, image) in &built.images {
            if store.resolve_outline(&image.id.to_string()).is_err() {
                made.push(image.id.clone());
                store.put_image(&image.manifest.digest, index)?;
            }
            images.push(store.find(&image.id.to_string())?);
        }
        let saved: Vec<Saved> = match (index, images.first().cloned()) {
            (Some(index), Some(image)) => {
                vec![Saved { image, names: names.to_vec(), platforms: Some((index.clone(), images)) }]
            }
            _ => {
                let one = |image| Saved { image, names: names.to_vec(), platforms: None };
                images.into_iter().map(one).collect()
            }
        };
        let outcome = act(&saved);
        let mut errors = Vec::new();
        for id in made {
            errors.extend(store.forget_image(&id, &BTreeSet::new()).err().map(Error::from));
        }
        match outcome {
            Ok(()) => Error::of_clean_up(errors),
            Err(error) => Err(error.after(errors)),
        }
    }

    /// An image layout as a folder: what its archive would hold.
    fn save_folder(&self, saved: &[Saved], folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(|source| Error::file("create", folder, source))?;
        let store = self.store()?;
        let (reader, writer) = io::pipe().map_err(Error::system("make a pipe"))?;
        std::thread::scope(|scope| {
            let saving = scope.spawn(move || store.save_archive(saved, writer));
            let unpacked = unpack_layout(reader, folder);
            // Without a reader the writer ends, too; its own failure is the cause then.
            saving.join().expect("a thread that panicked has said why")?;
            unpacked
        })
    }
}

fn lock(sink: &Sink) -> std::sync::MutexGuard<'_, Box<dyn Write + Send>> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

/// BuildKit's name for the folder of a platform.
fn platform_folder(platform: &Platform) -> PathBuf {
    platform.to_string().replace('/', "_").into()
}

/// Writes the members of a layout's archive: this program made it, with folders and files only.
fn unpack_layout(archive: impl Read, folder: &Path) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::file("write", &path, source)
    };
    let mut reader = Reader::new(io::BufReader::with_capacity(256 << 10, archive));
    while let Some(entry) = reader.next_entry().map_err(|error| failed(folder)(io::Error::other(error)))? {
        let name = Path::new(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&entry.path));
        if name.components().any(|component| !matches!(component, Component::Normal(_) | Component::CurDir)) {
            return Err(failed(name)(io::ErrorKind::InvalidData.into()));
        }
        let path = folder.join(name);
        match entry.kind {
            Kind::Directory => fs::create_dir_all(&path).map_err(failed(&path))?,
            _ => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(failed(parent))?;
                }
                let mut file = File::create(&path).map_err(failed(&path))?;
                let mut buffer = vec![0; 256 << 10];
                loop {
                    match reader.read(&mut buffer).map_err(|error| failed(&path)(io::Error::other(error)))? {
                        0 => break,
                        count => file.write_all(&buffer[..count]).map_err(failed(&path))?,
                    }
                }
            }
        }
    }
    Ok(())
}
