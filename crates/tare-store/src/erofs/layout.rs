//! The place of everything in the image: inodes in the order in which a walk through the tree meets them, a directory's
//! children side by side; then the blocks of directories and targets that do not fit behind their inodes.

use super::index::{Index, Node, ROOT, SPARSE, Type, split_attribute};
use super::{BLOCK, DIRENT, INODE, SLOT};

/// The first inode begins in the block after the superblock and the table of devices.
pub(super) const FIRST: u64 = 1536;
/// Bytes before an inode's attributes.
pub(super) const ATTRIBUTES: u64 = 12;
/// Bytes before an attribute's name.
pub(super) const ATTRIBUTE: u64 = 4;
/// Bytes of the place of one piece of a sparse file.
pub(super) const PIECE: u64 = 8;

/// Set beside nanoseconds, which do not reach it: the end of the contents stands behind the inode.
pub(super) const INLINE: u32 = 1 << 30;
/// What of the field is nanoseconds.
pub(super) const NANOSECONDS: u32 = !(SPARSE | INLINE);

/// What has which place; the places themselves are in the nodes.
pub(super) struct Layout {
    /// All inodes in the order of their places.
    pub(super) inodes: Vec<u32>,
    /// The nodes of all directories, those of one side by side, sorted.
    children: Vec<u32>,
    /// By node, where its children begin; one more at the end.
    starts: Vec<u32>,
    /// Bytes up to the end of the last inode.
    pub(super) end: u64,
    /// Blocks behind them.
    pub(super) blocks: u64,
}

/// An entry of a directory.
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
}

impl Layout {
    pub(super) fn children(&self, directory: u32) -> &[u32] {
        let directory = directory as usize;
        &self.children[self.starts[directory] as usize..self.starts[directory + 1] as usize]
    }
}

impl Index {
    /// Gives every inode that has a name its place, and counts its names.
    pub(super) fn layout(&mut self) -> Layout {
        let (starts, children) = self.families();
        let mut layout = Layout { inodes: Vec::new(), children, starts, end: FIRST, blocks: 0 };
        for node in &mut self.nodes {
            (node.links, node.place) = (0, 0);
            node.nanoseconds &= !INLINE;
        }
        self.place(ROOT, &mut layout);
        let mut directories = vec![ROOT];
        while let Some(directory) = directories.pop() {
            // Two names of its own, and one in each directory below.
            self.nodes[directory as usize].links += 2;
            let first = directories.len();
            for child in layout.starts[directory as usize]..layout.starts[directory as usize + 1] {
                let inode = self.inode(layout.children[child as usize]);
                if self.nodes[inode as usize].place == 0 {
                    self.place(inode, &mut layout);
                }
                if self.nodes[inode as usize].kind == Type::Directory {
                    self.nodes[directory as usize].links += 1;
                    directories.push(inode);
                } else {
                    self.nodes[inode as usize].links += 1;
                }
            }
            directories[first..].reverse();
        }
        layout
    }

    /// Sorts all named nodes by their directory and name.
    fn families(&self) -> (Vec<u32>, Vec<u32>) {
        let mut starts = vec![0_u32; self.nodes.len() + 1];
        for node in self.named() {
            starts[self.nodes[node as usize].parent as usize + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut children = vec![0; starts[self.nodes.len()] as usize];
        let mut next = starts.clone();
        for node in self.named() {
            let place = &mut next[self.nodes[node as usize].parent as usize];
            children[*place as usize] = node;
            *place += 1;
        }
        for family in starts.windows(2).filter(|family| family[1] - family[0] > 1) {
            let family = &mut children[family[0] as usize..family[1] as usize];
            family.sort_unstable_by(|left, right| self.name(*left).cmp(self.name(*right)));
        }
        (starts, children)
    }

    /// A directory's entries with its own two, in the order of bytes.
    pub(super) fn dirents<'a>(&'a self, directory: u32, layout: &Layout) -> Vec<Dirent<'a>> {
        let children = layout.children(directory);
        let mut dirents = Vec::with_capacity(children.len() + 2);
        let mut own = [(&b"."[..], directory), (b"..", self.nodes[directory as usize].parent)].into_iter().peekable();
        for child in children {
            let name = self.name(*child);
            while let Some((name, inode)) = own.next_if(|(own, _)| *own < name) {
                dirents.push(Dirent { name, inode });
            }
            dirents.push(Dirent { name, inode: self.inode(*child) });
        }
        dirents.extend(own.map(|(name, inode)| Dirent { name, inode }));
        dirents
    }

    fn place(&mut self, inode: u32, layout: &mut Layout) {
        let node = self.nodes[inode as usize];
        let size = match node.kind {
            Type::Directory => directory_size(&self.dirents(inode, layout)),
            _ => node.size,
        };
        let head = INODE + self.attributes_size(&node);
        let mut place = layout.end.next_multiple_of(SLOT);
        let (mut inline, mut behind) = (false, 0);
        match node.kind {
            Type::Directory | Type::Symlink => {
                let tail = size % BLOCK;
                let whole = node.kind == Type::Directory || size < BLOCK;
                // What stands behind an inode must not cross into another block; where moving it there costs more
                // than a block of its own, it gets one.
                let fit = (0..BLOCK / SLOT)
                    .map(|slots| slots * SLOT)
                    .find(|bump| (place + bump + head) % BLOCK + tail <= BLOCK);
                if let Some(bump) = fit.filter(|bump| tail > 0 && whole && bump + tail < BLOCK) {
                    place += bump;
                    (inline, behind) = (true, tail);
                }
                layout.blocks += if inline { size / BLOCK } else { size.div_ceil(BLOCK) };
            }
            Type::File if node.nanoseconds & SPARSE != 0 => {
                behind = self.sparse[node.at as usize].pieces.count * PIECE + (head.next_multiple_of(PIECE) - head);
            }
            _ => {}
        }
        layout.end = place + head + behind;
        layout.inodes.push(inode);
        let node = &mut self.nodes[inode as usize];
        node.size = size;
        // 2 GiB of slots are far above what four million entries and their text need.
        node.place = (place / SLOT) as u32;
        if inline {
            node.nanoseconds |= INLINE;
        }
    }

    /// Bytes of an inode's attributes in the image.
    pub(super) fn attributes_size(&self, node: &Node) -> u64 {
        self.attributes(node).filter(|attributes| !attributes.is_empty()).map_or(0, |attributes| {
            let sizes = attributes.iter().map(|(name, value)| {
                (ATTRIBUTE + (split_attribute(name).1.len() + value.len()) as u64).next_multiple_of(4)
            });
            ATTRIBUTES + sizes.sum::<u64>()
        })
    }
}

/// Bytes of a directory's entries in blocks that no entry crosses.
fn directory_size(dirents: &[Dirent<'_>]) -> u64 {
    let (mut full, mut used) = (0, 0);
    for dirent in dirents {
        let size = (DIRENT + dirent.name.len()) as u64;
        if used + size > BLOCK {
            full += BLOCK;
            used = 0;
        }
        used += size;
    }
    full + used
}
