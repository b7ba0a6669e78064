//! Carries a plan out: layers, configuration and manifest into the store.
//!
//! The same plan and the same files give the same image: members in the order of their paths, owners as planned,
//! every time the build's own.

use crate::context::{Files, FoundKind};
use crate::error::{Error, Result};
use crate::plan::{Action, Plan, Step};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use tare_spec::image::{Descriptor, History, ImageConfig, Manifest, RootFs, media_type};
use tare_spec::{DiffId, ImageId, Platform, Reference};
use tare_store::tar::{Kind, Member, Time, Writer};
use tare_store::{Spool, Store};

/// What the image has so far, by path without leading slash: a directory's member, or `None` for anything else.
type Tree = BTreeMap<Vec<u8>, Option<Member>>;

pub(crate) fn assemble(
    store: &Store,
    plan: &Plan,
    files: &Files<'_>,
    created: Timestamp,
    name: Option<&Reference>,
) -> Result<ImageId> {
    let mut tree = Tree::new();
    let (mut layers, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
    let created_text = created.to_string();
    for step in &plan.steps {
        let layer = Layer { step, files, created, tree: &mut tree, present: BTreeSet::new() }.write(store)?;
        history.push(History {
            created: Some(created_text.clone()),
            created_by: Some(step.text.clone()),
            comment: Some("tare".to_owned()),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        if let Some(layer) = layer {
            diff_ids.push(DiffId(layer.digest.clone()));
            layers.push(layer);
        }
    }
    let platform = Platform::host();
    let config = ImageConfig {
        created: Some(created_text),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(plan.config.clone()),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        history,
        ..ImageConfig::default()
    };
    let encode = "image documents are structures of strings and numbers";
    let config = store.put_bytes(media_type::OCI_CONFIG, &serde_json::to_vec(&config).expect(encode))?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    let manifest = store.put_bytes(media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).expect(encode))?;
    Ok(store.put_named_image(&manifest.digest, None, name.map_or(&[], std::slice::from_ref))?.0)
}

/// The layer of one step, in the making.
struct Layer<'a> {
    step: &'a Step,
    files: &'a Files<'a>,
    created: Timestamp,
    tree: &'a mut Tree,
    /// The directories that the layer has already.
    present: BTreeSet<Vec<u8>>,
}

impl Layer<'_> {
    fn write(mut self, store: &Store) -> Result<Option<Descriptor>> {
        let step = self.step;
        if let Action::Directory { path } = &step.action
            && (path == "/" || matches!(self.tree.get(&path.as_bytes()[1..]), Some(Some(_))))
        {
            return Ok(None);
        }
        let mut writer = Writer::new(store.spool()?);
        match &step.action {
            Action::Nothing => return Ok(None),
            Action::Directory { path } => {
                let path = &path.as_bytes()[1..];
                self.parents(&mut writer, path)?;
                self.directory(&mut writer, self.member(path, Kind::Directory, 0o755, (0, 0)))?;
            }
            Action::Copy { sources, destination, into, owner, mode } => {
                let path = &destination.as_bytes()[1..];
                let into = *into || path.is_empty() || matches!(self.tree.get(path), Some(Some(_)));
                for source in sources {
                    self.copy(&mut writer, source, &Target { path, into, owner: *owner, mode: *mode })?;
                }
            }
        }
        let mut spool = writer.finish().map_err(|source| self.failed(source))?;
        let layer = spool.descriptor(media_type::OCI_LAYER)?;
        let diff_id = DiffId(layer.digest.clone());
        store.layers().apply(&layer, &diff_id, &mut spool.rewound()?)?;
        Ok(Some(layer))
    }

    fn copy(&mut self, writer: &mut Writer<Spool>, source: &str, target: &Target<'_>) -> Result<()> {
        let shown = |path: &[u8]| [source, &String::from_utf8_lossy(path)].join("/").trim_matches('/').to_owned();
        let found = self.files.list(source).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Error::SourceMissing { line: self.step.line, path: source.to_owned() }
            }
            _ => Error::Context { action: "read", path: source.to_owned(), source: error },
        })?;
        // A folder's contents are copied, a file is copied itself: into a directory under its own name.
        let mut top = target.path.to_vec();
        if target.into && found.first().is_some_and(|first| first.kind != FoundKind::Folder) {
            let name = source.rsplit('/').next().unwrap_or(source);
            top = join(&top, name.as_bytes());
        }
        for entry in found {
            let path = if entry.path.is_empty() { top.clone() } else { join(&top, &entry.path) };
            if path.is_empty() {
                continue; // the image's root itself
            }
            self.parents(writer, &path)?;
            let mode = target.mode.unwrap_or(entry.mode);
            match &entry.kind {
                FoundKind::Folder => self.directory(writer, self.member(&path, Kind::Directory, mode, target.owner))?,
                FoundKind::Link(link) => {
                    let member =
                        Member { link: link.clone(), ..self.member(&path, Kind::Symlink, 0o777, target.owner) };
                    self.append(writer, &member, &mut io::empty())?;
                }
                FoundKind::File => {
                    let (mut contents, size) = self
                        .files
                        .read(source, &entry.path)
                        .map_err(|error| Error::Context { action: "open", path: shown(&entry.path), source: error })?;
                    let member = Member { size, ..self.member(&path, Kind::File, mode, target.owner) };
                    self.append(writer, &member, &mut contents)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the directories above a path. Those that lower layers have are added again as they are there: of the
    /// layers that have a directory, the uppermost decides its owner and mode.
    fn parents(&mut self, writer: &mut Writer<Spool>, path: &[u8]) -> Result<()> {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = &path[..end];
            if let Some(None) = self.tree.get(parent) {
                return Err(self.in_the_way(path, parent));
            }
            self.directory(writer, self.member(parent, Kind::Directory, 0o755, (0, 0)))?;
        }
        Ok(())
    }

    fn in_the_way(&self, path: &[u8], parent: &[u8]) -> Error {
        let shown = |path| format!("/{}", String::from_utf8_lossy(path));
        Error::Destination { line: self.step.line, path: shown(path), other: shown(parent) }
    }

    /// Adds a directory; one that the image has keeps its owner and mode.
    fn directory(&mut self, writer: &mut Writer<Spool>, new: Member) -> Result<()> {
        if !self.present.insert(new.path.clone()) {
            return Ok(());
        }
        let member = self.tree.get(&new.path).cloned().flatten().unwrap_or(new);
        self.append(writer, &member, &mut io::empty())
    }

    fn append(&mut self, writer: &mut Writer<Spool>, member: &Member, contents: &mut dyn io::Read) -> Result<()> {
        let is_directory = member.kind == Kind::Directory;
        if !is_directory && matches!(self.tree.get(&member.path), Some(Some(_))) {
            return Err(self.in_the_way(&member.path, &member.path));
        }
        writer.append(member, contents).map_err(|source| self.failed(source))?;
        self.tree.insert(member.path.clone(), is_directory.then(|| member.clone()));
        Ok(())
    }

    fn member(&self, path: &[u8], kind: Kind, mode: u32, (uid, gid): (u32, u32)) -> Member {
        let mtime = Time { seconds: self.created.as_second(), nanoseconds: 0 };
        let (path, link, attributes) = (path.to_vec(), Vec::new(), BTreeMap::new());
        Member { path, kind, link, mode, uid, gid, mtime, size: 0, device: (0, 0), attributes }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Layer { statement: self.step.text.chars().take(200).collect(), source }
    }
}

/// Where and how a COPY writes.
struct Target<'a> {
    path: &'a [u8],
    into: bool,
    owner: (u32, u32),
    mode: Option<u32>,
}

fn join(folder: &[u8], path: &[u8]) -> Vec<u8> {
    if folder.is_empty() { path.to_vec() } else { [folder, b"/", path].concat() }
}
