//! The tree of a layer in memory: what its archive's headers say, and where the contents are.
//!
//! Compact, because it grows with the layer: 56 bytes and the name for an entry, four to eight to find it by.

use super::lookup::Lookup;
use super::{BLOCK, BLOCK_BITS};
use crate::layer::tree::{EntryError, Found, NAME, Outcome, Pieces, Stop, Tree};
use crate::layer::{ACL_ACCESS, ACL_DEFAULT, OPAQUE};
use crate::tar::{Entry, Kind, Reader, Segment, Time};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;

/// The root is the first node.
pub(super) const ROOT: u32 = 0;
/// Symbolic links that one path may follow (`MAXSYMLINKS` of the kernel).
const LINKS: u32 = 40;
/// Components of all paths and targets that are looked up for one layer. Real layers need six for an entry; a hostile
/// one could make each of its entries walk through forty links of two thousand.
const STEPS: u64 = 1 << 28;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Directory,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    /// Another name of the node at `at`.
    Link,
}

/// A name with what it names. An inode is a node that is no link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) parent: u32,
    /// Where its name begins.
    name: u32,
    name_length: u8,
    pub(super) kind: Type,
    /// The twelve permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    /// One more than the place in `attributes`; 0 for none.
    attributes: u32,
    /// Bytes of a file, a link's target, a directory's entries.
    pub(super) size: u64,
    /// A file's first block in the archive, or its place in `sparse` (see [`SPARSE`]); where a target begins; a device's
    /// number; the node that a link leads to. For directories and long targets while the image is written: the first
    /// of their own blocks.
    pub(super) at: u32,
    /// Names of this inode; set by the layout.
    pub(super) links: u32,
    /// Place in the image in units of a slot, 0 for none; set by the layout.
    pub(super) place: u32,
}

/// The time of a file whose contents are in pieces says so by this bit, which nanoseconds do not reach.
pub(super) const SPARSE: u32 = 1 << 31;

/// Where the contents of a sparse file are.
pub(super) struct SparseFile {
    /// The archive's block that the first run begins with.
    pub(super) block: u32,
    pub(super) pieces: Pieces,
    pub(super) segments: Arc<[Segment]>,
}

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// See the module's documentation.
pub(crate) struct Index {
    pub(super) nodes: Vec<Node>,
    text: Vec<u8>,
    attributes: Vec<Attributes>,
    pub(super) sparse: Vec<SparseFile>,
    lookup: Lookup,
    steps: Cell<u64>,
}

impl Index {
    /// A tree that has nothing but its root.
    pub(crate) fn new() -> Self {
        let mut this = Self {
            nodes: Vec::new(),
            text: Vec::new(),
            attributes: Vec::new(),
            sparse: Vec::new(),
            lookup: Lookup::new(),
            steps: Cell::new(0),
        };
        this.nodes.push(Node { mode: 0o755, ..this.node(ROOT, b"", Type::Directory) });
        this
    }

    pub(super) fn name(&self, node: u32) -> &[u8] {
        let node = &self.nodes[node as usize];
        &self.text[node.name as usize..][..usize::from(node.name_length)]
    }

    /// A symbolic link's target.
    pub(super) fn target(&self, node: &Node) -> &[u8] {
        &self.text[node.at as usize..][..node.size as usize]
    }

    pub(super) fn attributes(&self, node: &Node) -> Option<&Attributes> {
        self.attributes.get((node.attributes as usize).checked_sub(1)?)
    }

    /// All nodes that have a name, in no order; some of them below what has none any more.
    pub(super) fn named(&self) -> impl Iterator<Item = u32> + '_ {
        self.lookup.nodes()
    }

    /// The inode that a name means.
    pub(super) fn inode(&self, node: u32) -> u32 {
        match self.nodes[node as usize] {
            Node { kind: Type::Link, at, .. } => at,
            _ => node,
        }
    }

    fn node(&self, parent: u32, name: &[u8], kind: Type) -> Node {
        Node {
            parent,
            // The text ends below 4 GiB: whoever fills a tree bounds what its names take.
            name: self.text.len() as u32,
            name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            seconds: 0,
            nanoseconds: 0,
            attributes: 0,
            size: 0,
            at: 0,
            links: 0,
            place: 0,
        }
    }

    fn find_node(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.lookup.find(parent, name, |node| self.nodes[node as usize].parent == parent && self.name(node) == name)
    }

    /// Appends a node for a name that is free.
    fn add(&mut self, parent: u32, name: &[u8], kind: Type) -> u32 {
        debug_assert!(name.len() <= NAME);
        // Four million entries at most, and the directories they imply.
        let number = self.nodes.len() as u32;
        self.nodes.push(self.node(parent, name, kind));
        self.text.extend_from_slice(name);
        let (nodes, text) = (&self.nodes, &self.text);
        self.lookup.insert(number, |node| {
            let node = &nodes[node as usize];
            (node.parent, &text[node.name as usize..][..usize::from(node.name_length)])
        });
        number
    }

    fn set(&mut self, number: u32, entry: &Entry) {
        let mut attributes = self.nodes[number as usize].attributes;
        if !entry.attributes.is_empty() {
            if attributes == 0 {
                self.attributes.push(entry.attributes.clone());
                attributes = self.attributes.len() as u32;
            } else {
                self.attributes[attributes as usize - 1].extend(entry.attributes.clone());
            }
        }
        let Time { seconds, nanoseconds } = entry.mtime;
        let node = &mut self.nodes[number as usize];
        let (mode, uid, gid) = (entry.mode as u16, entry.uid, entry.gid);
        *node = Node { mode, uid, gid, seconds, nanoseconds, attributes, ..*node };
    }

    fn text(&mut self, text: &[u8]) -> u32 {
        let at = self.text.len() as u32;
        self.text.extend_from_slice(text);
        at
    }

    /// What openat2(2) with `RESOLVE_IN_ROOT` finds, directories only.
    fn walk(&self, path: &[u8]) -> Outcome<Option<u32>> {
        let (mut at, mut followed) = (ROOT, 0);
        let mut left = vec![path];
        while let Some(path) = left.pop() {
            let mut end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            let name = &path[..end];
            while path.get(end) == Some(&b'/') {
                end += 1;
            }
            if end < path.len() {
                left.push(&path[end..]);
            }
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() > STEPS {
                return Err(failed("follow so many links", Errno::LOOP));
            }
            match name {
                b"" | b"." => continue,
                b".." => {
                    at = self.nodes[at as usize].parent;
                    continue;
                }
                _ if name.len() > NAME => return Err(failed("open its parent", Errno::NAMETOOLONG)),
                _ => {}
            }
            let Some(found) = self.find_node(at, name) else { return Ok(None) };
            let found = self.inode(found);
            let node = &self.nodes[found as usize];
            match node.kind {
                Type::Directory => at = found,
                Type::Symlink => {
                    followed += 1;
                    if followed > LINKS {
                        return Err(failed("open its parent", Errno::LOOP));
                    }
                    let target = self.target(node);
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    left.push(target);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

impl Tree for Index {
    type Directory = u32;

    fn root(&mut self) -> Outcome<u32> {
        Ok(ROOT)
    }

    fn resolve(&mut self, path: &[u8]) -> Outcome<Option<u32>> {
        self.walk(path)
    }

    fn child(&mut self, parent: &u32, name: &[u8]) -> Outcome<u32> {
        self.find_node(*parent, name).ok_or_else(|| failed("open the directory", Errno::NOENT))
    }

    fn find(&mut self, parent: &u32, name: &[u8]) -> Outcome<Option<Found>> {
        Ok(self.find_node(*parent, name).map(|node| {
            let node = &self.nodes[self.inode(node) as usize];
            match (node.kind, node.at) {
                (Type::Directory, _) => Found::Directory,
                (Type::CharacterDevice, 0) => Found::Whiteout,
                _ => Found::Other,
            }
        }))
    }

    fn remove(&mut self, parent: &u32, name: &[u8]) -> Outcome<()> {
        let (nodes, text) = (&self.nodes, &self.text);
        self.lookup.remove(*parent, name, |node| {
            let node = &nodes[node as usize];
            node.parent == *parent && text[node.name as usize..][..usize::from(node.name_length)] == *name
        });
        Ok(())
    }

    fn create_directory(&mut self, parent: &u32, name: &[u8]) -> Outcome<u32> {
        Ok(self.add(*parent, name, Type::Directory))
    }

    fn describe(&mut self, directory: &u32, _: &[u8], entry: &Entry) -> Outcome<()> {
        self.set(*directory, entry);
        Ok(())
    }

    fn set_opaque(&mut self, directory: &u32) -> Outcome<()> {
        let opaque = (OPAQUE.as_bytes().to_vec(), b"y".to_vec());
        let node = &mut self.nodes[*directory as usize];
        if node.attributes == 0 {
            self.attributes.push(Attributes::new());
            node.attributes = self.attributes.len() as u32;
        }
        self.attributes[node.attributes as usize - 1].extend([opaque]);
        Ok(())
    }

    fn create_file<R: BufRead>(
        &mut self,
        parent: &u32,
        name: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), Stop> {
        // The limit of a layer's bytes is half of what 32 bits of blocks hold.
        let block =
            u32::try_from(reader.offset() >> BLOCK_BITS).map_err(|_| failed("hold such a file", Errno::FBIG))?;
        debug_assert_eq!(reader.offset() % BLOCK, 0);
        let number = self.add(*parent, name, Type::File);
        self.set(number, entry);
        let mut at = block;
        if let Some(segments) = &entry.sparse {
            let pieces = Pieces::of(entry).ok_or(EntryError::Sparse { reason: "with holes of broken blocks" })?;
            at = self.sparse.len() as u32;
            self.sparse.push(SparseFile { block, pieces, segments: Arc::clone(segments) });
            self.nodes[number as usize].nanoseconds |= SPARSE;
        }
        let node = &mut self.nodes[number as usize];
        *node = Node { size: entry.size, at, ..*node };
        Ok(())
    }

    fn create_node(&mut self, parent: &u32, name: &[u8], entry: &Entry) -> Outcome<()> {
        let (major, minor) = entry.device;
        // `new_encode_dev` of the kernel's `kdev_t.h`.
        let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        let (kind, at) = match entry.kind {
            Kind::CharacterDevice => (Type::CharacterDevice, device),
            Kind::BlockDevice => (Type::BlockDevice, device),
            Kind::Fifo => (Type::Fifo, 0),
            _ => (Type::Symlink, self.text(&entry.link)),
        };
        let number = self.add(*parent, name, kind);
        self.set(number, entry);
        let node = &mut self.nodes[number as usize];
        node.at = at;
        if kind == Type::Symlink {
            (node.mode, node.size) = (0o777, entry.link.len() as u64);
        }
        Ok(())
    }

    fn create_hard_link(&mut self, parent: &u32, name: &[u8], folder: &u32, source: &[u8]) -> Outcome<()> {
        let source = self.child(folder, source)?;
        let target = self.inode(source);
        let number = self.add(*parent, name, Type::Link);
        self.nodes[number as usize].at = target;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), (Vec<u8>, EntryError)> {
        Ok(())
    }

    fn size(&mut self) -> Outcome<u64> {
        Ok(self
            .layout()
            .inodes
            .iter()
            .map(|inode| &self.nodes[*inode as usize])
            .fold(0, |sum, node| sum + if node.kind == Type::File { node.size } else { 0 }))
    }
}

/// The number of an attribute's name space in an image and the rest of its name.
pub(super) fn split_attribute(name: &[u8]) -> (u8, &[u8]) {
    match name {
        ACL_ACCESS => (2, b""),
        ACL_DEFAULT => (3, b""),
        _ => {
            for (number, space) in [(1, &b"user."[..]), (4, b"trusted."), (6, b"security.")] {
                if let Some(rest) = name.strip_prefix(space) {
                    return (number, rest);
                }
            }
            unreachable!("only attributes of these name spaces are taken in")
        }
    }
}

fn failed(action: &'static str, error: Errno) -> EntryError {
    EntryError::Io { action, source: error.into() }
}
