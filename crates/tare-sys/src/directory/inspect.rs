//! What a directory's names are, in full, without opening or following them.

use super::{Directory, component};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Metadata of a file of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Regular file, directory, symbolic link, …
    pub file_type: FileType,
    /// The twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of a regular file.
    pub size: u64,
    /// Time of last change of the contents: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Time of last change of anything, which nobody can set: seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// What tells this file from all others: its file system's number and its own.
    pub identity: (u64, u64),
    /// How many names it has.
    pub links: u64,
}

impl From<Stat> for Metadata {
    fn from(stat: Stat) -> Self {
        Self {
            file_type: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            // The kernel's nanoseconds are below a thousand million.
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
            device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            identity: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
        }
    }
}

impl Directory {
    /// What this name is, or `None` when it does not exist.
    ///
    /// # Errors
    /// Those of `fstatat(2)` other than `ENOENT`.
    pub fn metadata(&self, name: &OsStr) -> io::Result<Option<Metadata>> {
        match rustix::fs::statat(&self.0, component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What this directory itself is.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn own_metadata(&self) -> io::Result<Metadata> {
        Ok(rustix::fs::fstat(&self.0)?.into())
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// Those of `readlinkat(2)`.
    pub fn read_link(&self, name: &OsStr) -> io::Result<OsString> {
        let text = rustix::fs::readlinkat(&self.0, component(name)?, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()))
    }

    /// The extended attributes of what this name is, a symbolic link's own, sorted. A file system without
    /// attributes has none. For the way there see [`Directory::set_attribute`].
    ///
    /// # Errors
    /// Those of `llistxattr(2)` and `lgetxattr(2)`.
    pub fn attributes(&self, name: &OsStr) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let mut path = format!("/proc/self/fd/{}/", self.0.as_raw_fd()).into_bytes();
        path.extend_from_slice(component(name)?.as_bytes());
        let path = OsStr::from_bytes(&path);
        collect(&|buffer| rustix::fs::llistxattr(path, buffer), &|attribute, buffer| {
            rustix::fs::lgetxattr(path, attribute, buffer)
        })
    }

    /// The extended attributes of this directory itself, sorted.
    ///
    /// # Errors
    /// Those of `flistxattr(2)` and `fgetxattr(2)`.
    pub fn own_attributes(&self) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        collect(&|buffer| rustix::fs::flistxattr(&self.0, buffer), &|attribute, buffer| {
            rustix::fs::fgetxattr(&self.0, attribute, buffer)
        })
    }
}

type List<'a> = &'a dyn Fn(&mut [u8]) -> Result<usize, Errno>;
type Get<'a> = &'a dyn Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>;

fn collect(list: List<'_>, get: Get<'_>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let names = match read_all(list) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        match read_all(&|buffer| get(name, buffer)) {
            Ok(value) => attributes.push((name.to_owned(), value)),
            // Taken away meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    attributes.sort();
    Ok(attributes)
}

/// A list or value: most are short, and none is longer than 64 KiB (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
fn read_all(read: &dyn Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(count) => Ok(small[..count].to_vec()),
        Err(Errno::RANGE) => {
            let mut buffer = vec![0; 64 << 10];
            let count = read(&mut buffer)?;
            buffer.truncate(count);
            Ok(buffer)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn names_are_described_without_following_them() {
        let path = std::env::temp_dir().join(format!("tare-inspect-{}", std::process::id()));
        super::super::remove_tree(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let directory = Directory::open(&path).unwrap();
        std::fs::write(path.join("file"), "abc").unwrap();
        std::fs::hard_link(path.join("file"), path.join("second")).unwrap();
        std::os::unix::fs::symlink("/nowhere", path.join("link")).unwrap();
        let found = |name: &str| directory.metadata(OsStr::new(name)).unwrap();
        let file = found("file").unwrap();
        assert_eq!((file.file_type, file.size, file.links), (FileType::RegularFile, 3, 2));
        assert_eq!(file.identity, found("second").unwrap().identity);
        assert_eq!(found("link").unwrap().file_type, FileType::Symlink);
        assert_eq!(directory.read_link(OsStr::new("link")).unwrap(), "/nowhere");
        assert_eq!(found("none"), None);
        assert!(directory.metadata(OsStr::new("../x")).is_err());
        assert_eq!(directory.own_metadata().unwrap().file_type, FileType::Directory);
        let long = vec![b'x'; 1000];
        directory.set_attribute(OsStr::new("file"), OsStr::new("user.b"), &long).unwrap();
        directory.set_attribute(OsStr::new("file"), OsStr::new("user.a"), b"").unwrap();
        directory.set_own_attribute(OsStr::new("user.own"), b"1").unwrap();
        let names = |list: Vec<(OsString, Vec<u8>)>| {
            list.into_iter().filter(|(name, _)| name.as_bytes().starts_with(b"user.")).collect::<Vec<_>>()
        };
        assert_eq!(
            names(directory.attributes(OsStr::new("second")).unwrap()),
            [("user.a".into(), Vec::new()), ("user.b".into(), long)]
        );
        assert_eq!(names(directory.own_attributes().unwrap()), [("user.own".into(), b"1".to_vec())]);
        super::super::remove_tree(Path::new(&path)).unwrap();
    }
}
