//! What differs between two images of the same Dockerfile, file by file.

use super::report::{FileDifference, StepDifference};
use crate::engine::Engine;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::BufReader;
use tare_spec::image::{Descriptor, ImageConfig};
use tare_spec::{DiffId, Digest, ImageId};
use tare_store::content::Hasher;
use tare_store::tar::{Entry, Reader};

/// A member of a layer, as far as it can differ.
struct Found {
    entry: Entry,
    contents: Digest,
}

impl Engine {
    /// What differs between two images that the same build made, by the steps that made it.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::Store`] when their layers cannot be read.
    pub fn compare_builds(&self, one: &ImageId, other: &ImageId) -> Result<Vec<StepDifference>> {
        let (one, other) = (self.found(one)?, self.found(other)?);
        let mut differences = Vec::new();
        let count = one.layers.len().max(other.layers.len());
        for index in 0..count {
            let (left, right) = (one.layers.get(index), other.layers.get(index));
            if left.map(|layer| &layer.1) == right.map(|layer| &layer.1) {
                continue;
            }
            let (left, right) = (self.members(left)?, self.members(right)?);
            let files = compare(&left, &right);
            differences.push(StepDifference { step: step_of(&one.config, index), files });
        }
        if differences.is_empty() && one.config != other.config {
            let file = FileDifference { path: "the configuration".to_owned(), how: "contents".to_owned() };
            differences.push(StepDifference { step: "image".to_owned(), files: vec![file] });
        }
        Ok(differences)
    }

    fn found(&self, id: &ImageId) -> Result<Image> {
        let store = self.store()?;
        let image = store.find(&id.to_string())?;
        let manifest = store.manifest(&image.manifest)?;
        let layers = manifest.layers.into_iter().zip(image.config.rootfs.diff_ids.iter().cloned()).collect();
        Ok(Image { config: image.config, layers })
    }

    fn members(&self, layer: Option<&(Descriptor, DiffId)>) -> Result<BTreeMap<String, Found>> {
        let mut members = BTreeMap::new();
        let Some((descriptor, diff_id)) = layer else { return Ok(members) };
        let archive = self.store()?.layer_tar(diff_id, descriptor)?;
        let mut reader = Reader::new(BufReader::with_capacity(256 << 10, archive));
        let failed = |source: std::io::Error| Error::System { action: "read a layer", source };
        while let Some(entry) = reader.next_entry().map_err(|error| failed(std::io::Error::other(error)))? {
            let mut hasher = Hasher::new(tare_spec::digest::Algorithm::Sha256);
            let mut buffer = [0; 64 << 10];
            loop {
                match reader.read(&mut buffer).map_err(|error| failed(std::io::Error::other(error)))? {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                }
            }
            let path = String::from_utf8_lossy(&entry.path).trim_end_matches('/').to_owned();
            members.insert(path, Found { entry, contents: hasher.finish() });
        }
        Ok(members)
    }
}

struct Image {
    config: ImageConfig,
    layers: Vec<(Descriptor, DiffId)>,
}

/// The text of the step that made this layer.
fn step_of(config: &ImageConfig, index: usize) -> String {
    let made = config.history.iter().filter(|entry| !entry.empty_layer).nth(index);
    let text = made.and_then(|entry| entry.created_by.clone()).unwrap_or_default();
    text.strip_suffix(" # buildkit").map_or(text.clone(), str::to_owned)
}

fn compare(one: &BTreeMap<String, Found>, other: &BTreeMap<String, Found>) -> Vec<FileDifference> {
    let mut differences = Vec::new();
    let mut push = |path: &String, how: String| differences.push(FileDifference { path: path.clone(), how });
    for (path, left) in one {
        match other.get(path) {
            None => push(path, "only in the first".to_owned()),
            Some(right) => {
                let how = how(left, right);
                if !how.is_empty() {
                    push(path, how.join(", "));
                }
            }
        }
    }
    for path in other.keys().filter(|path| !one.contains_key(*path)) {
        push(path, "only in the second".to_owned());
    }
    differences.sort_by(|one, other| one.path.cmp(&other.path));
    differences
}

fn how(one: &Found, other: &Found) -> Vec<&'static str> {
    let (left, right) = (&one.entry, &other.entry);
    [
        ("kind", left.kind != right.kind),
        ("contents", one.contents != other.contents || left.size != right.size),
        ("link", left.link != right.link),
        ("mode", left.mode != right.mode),
        ("owner", (left.uid, left.gid) != (right.uid, right.gid)),
        ("time", left.mtime != right.mtime),
        ("attributes", left.attributes != right.attributes),
        ("device", left.device != right.device),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
