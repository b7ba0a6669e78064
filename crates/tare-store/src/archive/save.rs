//! Writing images as one archive, the same bytes for the same images.

use super::{CONTAINERD_NAME, INDEX, LAYOUT, MANIFEST, OCI_NAME, blob_path};
use crate::error::{Context, Error, Result};
use crate::layer::output;
use crate::tar::{Kind, Member, Time, Writer};
use crate::{ImageRecord, Store};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use tare_spec::image::{CONFIG_LIMIT, Descriptor, Index, MANIFEST_LIMIT, Manifest, media_type};
use tare_spec::{DiffId, Digest, Reference};

/// An image to write, and by which of its names.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The image.
    pub image: ImageRecord,
    /// Names with tags.
    pub names: Vec<Reference>,
    /// Where all platforms go: the index that its names stand for, and all images of that, itself among them, in its order.
    pub platforms: Option<(Digest, Vec<ImageRecord>)>,
}

/// One image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The archive's contents, in their order.
#[derive(Default)]
struct Plan {
    index: Vec<Descriptor>,
    items: Vec<Item>,
    documents: Vec<(Digest, Vec<u8>)>,
    layers: Vec<(Descriptor, DiffId)>,
    seen: BTreeSet<Digest>,
}

impl Plan {
    /// Adds a document, unless it is there.
    fn document(&mut self, digest: Digest, bytes: Vec<u8>) {
        if self.seen.insert(digest.clone()) {
            self.documents.push((digest, bytes));
        }
    }
}

impl Store {
    /// Writes images as an archive that is an OCI image layout and one of Docker's. Layers go in as the store has
    /// them, so that manifests and their digests stay; one whose compressed form is not at hand goes in
    /// uncompressed, with a manifest that says so. The documents come first.
    ///
    /// The caller holds a [`crate::Lease`] since before it looked for the images. Not atomic: after an error the
    /// output holds anything.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::Output`].
    pub fn save_archive<W: Write>(&self, images: &[Saved], out: W) -> Result<()> {
        let mut plan = Plan::default();
        for saved in images {
            self.plan_save(saved, &mut plan)?;
        }
        let mut writer = Writer::new(out);
        let index = Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests: plan.index,
            annotations: BTreeMap::new(),
        };
        let mut folders: Vec<String> = vec!["blobs".to_owned()];
        let digests = plan.documents.iter().map(|(digest, _)| digest);
        let algorithms: BTreeSet<&str> = digests
            .chain(plan.layers.iter().map(|(layer, _)| &layer.digest))
            .map(|digest| digest.algorithm().name())
            .collect();
        folders.extend(algorithms.into_iter().map(|name| format!("blobs/{name}")));
        put(&mut writer, LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put(&mut writer, INDEX, &json(&index))?;
        put(&mut writer, MANIFEST, &json(&plan.items))?;
        for folder in folders {
            writer.append(&member(&folder, Kind::Directory, 0), &mut io::empty()).map_err(output)?;
        }
        for (digest, bytes) in plan.documents {
            put(&mut writer, &blob_path(&digest), &bytes)?;
        }
        for (layer, diff_id) in plan.layers {
            let (_, file) = self.transfer_form(&layer, &diff_id)?;
            let member = member(&blob_path(&layer.digest), Kind::File, layer.size);
            writer.append(&member, &mut &file).map_err(output)?;
        }
        writer.finish().and_then(|mut out| out.flush()).map_err(output)
    }

    fn plan_save(&self, saved: &Saved, plan: &mut Plan) -> Result<()> {
        let Saved { image, names, platforms } = saved;
        let (mut entry, layers) = self.plan_image(image, plan)?;
        plan.items.push(Item {
            config: blob_path(&image.id.0),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
            layers,
        });
        if let Some((index, images)) = platforms {
            entry = self.plan_index(index, images, plan)?;
        }
        if names.is_empty() {
            plan.index.push(entry);
            return Ok(());
        }
        for name in names {
            let mut entry = entry.clone();
            entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
            entry.annotations.extend(name.tag().map(|tag| (OCI_NAME.to_owned(), tag.to_owned())));
            plan.index.push(entry);
        }
        Ok(())
    }

    /// Plans the documents and layers of an image. Returns its manifest's descriptor and the paths of its layers.
    fn plan_image(&self, image: &ImageRecord, plan: &mut Plan) -> Result<(Descriptor, Vec<String>)> {
        let mut bytes = self.blob(&image.manifest, MANIFEST_LIMIT)?;
        let document = |source| Error::Document { digest: image.manifest.clone(), source };
        let mut manifest = Manifest::parse(&bytes, None).map_err(document)?;
        manifest.check_layers(&image.config).map_err(document)?;
        let mut changed = false;
        for (layer, diff_id) in manifest.layers.iter_mut().zip(&image.layers) {
            let (form, file) = self.transfer_form(layer, diff_id)?;
            let actual = file.metadata().context("inspect", &self.blob_path(&form.digest))?.len();
            let mut form = form;
            if form.digest == layer.digest && actual != layer.size {
                return Err(Error::Size { digest: form.digest, expected: layer.size, actual });
            }
            form.size = actual;
            changed |= form.digest != layer.digest;
            *layer = form.clone();
            if plan.seen.insert(form.digest.clone()) {
                plan.layers.push((form, diff_id.clone()));
            }
        }
        if changed {
            bytes = json(&manifest);
        }
        let digest = if changed { crate::sha256(&bytes) } else { image.manifest.clone() };
        let entry = Descriptor::new(manifest.media_type.clone(), digest.clone(), bytes.len() as u64);
        plan.document(digest, bytes);
        plan.document(image.id.0.clone(), self.blob(&image.id.0, CONFIG_LIMIT)?);
        Ok((entry, manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect()))
    }

    /// Plans an index with all its images. Returns its descriptor.
    fn plan_index(&self, digest: &Digest, platforms: &[ImageRecord], plan: &mut Plan) -> Result<Descriptor> {
        let mut bytes = self.blob(digest, MANIFEST_LIMIT)?;
        let document = |source| Error::Document { digest: digest.clone(), source };
        let mut index = Index::parse(&bytes, None).map_err(document)?;
        let mut changed = false;
        for (entry, image) in index.manifests.iter_mut().zip(platforms) {
            let (actual, _) = self.plan_image(image, plan)?;
            changed |= actual.digest != entry.digest;
            (entry.digest, entry.size) = (actual.digest, actual.size);
        }
        if changed {
            bytes = json(&index);
        }
        let digest = if changed { crate::sha256(&bytes) } else { digest.clone() };
        let entry = Descriptor::new(index.media_type, digest.clone(), bytes.len() as u64);
        plan.document(digest, bytes);
        Ok(entry)
    }

    /// The layer's blob as its manifest has it, else in a form in which another image has it, else uncompressed.
    fn transfer_form(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<(Descriptor, File)> {
        let missing = match self.open_blob(layer) {
            Err(error @ Error::BlobMissing { .. }) => error,
            result => return Ok((layer.clone(), result?)),
        };
        if let Some(file) = self.layers().archive(diff_id)? {
            let is_docker = layer.media_type.starts_with("application/vnd.docker.");
            let media_type = if is_docker { media_type::DOCKER_LAYER } else { media_type::OCI_LAYER };
            return Ok((Descriptor::new(media_type, diff_id.0.clone(), 0), file));
        }
        for image in self.stored_images()?.into_iter().filter(|image| image.layers.contains(diff_id)) {
            let manifest = self.manifest(&image.manifest)?;
            for (other, _) in manifest.layers.into_iter().zip(&image.layers).filter(|(_, id)| *id == diff_id) {
                match self.open_blob(&other) {
                    Err(Error::BlobMissing { .. }) => {}
                    result => return Ok((other, result?)),
                }
            }
        }
        Err(missing)
    }
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents are structures of strings and numbers")
}

fn put<W: Write>(writer: &mut Writer<W>, path: &str, mut bytes: &[u8]) -> Result<()> {
    writer.append(&member(path, Kind::File, bytes.len() as u64), &mut bytes).map_err(output)
}

fn member(path: &str, kind: Kind, size: u64) -> Member {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let (path, link, mtime) = (path.as_bytes().to_vec(), Vec::new(), Time::default());
    Member { path, kind, link, mode, uid: 0, gid: 0, mtime, size, device: (0, 0), attributes: BTreeMap::new() }
}
