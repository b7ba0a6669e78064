//! The files that a build may copy.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where the files of a build come from.
#[derive(Clone, Debug)]
pub enum Context {
    /// Files by path, without leading slash: mode and contents.
    Memory(BTreeMap<String, (u32, Vec<u8>)>),
    /// A folder. Nothing outside of it is ever read, wherever its symbolic links point.
    Folder(PathBuf),
}

/// A file, link or folder below a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Path relative to the source; empty for the source itself.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: FoundKind,
    pub(crate) mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    Folder,
    File,
    Link(Vec<u8>),
}

/// An opened context.
pub(crate) enum Files<'a> {
    Memory(&'a BTreeMap<String, (u32, Vec<u8>)>),
    Folder(OwnedFd),
}

impl Context {
    pub(crate) fn open(&self) -> io::Result<Files<'_>> {
        match self {
            Self::Memory(files) => Ok(Files::Memory(files)),
            Self::Folder(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(Files::Folder(rustix::fs::open(path, flags, Mode::empty())?))
            }
        }
    }
}

impl Files<'_> {
    /// Whether the context has rules for what to leave out.
    pub(crate) fn has_ignore_file(&self) -> bool {
        match self {
            Self::Memory(files) => files.contains_key(".dockerignore"),
            Self::Folder(root) => rustix::fs::statat(root, ".dockerignore", AtFlags::SYMLINK_NOFOLLOW).is_ok(),
        }
    }

    /// A source and everything below it, in the order of the paths. The source itself may be a symbolic link,
    /// which is followed inside the context; links below it are copied as they are.
    pub(crate) fn list(&self, source: &str) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        match self {
            Self::Memory(files) => {
                if let Some((mode, _)) = files.get(source) {
                    return Ok(vec![Found { path: Vec::new(), kind: FoundKind::File, mode: *mode }]);
                }
                let prefix = if source.is_empty() { String::new() } else { format!("{source}/") };
                let mut folders = std::collections::BTreeSet::new();
                for (path, (mode, _)) in *files {
                    let Some(path) = path.strip_prefix(&prefix) else { continue };
                    folders.extend(path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
                    found.push(Found { path: path.into(), kind: FoundKind::File, mode: *mode });
                }
                if found.is_empty() && !source.is_empty() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                folders.insert(String::new());
                let folder = |path: String| Found { path: path.into(), kind: FoundKind::Folder, mode: 0o755 };
                found.extend(folders.into_iter().map(folder));
            }
            Self::Folder(root) => {
                let source = open_inside(root, source.as_bytes())?;
                let stat = rustix::fs::fstat(&source)?;
                let mode = stat.st_mode & 0o7777;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => found.push(Found { path: Vec::new(), kind: FoundKind::File, mode }),
                    FileType::Directory => {
                        found.push(Found { path: Vec::new(), kind: FoundKind::Folder, mode });
                        walk(source, Vec::new(), &mut found)?;
                    }
                    _ => return Err(special()),
                }
            }
        }
        found.sort_by(|one, other| one.path.split(|b| *b == b'/').cmp(other.path.split(|b| *b == b'/')));
        Ok(found)
    }

    /// A file below a source, with its size.
    pub(crate) fn read(&self, source: &str, path: &[u8]) -> io::Result<(Box<dyn Read + '_>, u64)> {
        let whole = if path.is_empty() {
            source.as_bytes().to_vec()
        } else if source.is_empty() {
            path.to_vec()
        } else {
            [source.as_bytes(), b"/", path].concat()
        };
        match self {
            Self::Memory(files) => {
                let name = std::str::from_utf8(&whole).map_err(|_| io::ErrorKind::NotFound)?;
                let (_, contents) = files.get(name).ok_or(io::ErrorKind::NotFound)?;
                Ok((Box::new(&contents[..]), contents.len() as u64))
            }
            Self::Folder(root) => {
                let file = File::from(open_inside(root, &whole)?);
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(special());
                }
                Ok((Box::new(file), metadata.len()))
            }
        }
    }
}

fn open_inside(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b".".to_vec() } else { path.to_vec() };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = std::ffi::OsString::from_vec(path);
    loop {
        match rustix::fs::openat2(root, &path, flags, Mode::empty(), resolve) {
            // Something was renamed while the kernel resolved a `..`.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn walk(folder: OwnedFd, prefix: Vec<u8>, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path =
            if prefix.is_empty() { name.to_bytes().to_vec() } else { [&prefix, &b"/"[..], name.to_bytes()].concat() };
        let stat = rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = stat.st_mode & 0o7777;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FoundKind::File,
            FileType::Symlink => FoundKind::Link(rustix::fs::readlinkat(&folder, name, Vec::new())?.into_bytes()),
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let child = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
                found.push(Found { path: path.clone(), kind: FoundKind::Folder, mode });
                walk(child, path, found)?;
                continue;
            }
            // A socket or FIFO that some program left in the folder is no part of the sources.
            _ => continue,
        };
        found.push(Found { path, kind, mode });
    }
    Ok(())
}

fn special() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder")
}
