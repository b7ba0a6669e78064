//! The bytes of the image (kernel source, `fs/erofs/erofs_fs.h`). All numbers are little-endian.

use super::index::{Index, Node, SPARSE, SparseFile, Type, split_attribute};
use super::layout::{ATTRIBUTES, Dirent, FIRST, INLINE, Layout, NANOSECONDS, PIECE};
use super::{BLOCK, BLOCK_BITS, DIRENT, INODE, SLOT};
use std::io::{self, BufWriter, Write};

const MAGIC: u32 = 0xe0f5_e1e2;
/// Where the superblock begins.
const SUPERBLOCK: u64 = 1024;
/// Bytes of the superblock, and of an entry of the table of devices, which follows it at once.
const RECORD: u64 = 128;
/// Inodes have times of their own. The superblock has no checksum: fsck.erofs crashes on one where blocks are smaller than
/// what stands before the superblock (erofs-utils 1.8.6), and mkfs.erofs makes none there either. The layer's record
/// has the digest of the whole image.
const COMPATIBLE: u32 = 0x2;
/// Files in pieces, a table of devices.
const INCOMPATIBLE: u32 = 0x4 | 0x8;

/// Forms of an inode's contents: in consecutive blocks, the same with the last one behind the inode, in pieces.
const PLAIN: u16 = 0;
const WITH_TAIL: u16 = 2;
const IN_PIECES: u16 = 4;

/// Contents are described by an array of [`PIECE`] bytes each.
const INDEXED: u16 = 0x20;
/// A piece that is a hole, and the first block of a file without contents.
const NOTHING: u32 = u32::MAX;
/// The number of the second device.
const ARCHIVE: u16 = 1;

impl Index {
    /// Writes the image of a layer whose archive has this many bytes. The same index always gives the same image.
    pub(crate) fn write(mut self, archive: u64, output: &mut dyn Write) -> io::Result<()> {
        let layout = self.layout();
        let inodes = layout.end.div_ceil(BLOCK);
        let image = Image { index: &self, layout: &layout, archive, inodes, total: inodes + layout.blocks };
        if image.total + archive.div_ceil(BLOCK) >= u64::from(NOTHING) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the layer is too large for an image"));
        }
        let mut output = Output { writer: BufWriter::with_capacity(256 * 1024, output), position: 0 };
        output.pad(SUPERBLOCK)?;
        output.put(&image.superblock())?;
        output.pad(FIRST)?;
        image.write_inodes(&mut output)?;
        output.pad(inodes * BLOCK)?;
        image.write_blocks(&mut output)?;
        debug_assert_eq!(output.position, image.total * BLOCK);
        output.writer.flush()
    }
}

struct Output<'a> {
    writer: BufWriter<&'a mut dyn Write>,
    position: u64,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.writer.write_all(bytes)
    }

    /// Zeros up to a place.
    fn pad(&mut self, place: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        debug_assert!(self.position <= place, "something overlaps what comes at {place}");
        while self.position < place {
            self.put(&ZEROS[..(place - self.position).min(4096) as usize])?;
        }
        Ok(())
    }
}

struct Image<'a> {
    index: &'a Index,
    layout: &'a Layout,
    /// Bytes of the second device.
    archive: u64,
    /// Blocks up to the end of the inodes, and of the whole image. The second device's blocks are numbered on from
    /// there.
    inodes: u64,
    total: u64,
}

impl Image<'_> {
    /// The superblock and what else is in its block: the table of devices.
    fn superblock(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK as usize);
        block.extend(MAGIC.to_le_bytes());
        block.extend(0_u32.to_le_bytes()); // no checksum
        block.extend(COMPATIBLE.to_le_bytes());
        block.extend([BLOCK_BITS as u8, 0]); // no extension of the superblock
        block.extend(((FIRST / SLOT) as u16).to_le_bytes()); // the root's inode
        block.extend((self.layout.inodes.len() as u64).to_le_bytes());
        block.extend([0; 12]); // times of inodes that have none
        block.extend((self.total as u32).to_le_bytes());
        block.extend([0; 8]); // inodes are counted from the image's start; no shared attributes
        block.extend([0; 16]); // no UUID
        block.extend(*b"tare layer\0\0\0\0\0\0");
        block.extend(INCOMPATIBLE.to_le_bytes());
        block.extend([0; 2]); // no compression
        block.extend(ARCHIVE.to_le_bytes()); // one more device
        block.extend((((SUPERBLOCK + RECORD) / RECORD) as u16).to_le_bytes());
        block.resize(RECORD as usize, 0);
        let mut tag = b"data.tar".to_vec();
        tag.resize(64, 0);
        block.extend(tag);
        block.extend((self.archive.div_ceil(BLOCK) as u32).to_le_bytes());
        block.extend((self.total as u32).to_le_bytes());
        block.resize(BLOCK as usize, 0);
        block
    }

    /// The first block of contents in the archive.
    fn in_archive(&self, block: u32) -> u32 {
        // Checked by `write` for the last one.
        (self.total + u64::from(block)) as u32
    }

    fn write_inodes(&self, output: &mut Output<'_>) -> io::Result<()> {
        let mut block = self.inodes;
        for (number, inode) in self.layout.inodes.iter().enumerate() {
            let node = &self.index.nodes[*inode as usize];
            output.pad(u64::from(node.place) * SLOT)?;
            let own = own_blocks(node);
            let first = if own > 0 { block as u32 } else { NOTHING };
            output.put(&self.inode(node, number as u32, first))?;
            self.write_attributes(node, output)?;
            match node.kind {
                Type::File if node.nanoseconds & SPARSE != 0 => {
                    output.pad(output.position.next_multiple_of(PIECE))?;
                    self.write_pieces(&self.index.sparse[node.at as usize], node.size, output)?;
                }
                Type::Symlink if node.nanoseconds & INLINE != 0 => output.put(self.index.target(node))?,
                Type::Directory if node.nanoseconds & INLINE != 0 => {
                    output.put(&self.directory(*inode)[(own * BLOCK) as usize..])?;
                }
                _ => {}
            }
            block += own;
        }
        Ok(())
    }

    fn write_blocks(&self, output: &mut Output<'_>) -> io::Result<()> {
        let start = output.position;
        let mut blocks = 0;
        for inode in &self.layout.inodes {
            let node = &self.index.nodes[*inode as usize];
            let own = own_blocks(node);
            if own == 0 {
                continue;
            }
            if node.kind == Type::Symlink {
                output.put(self.index.target(node))?;
            } else {
                let entries = self.directory(*inode);
                output.put(&entries[..entries.len().min((own * BLOCK) as usize)])?;
            }
            blocks += own;
            output.pad(start + blocks * BLOCK)?;
        }
        Ok(())
    }

    /// An inode of the extended form.
    fn inode(&self, node: &Node, number: u32, first: u32) -> Vec<u8> {
        let (file_type, layout, contents) = match node.kind {
            Type::File if node.nanoseconds & SPARSE != 0 => {
                let bits = self.index.sparse[node.at as usize].pieces.bits - BLOCK_BITS;
                (0o100_000, IN_PIECES, u32::from(INDEXED) | bits)
            }
            Type::File if node.size == 0 => (0o100_000, PLAIN, NOTHING),
            Type::File => (0o100_000, PLAIN, self.in_archive(node.at)),
            Type::Directory => (0o040_000, PLAIN, first),
            Type::Symlink => (0o120_000, PLAIN, first),
            Type::CharacterDevice => (0o020_000, PLAIN, node.at),
            Type::BlockDevice => (0o060_000, PLAIN, node.at),
            Type::Fifo => (0o010_000, PLAIN, 0),
            Type::Link => unreachable!("a link is no inode"),
        };
        let layout = if node.nanoseconds & INLINE != 0 { WITH_TAIL } else { layout };
        let attributes = match self.index.attributes_size(node) {
            0 => 0,
            size => 1 + (size - ATTRIBUTES) / 4,
        };
        let mut inode = Vec::with_capacity(INODE as usize);
        inode.extend((1 | layout << 1).to_le_bytes());
        inode.extend((attributes as u16).to_le_bytes());
        inode.extend((file_type | node.mode).to_le_bytes());
        inode.extend([0; 2]);
        inode.extend(node.size.to_le_bytes());
        inode.extend(contents.to_le_bytes());
        inode.extend(number.to_le_bytes());
        inode.extend(node.uid.to_le_bytes());
        inode.extend(node.gid.to_le_bytes());
        inode.extend(node.seconds.to_le_bytes());
        inode.extend((node.nanoseconds & NANOSECONDS).to_le_bytes());
        inode.extend(node.links.to_le_bytes());
        inode.resize(INODE as usize, 0);
        inode
    }

    fn write_attributes(&self, node: &Node, output: &mut Output<'_>) -> io::Result<()> {
        let Some(attributes) = self.index.attributes(node).filter(|attributes| !attributes.is_empty()) else {
            return Ok(());
        };
        output.put(&[0; ATTRIBUTES as usize])?; // no filter of names, none of them shared
        for (name, value) in attributes {
            let (space, name) = split_attribute(name);
            let size = value.len() as u16;
            output.put(&[name.len() as u8, space, size as u8, (size >> 8) as u8])?;
            output.put(name)?;
            output.put(value)?;
            output.pad(output.position.next_multiple_of(4))?;
        }
        Ok(())
    }

    /// Where each piece of a sparse file is.
    fn write_pieces(&self, file: &SparseFile, size: u64, output: &mut Output<'_>) -> io::Result<()> {
        let mut segments = file.segments.iter().peekable();
        // Blocks of the archive before the run that is next.
        let mut before = u64::from(file.block);
        for piece in 0..file.pieces.count {
            let start = piece << file.pieces.bits;
            while let Some(segment) = segments.next_if(|segment| segment.offset + segment.length <= start) {
                before += segment.length.div_ceil(BLOCK);
            }
            let block = match segments.peek() {
                Some(segment) if segment.offset <= start => {
                    self.in_archive((before + (start - segment.offset) / BLOCK) as u32)
                }
                _ => NOTHING,
            };
            output.put(&0_u16.to_le_bytes())?;
            output.put(&[0; 2])?; // the device is found by the block's number
            output.put(&block.to_le_bytes())?;
        }
        debug_assert!(size <= file.pieces.count << file.pieces.bits);
        Ok(())
    }

    /// The entries of a directory: in each block first where they lead to, then their names.
    fn directory(&self, directory: u32) -> Vec<u8> {
        let dirents = self.index.dirents(directory, self.layout);
        let mut bytes = Vec::with_capacity(self.index.nodes[directory as usize].size as usize);
        let mut rest = &dirents[..];
        while !rest.is_empty() {
            let mut used = 0;
            let fits = |dirent: &&Dirent<'_>| {
                used += DIRENT + dirent.name.len();
                used <= BLOCK as usize
            };
            let (block, later) = rest.split_at(rest.iter().take_while(fits).count());
            let mut place = block.len() * DIRENT;
            for dirent in block {
                let node = &self.index.nodes[dirent.inode as usize];
                bytes.extend(u64::from(node.place).to_le_bytes());
                bytes.extend((place as u16).to_le_bytes());
                bytes.extend([file_type(node.kind), 0]);
                place += dirent.name.len();
            }
            block.iter().for_each(|dirent| bytes.extend(dirent.name));
            if !later.is_empty() {
                bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
            }
            rest = later;
        }
        bytes
    }
}

/// Blocks of an inode's contents in the image itself.
fn own_blocks(node: &Node) -> u64 {
    match node.kind {
        Type::Directory | Type::Symlink if node.nanoseconds & INLINE != 0 => node.size / BLOCK,
        Type::Directory | Type::Symlink => node.size.div_ceil(BLOCK),
        _ => 0,
    }
}

/// `FT_*` of the kernel's `fs_types.h`.
fn file_type(kind: Type) -> u8 {
    match kind {
        Type::File => 1,
        Type::Directory => 2,
        Type::CharacterDevice => 3,
        Type::BlockDevice => 4,
        Type::Fifo => 5,
        Type::Symlink => 7,
        Type::Link => unreachable!("a link is no inode"),
    }
}
