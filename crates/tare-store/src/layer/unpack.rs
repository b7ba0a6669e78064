//! A tree of files below one directory of the disk.
//!
//! Paths are resolved by the kernel inside the directory, links included; names are created in open directories.

use super::attributes::ACL_DEFAULT;
use super::tree::{EntryError, Found, Outcome, Stop, Tree};
use super::whiteout::OPAQUE;
use crate::tar::{Entry, Kind, Reader, Time};
use rustix::fs::{FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use tare_sys::directory::{Directory, device_number};

/// The files of one layer in the making.
pub(crate) struct Unpacker<'a> {
    root: &'a Directory,
    path: &'a Path,
    /// What is set at the end: times, because every entry changes its directory's, and what new files would inherit.
    last: Vec<Last>,
    buffer: Vec<u8>,
}

struct Last {
    path: Vec<u8>,
    time: Time,
    inherited: Option<Vec<u8>>,
}

impl<'a> Unpacker<'a> {
    /// Of the empty directory `root`, which is at `path`.
    pub(crate) fn new(root: &'a Directory, path: &'a Path) -> Self {
        Self { root, path, last: Vec::new(), buffer: vec![0; 256 * 1024] }
    }

    /// The directory that an entry made, unless a later one put something else in its place.
    fn finished(&mut self, path: &[u8]) -> Outcome<Option<Directory>> {
        let mut components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        components.retain(|name| !name.is_empty() && *name != b".");
        let Some((name, folders)) = components.split_last() else { return self.open(b".") };
        let Some(parent) = self.open(&folders.join(&b'/'))? else { return Ok(None) };
        match parent.find(OsStr::from_bytes(name)).map_err(io_error("inspect the directory"))? {
            Some(found) if found.file_type == FileType::Directory => {
                parent.child(OsStr::from_bytes(name)).map(Some).map_err(io_error("open the directory"))
            }
            _ => Ok(None),
        }
    }

    fn finish_one(&mut self, last: &Last) -> Outcome<()> {
        let Some(directory) = self.finished(&last.path)? else { return Ok(()) };
        if let Some(value) = &last.inherited {
            let name = OsStr::from_bytes(ACL_DEFAULT);
            supported(ACL_DEFAULT, directory.set_own_attribute(name, value))?;
        }
        directory.set_own_times(&timestamps(last.time)).map_err(io_error("set the times"))
    }

    fn open(&self, path: &[u8]) -> Outcome<Option<Directory>> {
        match self.root.resolve(Path::new(OsStr::from_bytes(path))) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(EntryError::Io { action: "open its parent", source }),
        }
    }

    /// The contents of a file: what the archive holds, at its places.
    fn contents<R: BufRead>(&mut self, entry: &Entry, file: &File, reader: &mut Reader<R>) -> Result<(), Stop> {
        let whole = [crate::tar::Segment { offset: 0, length: entry.size }];
        for segment in entry.sparse.as_deref().unwrap_or(&whole) {
            let (mut at, end) = (segment.offset, segment.offset + segment.length);
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let count = reader.read_stored(&mut self.buffer[..wanted])?;
                file.write_all_at(&self.buffer[..count], at).map_err(io_error("write the file"))?;
                at += count as u64;
            }
        }
        if entry.sparse.is_some() {
            file.set_len(entry.size).map_err(io_error("set the size of the file"))?;
        }
        Ok(())
    }
}

impl Tree for Unpacker<'_> {
    type Directory = Rc<Directory>;

    fn root(&mut self) -> Outcome<Self::Directory> {
        self.root.resolve(Path::new(".")).map(Rc::new).map_err(io_error("open the layer's root"))
    }

    fn resolve(&mut self, path: &[u8]) -> Outcome<Option<Self::Directory>> {
        Ok(self.open(path)?.map(Rc::new))
    }

    fn child(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<Self::Directory> {
        parent.child(OsStr::from_bytes(name)).map(Rc::new).map_err(io_error("open the directory"))
    }

    fn find(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<Option<Found>> {
        let found = parent.find(OsStr::from_bytes(name)).map_err(io_error("inspect what has its name"))?;
        Ok(found.map(|found| match (found.file_type, found.device) {
            (FileType::Directory, _) => Found::Directory,
            (FileType::CharacterDevice, 0) => Found::Whiteout,
            _ => Found::Other,
        }))
    }

    fn remove(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<()> {
        parent.remove(OsStr::from_bytes(name)).map_err(io_error("remove what the entry replaces"))
    }

    fn create_directory(&mut self, parent: &Self::Directory, name: &[u8]) -> Outcome<Self::Directory> {
        parent.create_directory(OsStr::from_bytes(name), 0o700).map_err(io_error("create the directory"))?;
        self.child(parent, name)
    }

    fn describe(&mut self, directory: &Self::Directory, path: &[u8], entry: &Entry) -> Outcome<()> {
        directory
            .set_own(entry.uid, entry.gid, entry.mode)
            .map_err(io_error("set the owner and mode of the directory"))?;
        attributes(entry, |name, value| directory.set_own_attribute(name, value))?;
        let inherited = entry.attributes.get(ACL_DEFAULT).cloned();
        self.last.push(Last { path: path.to_vec(), time: entry.mtime, inherited });
        Ok(())
    }

    fn set_opaque(&mut self, directory: &Self::Directory) -> Outcome<()> {
        directory.set_own_attribute(OsStr::new(OPAQUE), b"y").map_err(io_error("make the directory opaque"))
    }

    fn create_file<R: BufRead>(
        &mut self,
        parent: &Self::Directory,
        name: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), Stop> {
        let file = parent.create_file(OsStr::from_bytes(name)).map_err(io_error("create the file"))?;
        self.contents(entry, &file, reader)?;
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        // Changing the owner takes away setuid and capabilities: it comes first.
        rustix::fs::fchown(&file, Some(owner.0), Some(owner.1)).map_err(call_error("set the owner"))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(call_error("set the mode"))?;
        attributes(entry, |name, value| Ok(rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())?))?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(call_error("set the times"))?;
        Ok(())
    }

    fn create_node(&mut self, parent: &Self::Directory, name: &[u8], entry: &Entry) -> Outcome<()> {
        let name = OsStr::from_bytes(name);
        let file_type = match entry.kind {
            Kind::CharacterDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        if file_type == FileType::Symlink {
            let target = OsStr::from_bytes(&entry.link);
            parent.create_symlink(name, target).map_err(io_error("create the symbolic link"))?;
        } else {
            let number = device_number(entry.device.0, entry.device.1);
            parent.create_node(name, file_type, number).map_err(io_error("create the device or FIFO"))?;
        }
        parent.set_owner(name, entry.uid, entry.gid).map_err(io_error("set the owner"))?;
        if file_type != FileType::Symlink {
            parent.set_mode(name, entry.mode).map_err(io_error("set the mode"))?;
        }
        attributes(entry, |attribute, value| parent.set_attribute(name, attribute, value))?;
        parent.set_times(name, &timestamps(entry.mtime)).map_err(io_error("set the times"))
    }

    fn create_hard_link(
        &mut self,
        parent: &Self::Directory,
        name: &[u8],
        folder: &Self::Directory,
        source: &[u8],
    ) -> Outcome<()> {
        let (name, source) = (OsStr::from_bytes(name), OsStr::from_bytes(source));
        parent.create_hard_link(name, folder, source).map_err(io_error("create the hard link"))
    }

    fn finish(&mut self) -> Result<(), (Vec<u8>, EntryError)> {
        for last in std::mem::take(&mut self.last) {
            self.finish_one(&last).map_err(|error| (last.path, error))?;
        }
        Ok(())
    }

    fn size(&mut self) -> Outcome<u64> {
        let counted = crate::disk::contents(self.path).map_err(io::Error::other);
        counted.map_err(io_error("count the bytes of its files"))
    }
}

fn attributes(entry: &Entry, set: impl Fn(&OsStr, &[u8]) -> io::Result<()>) -> Outcome<()> {
    for (name, value) in entry.attributes.iter().filter(|(name, _)| *name != ACL_DEFAULT) {
        supported(name, set(OsStr::from_bytes(name), value))?;
    }
    Ok(())
}

/// A file system without such attributes: other engines go on as well, but a program that silently lost its
/// capabilities would fail later for no visible reason.
fn supported(name: &[u8], set: io::Result<()>) -> Outcome<()> {
    match set {
        Err(error)
            if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) && name != b"security.capability" =>
        {
            Ok(())
        }
        result => result.map_err(io_error("set an extended attribute")),
    }
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> EntryError {
    move |source| EntryError::Io { action, source }
}

fn call_error(action: &'static str) -> impl Fn(Errno) -> EntryError {
    move |error| EntryError::Io { action, source: error.into() }
}
