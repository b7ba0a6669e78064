//! Folders and files that are made for mounts to be mounted over, and are no change that a step made: they are found out
//! before the step, and taken away after it.

use crate::error::{Error, Result};
use rustix::fs::FileType;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use tare_sys::directory::Directory;

/// Symbolic links that a target may lead through, as the kernel's own limit.
const MAX_LINKS: usize = 40;

/// What the engine mounts over in every root; the layer of mount points has them, but an image can hide that.
const OF_ENGINE: [&str; 6] = ["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"];

/// Paths below the root, without links in them, each after those above it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets(Vec<PathBuf>);

impl Targets {
    /// What the runtime will make below the root that is open here, to mount something at these places.
    pub(super) fn missing<'a>(root: &Directory, targets: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let mut missing = Vec::new();
        for target in targets {
            find_missing(root, target, &mut missing)
                .map_err(|source| Error::file("look for the target of a mount at", target, source))?;
        }
        missing.sort();
        missing.dedup();
        Ok(Self(missing))
    }

    /// Takes away from an upper directory what was made, unless there is something in it. Nobody uses the directory any
    /// more; it is hostile all the same: no link is followed.
    pub(super) fn remove(&self, upper: &Directory) -> io::Result<()> {
        for path in self.0.iter().rev() {
            remove_empty(upper, path)?;
        }
        OF_ENGINE.iter().try_for_each(|path| remove_empty(upper, Path::new(path)))
    }
}

fn find_missing(root: &Directory, target: &Path, missing: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut rest = VecDeque::new();
    for name in names(target) {
        // The runtime takes `..` of a target away before it looks for it.
        if name == ".." { drop(rest.pop_back()) } else { rest.push_back(name) }
    }
    let (mut done, mut links) = (PathBuf::new(), 0);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        let folder = root.resolve(&done)?;
        match folder.metadata(&name)?.map(|found| found.file_type) {
            None => {
                // All the rest is made, but for what a `..` leaves again.
                done = next;
                missing.push(done.clone());
                for name in rest {
                    if name == ".." {
                        done.pop();
                    } else {
                        done.push(name);
                        missing.push(done.clone());
                    }
                }
                return Ok(());
            }
            Some(FileType::Symlink) if links < MAX_LINKS => {
                links += 1;
                let link = PathBuf::from(folder.read_link(&name)?);
                if link.is_absolute() {
                    done = PathBuf::new();
                }
                for name in names(&link).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            Some(FileType::Directory) => done = next,
            // The target itself, or what the runtime refuses to go through.
            Some(_) => return Ok(()),
        }
    }
    Ok(())
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from_vec(b"..".to_vec())),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Removes an empty folder or file.
fn remove_empty(upper: &Directory, path: &Path) -> io::Result<()> {
    let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else { return Ok(()) };
    let mut folders: Vec<Directory> = Vec::new();
    for component in parent {
        match folders.last().unwrap_or(upper).child(component) {
            Ok(folder) => folders.push(folder),
            // The step has put something else there, or nothing of this was made in this layer.
            Err(error) if is_elsewhere(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let folder = folders.last().unwrap_or(upper);
    let Some(found) = folder.metadata(name)? else { return Ok(()) };
    let removed = match found.file_type {
        FileType::Directory => folder.remove_empty(name),
        FileType::RegularFile if found.size == 0 => folder.remove(name),
        _ => return Ok(()),
    };
    match removed {
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
        removed => removed,
    }
}

/// Whether a name is not there, or no folder.
fn is_elsewhere(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn missing_targets_are_found_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("run/there")).unwrap();
        fs::create_dir(path.join("var")).unwrap();
        symlink("../run", path.join("var/run")).unwrap();
        symlink("/gone/deep", path.join("dangling")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        fs::write(path.join("file"), "").unwrap();
        let root = Directory::open(path).unwrap();
        let targets =
            ["/run/there", "/var/run/secrets/a", "/dangling/x", "/file", "/file/x", "/new/../other", "/../up", "/loop"];
        let found = Targets::missing(&root, targets.into_iter().map(Path::new)).unwrap();
        let expected =
            ["gone", "gone/deep", "gone/deep/x", "other", "run/secrets", "run/secrets/a", "up"].map(PathBuf::from);
        assert_eq!(found, Targets(expected.to_vec()));
    }

    #[test]
    fn only_what_is_empty_is_removed_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (upper, outside) = (folder.path().join("upper"), folder.path().join("outside"));
        fs::create_dir_all(outside.join("empty")).unwrap();
        for path in ["a/b", "full/b", "dev", "etc"] {
            fs::create_dir_all(upper.join(path)).unwrap();
        }
        for (path, content) in [("a/b/file", ""), ("full/b/made", ""), ("full/other", "x"), ("etc/hosts", "kept")] {
            fs::write(upper.join(path), content).unwrap();
        }
        symlink(&outside, upper.join("link")).unwrap();
        let made = ["a", "a/b", "a/b/file", "full", "full/b", "full/b/made", "link/empty", "none/x"];
        Targets(made.map(PathBuf::from).to_vec()).remove(&Directory::open(&upper).unwrap()).unwrap();
        let mut left: Vec<_> = fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["etc", "full", "link"]);
        assert_eq!(fs::read_dir(upper.join("full")).unwrap().count(), 1);
        assert!(outside.join("empty").is_dir());
    }
}
