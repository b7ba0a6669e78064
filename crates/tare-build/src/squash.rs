//! `--squash`: what all steps of a build changed as one layer over the image that it starts from.
//!
//! The new layers are seen over each other without those of the base. What they remove from the base cannot be seen so: it is
//! gathered from each of them.

use crate::cache::{Cache, Parts, Record};
use crate::error::{Error, Result};
use crate::plan::{Action, Plan};
use crate::solve::{Layer, Outcome, View};
use rustix::fs::FileType;
use std::io;
use std::os::unix::ffi::OsStrExt;
use tare_spec::image::History;
use tare_store::{HIDE_ALL, Hidden, LayerWriter, Store, Tree};
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
    let mut hidden = Hidden::new();
    for layer in view.lower_dirs() {
        let layer = Directory::open(layer).map_err(failed)?;
        gather(&layer, root, &mut Vec::new(), &mut hidden).map_err(failed)?;
    }
    Tree { upper: root, lower: None, skip: &|_| false, latest: None }.write_hiding(&hidden, writer)?;
    Ok(())
}

/// What a layer hides of those below it, where the view does not hide it by having something else there.
fn gather(layer: &Directory, view: &Directory, path: &mut Vec<u8>, hidden: &mut Hidden) -> io::Result<()> {
    let length = path.len();
    for name in layer.names()? {
        let Some(metadata) = layer.metadata(&name)? else { continue };
        match view.metadata(&name)?.map(|found| found.file_type) {
            Some(FileType::Directory) => {
                if length > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(name.as_bytes());
                let child = (metadata.file_type == FileType::Directory).then(|| layer.child(&name)).transpose()?;
                // It is there again, or always was: what a whiteout or a file hid of the base stays hidden.
                if child.as_ref().map_or(Ok(true), is_opaque)? {
                    hidden.entry(path.clone()).or_default().insert(HIDE_ALL.to_vec());
                }
                if let Some(child) = child {
                    gather(&child, &view.child(&name)?, path, hidden)?;
                }
                path.truncate(length);
            }
            None if metadata.file_type == FileType::CharacterDevice && metadata.device == (0, 0) => {
                hidden.entry(path.clone()).or_default().insert(name.as_bytes().to_vec());
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_opaque(folder: &Directory) -> io::Result<bool> {
    Ok(folder.own_attributes()?.iter().any(|(name, value)| name == OPAQUE && value == b"y"))
}
