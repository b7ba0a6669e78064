//! `--squash`: what all steps of a build changed as one layer over the image that it starts from.
//!
//! The new layers are seen over each other without those of the base. What they remove from the base cannot be seen so: it is
//! gathered from each of them.

use crate::cache::{Cache, Parts, Record};
use crate::error::{Error, Result};
use crate::plan::{Action, Plan};
use crate::solve::{Layer, Outcome, View};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tare_spec::image::History;
use tare_store::tar::{Kind, Member, Time};
use tare_store::{LayerWriter, Store, Tree};
use tare_sys::directory::Directory;

/// How overlayfs marks a folder that hides those below it (kernel documentation, `filesystems/overlayfs.rst`).
const OPAQUE: &str = "trusted.overlay.opaque";

/// Makes one layer of those that the target has beyond its base, and has the history say so.
pub(crate) fn squash(
    store: &Store,
    cache: &Cache,
    plan: &mut Plan,
    outcomes: &[Outcome],
    layers: Vec<Layer>,
) -> Result<Vec<Layer>> {
    let mut chain = std::iter::successors(plan.target.step, |step| plan.steps[*step].parent);
    let base = chain.find(|step| matches!(plan.steps[*step].action, Action::Image { .. }));
    let base = base.map_or(0, |step| outcomes[step].layers.len());
    if layers.len() <= base + 1 {
        return Ok(layers);
    }
    let mut squashed: Vec<Layer> = layers[..base].to_vec();
    let diff_ids: Vec<_> = layers[base..].iter().map(|layer| layer.diff_id.clone()).collect();
    let mut parts = Parts::default();
    parts.add("squashed", &diff_ids);
    let key = parts.key();
    let known = match cache.get(&key) {
        Some(record) if store.layers().contains(&record.diff_id)? => Some(record),
        _ => None,
    };
    let record = match known {
        Some(record) => record,
        None => {
            let view = View::new(store, &diff_ids)?;
            let (layer, diff_id, ()) = store.write_layer(false, |writer| write(&view, writer))?;
            let record = Record::new(key, layer, diff_id, "squashed layers");
            cache.put(&record)?;
            record
        }
    };
    squashed.push(Layer { descriptor: record.layer, diff_id: record.diff_id });
    let target = &mut plan.target;
    for entry in &mut target.history[target.inherited..] {
        entry.empty_layer = true;
    }
    target.history.push(History { comment: Some("squashed".to_owned()), ..History::default() });
    Ok(squashed)
}

fn write(view: &View, writer: &mut LayerWriter) -> Result<()> {
    let Some(root) = view.root() else { return Ok(()) };
    let failed = |source| Error::View { source };
    Tree { upper: root, lower: None, skip: &|_| false, latest: None }.write(writer)?;
    let mut removed = Removed::default();
    for layer in view.lower_dirs() {
        removed.gather(&Directory::open(layer).map_err(failed)?, &mut PathBuf::new()).map_err(failed)?;
    }
    let Removed { names, opaque } = removed;
    for path in names.union(&opaque) {
        let mark = match (find(root, path).map_err(failed)?, path.file_name()) {
            // It is there again, or always was: what it hides of the base stays hidden.
            (Place::Folder, _) => whiteout(path, OsStr::new(".wh..opq")),
            (Place::Free, Some(name)) => whiteout(path.parent().unwrap_or(Path::new("")), name),
            // Something else took its place, or that of a folder above it.
            _ => continue,
        };
        writer.append(&mark, &mut io::empty()).map_err(failed)?;
    }
    Ok(())
}

/// What is at a path.
enum Place {
    Folder,
    Other,
    /// Nothing, in a folder.
    Free,
    /// Nothing, as there is no folder that it could be in.
    Nowhere,
}

/// Looks a path up without following links.
fn find(root: &Directory, path: &Path) -> io::Result<Place> {
    let mut folder = root.resolve(Path::new(""))?;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        match folder.metadata(name)?.map(|found| found.file_type) {
            Some(FileType::Directory) if is_last => return Ok(Place::Folder),
            Some(FileType::Directory) => folder = folder.child(name)?,
            Some(_) if is_last => return Ok(Place::Other),
            None if is_last => return Ok(Place::Free),
            Some(_) | None => return Ok(Place::Nowhere),
        }
    }
    Ok(Place::Folder)
}

/// What layers remove of those below them.
#[derive(Default)]
struct Removed {
    /// Names.
    names: BTreeSet<PathBuf>,
    /// Folders whose contents in lower layers do not count.
    opaque: BTreeSet<PathBuf>,
}

impl Removed {
    fn gather(&mut self, folder: &Directory, path: &mut PathBuf) -> io::Result<()> {
        for name in folder.names()? {
            let Some(metadata) = folder.metadata(&name)? else { continue };
            path.push(&name);
            match metadata.file_type {
                FileType::CharacterDevice if metadata.device == (0, 0) => drop(self.names.insert(path.clone())),
                FileType::Directory => {
                    let child = folder.child(&name)?;
                    if child.own_attributes()?.iter().any(|(name, value)| name == OPAQUE && value == b"y") {
                        self.opaque.insert(path.clone());
                    }
                    self.gather(&child, path)?;
                }
                _ => {}
            }
            path.pop();
        }
        Ok(())
    }
}

/// A whiteout as layers have it (image specification, `layer.md`).
fn whiteout(folder: &Path, name: &OsStr) -> Member {
    let name = [b".wh.", name.as_bytes()].concat();
    Member {
        path: folder.join(OsStr::from_bytes(&name)).as_os_str().as_bytes().to_vec(),
        kind: Kind::File,
        link: Vec::new(),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 0, nanoseconds: 0 },
        size: 0,
        device: (0, 0),
        attributes: BTreeMap::new(),
    }
}
