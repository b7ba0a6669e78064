//! What the image will be with the layer that is being made: the image so far, and over it what the layer has already.

use super::error::{FilesError, io_error, shown};
use super::resolve::{Looker, PATH, Seen, name, parent, resolve};
use super::walk::is_kept;
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tare_store::tar::{Kind, Member, Time};
use tare_sys::directory::{Directory, Metadata};

/// How deep a layer's paths may be.
const DEPTH: usize = 256;

/// The layer in the making over the image. Paths are resolved ones: without leading slash and links.
pub(super) struct Overlay<'a> {
    lower: Option<Looker<'a>>,
    /// By path with zeros for slashes: a folder comes right before what is in it.
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Those of them that are still to be written.
    new: BTreeSet<Vec<u8>>,
}

/// Something that the layer has.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) member: Member,
    /// Of a folder: whether what the image has in it is still there.
    pub(super) is_merged: bool,
    /// What is in a file that is not yet written.
    pub(super) contents: Contents,
}

/// Where the contents of a file are.
#[derive(Clone, Debug)]
pub(super) enum Contents {
    /// There are none, or they are written.
    None,
    /// In a source: its number, the path there, and what they are. Names of one file have the same group.
    Source {
        source: usize,
        path: Vec<u8>,
        digest: [u8; 32],
        group: Option<(u64, (u64, u64))>,
    },
    Bytes(Arc<[u8]>),
    File(Arc<File>),
}

impl<'a> Overlay<'a> {
    pub(super) fn new(lower: Option<&'a Directory>) -> Self {
        Self { lower: lower.map(Looker::new), nodes: BTreeMap::new(), new: BTreeSet::new() }
    }

    /// What is at a path.
    pub(super) fn see(&mut self, path: &[u8]) -> Result<Seen, FilesError> {
        if path.is_empty() {
            return Ok(Seen::Folder);
        }
        if let Some(node) = self.nodes.get(&key(path)) {
            return Ok(match node.member.kind {
                Kind::Directory => Seen::Folder,
                Kind::Symlink => Seen::Link(node.member.link.clone()),
                _ => Seen::Other,
            });
        }
        match self.lower_of(path) {
            Some(lower) => lower.look(path),
            None => Ok(Seen::Missing),
        }
    }

    /// The image below, where the layer does not hide what it has at this path.
    fn lower_of(&mut self, path: &[u8]) -> Option<&mut Looker<'a>> {
        let mut above = parent(path);
        while !above.is_empty() {
            if let Some(node) = self.nodes.get(&key(above)) {
                if !node.is_merged {
                    return None;
                }
                break;
            }
            above = parent(above);
        }
        self.lower.as_mut()
    }

    /// Follows all links of a path, also the last one.
    pub(super) fn resolve(&mut self, path: &[u8]) -> Result<Vec<u8>, FilesError> {
        resolve(path, &mut |path| self.see(path))
    }

    /// Makes the folders of a path that are missing.
    pub(super) fn make_folders(&mut self, path: &[u8], new: &NewFolder) -> Result<(), FilesError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let ends: Vec<usize> = ends.chain((!path.is_empty()).then_some(path.len())).collect();
        for end in ends {
            let folder = &path[..end];
            match self.see(folder)? {
                Seen::Folder => {}
                Seen::Missing => self.put(new.member(folder), Contents::None)?,
                Seen::Link(_) | Seen::Other => {
                    return Err(FilesError::Parent { destination: shown(path), parent: shown(folder) });
                }
            }
        }
        Ok(())
    }

    /// Adds something that is not there, or takes the place of something that is no folder, or of what is known of a folder.
    pub(super) fn put(&mut self, member: Member, contents: Contents) -> Result<(), FilesError> {
        let path = member.path.clone();
        check(&path)?;
        self.keep_parents(&path)?;
        let is_merged = member.kind == Kind::Directory && self.is_lower_folder(&path)?;
        self.insert(Node { member, is_merged, contents });
        Ok(())
    }

    fn insert(&mut self, node: Node) {
        let key = key(&node.member.path);
        self.new.insert(key.clone());
        self.nodes.insert(key, node);
    }

    /// Adds something that is written already.
    pub(super) fn put_written(&mut self, member: Member) -> Result<(), FilesError> {
        let written = key(&member.path);
        self.put(member, Contents::None)?;
        self.new.remove(&written);
        Ok(())
    }

    /// Whether the layer has a folder where the image has one, too, of which nothing may be seen.
    pub(super) fn hides_folder(&mut self, path: &[u8]) -> Result<bool, FilesError> {
        if self.node(path).is_none_or(|node| node.member.kind != Kind::Directory || node.is_merged) {
            return Ok(false);
        }
        match self.lower_of(path) {
            Some(lower) => Ok(lower.look(path)? == Seen::Folder),
            None => Ok(false),
        }
    }

    /// Whether the image shows through at this path as a folder.
    fn is_lower_folder(&mut self, path: &[u8]) -> Result<bool, FilesError> {
        if let Some(node) = self.nodes.get(&key(path)) {
            return Ok(node.is_merged);
        }
        match self.lower_of(path) {
            Some(lower) => Ok(lower.look(path)? == Seen::Folder),
            None => Ok(false),
        }
    }

    /// Takes the folders above a path into the layer as the image has them: of the layers that have a folder, the uppermost
    /// decides on its owner, mode and attributes.
    pub(super) fn keep_parents(&mut self, path: &[u8]) -> Result<(), FilesError> {
        let mut missing = Vec::new();
        let mut above = parent(path);
        while !above.is_empty() && !self.nodes.contains_key(&key(above)) {
            missing.push(above.to_vec());
            above = parent(above);
        }
        for folder in missing.into_iter().rev() {
            let member = self.existing(&folder)?;
            self.insert(Node { member, is_merged: true, contents: Contents::None });
        }
        Ok(())
    }

    /// A folder that is there, as the layer or the image has it.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Member, FilesError> {
        if let Some(node) = self.nodes.get(&key(path)) {
            return Ok(node.member.clone());
        }
        let gone = || FilesError::Changed { path: shown(path) };
        let lower = self.lower_of(path).ok_or_else(gone)?;
        let folder = lower.folder(path)?.ok_or_else(gone)?;
        let metadata = folder.own_metadata().map_err(io_error("inspect", path))?;
        let attributes = folder.own_attributes().map_err(io_error("read the attributes of", path))?;
        let mut member = of_metadata(path, &metadata);
        member.attributes = attributes.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
        member.attributes.retain(|name, _| is_kept(name));
        Ok(member)
    }

    /// The root folder, where it is not what layers have without saying so.
    pub(super) fn remarkable_root(&mut self) -> Result<Option<Member>, FilesError> {
        if self.lower.is_none() {
            return Ok(None);
        }
        let root = self.existing(b"")?;
        let plain = root.mode == 0o755 && root.uid == 0 && root.gid == 0 && root.attributes.is_empty();
        Ok((!plain).then(|| Member { path: b".".to_vec(), ..root }))
    }

    /// A file of the image, to be put into the layer as it is. `None` where there is none.
    pub(super) fn lower_file(&mut self, path: &[u8]) -> Result<Option<(Member, File)>, FilesError> {
        let Some(lower) = self.lower_of(path) else { return Ok(None) };
        let Some(metadata) = lower.metadata(path)?.filter(|found| found.file_type == FileType::RegularFile) else {
            return Ok(None);
        };
        let Some(folder) = lower.folder(parent(path))? else { return Ok(None) };
        let own = OsStr::from_bytes(name(path));
        let file = folder.child_file(own).map_err(io_error("open", path))?;
        let attributes = folder.attributes(own).map_err(io_error("read the attributes of", path))?;
        let mut member = Member { kind: Kind::File, size: metadata.size, ..of_metadata(path, &metadata) };
        member.attributes = attributes.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
        member.attributes.retain(|name, _| is_kept(name));
        Ok(Some((member, file)))
    }

    /// The node at a path that the layer has.
    pub(super) fn node(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(&key(path))
    }

    /// Takes away what the layer has below a path, which stops being a folder.
    pub(super) fn forget_below(&mut self, path: &[u8]) {
        let mut first = key(path);
        first.push(0);
        let mut end = first.clone();
        end.pop();
        end.push(1);
        let below: Vec<Vec<u8>> = self.nodes.range(first..end).map(|(key, _)| key.clone()).collect();
        for key in below {
            self.nodes.remove(&key);
            self.new.remove(&key);
        }
    }

    /// What is still to be written, in order; it is no longer then.
    pub(super) fn take_new(&mut self) -> Vec<(Member, Contents)> {
        let mut taken = Vec::with_capacity(self.new.len());
        for key in std::mem::take(&mut self.new) {
            if let Some(node) = self.nodes.get_mut(&key) {
                taken.push((node.member.clone(), std::mem::replace(&mut node.contents, Contents::None)));
            }
        }
        taken
    }
}

/// What folders that are made on the way are like.
#[derive(Clone, Copy)]
pub(super) struct NewFolder {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) time: Time,
}

impl NewFolder {
    pub(super) fn member(&self, path: &[u8]) -> Member {
        Member {
            path: path.to_vec(),
            kind: Kind::Directory,
            link: Vec::new(),
            mode: self.mode,
            uid: self.owner.0,
            gid: self.owner.1,
            mtime: self.time,
            size: 0,
            device: (0, 0),
            attributes: BTreeMap::new(),
        }
    }
}

fn of_metadata(path: &[u8], metadata: &Metadata) -> Member {
    let time = Time { seconds: metadata.mtime.0, nanoseconds: metadata.mtime.1 };
    NewFolder { mode: metadata.mode, owner: (metadata.uid, metadata.gid), time }.member(path)
}

fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

/// Refuses paths that no layer can have.
fn check(path: &[u8]) -> Result<(), FilesError> {
    if path.split(|byte| *byte == b'/').any(|name| name.starts_with(b".wh.")) {
        return Err(FilesError::Reserved { path: shown(path) });
    }
    let depth = path.split(|byte| *byte == b'/').count();
    if path.len() > PATH || depth > DEPTH {
        return Err(FilesError::TooDeep { path: shown(path), length: path.len(), depth });
    }
    Ok(())
}
