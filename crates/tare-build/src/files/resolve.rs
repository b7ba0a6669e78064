//! Paths to what they lead to, links included, inside of a tree – also where the end of the path is not there yet, which is what
//! `openat2(2)` cannot answer.
//!
//! Resolved paths have no leading slash and no links in them; the root is the empty path. They are opened confined all the same,
//! for somebody may swap names at any time.

use super::error::{FilesError, changed_or, io_error, shown};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tare_sys::directory::{Directory, Metadata};

/// How many links one path may lead through; containerd takes as many.
const LINKS: usize = 255;
/// `PATH_MAX` less the closing NUL.
pub(super) const PATH: usize = 4095;

/// What is at a path, not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    Missing,
    Folder,
    /// A symbolic link and its text.
    Link(Vec<u8>),
    Other,
}

/// Resolves a path. What `look` says is missing or no folder ends the search: the rest of the path is taken as it is.
pub(super) fn resolve(
    path: &[u8],
    look: &mut dyn FnMut(&[u8]) -> Result<Seen, FilesError>,
) -> Result<Vec<u8>, FilesError> {
    let mut resolved: Vec<u8> = Vec::new();
    // What is still to come, the next component at the end.
    let mut rest: Vec<Vec<u8>> = components(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            resolved.truncate(parent(&resolved).len());
            continue;
        }
        let length = resolved.len();
        push(&mut resolved, &name);
        if let Seen::Link(target) = look(&resolved)? {
            links += 1;
            if links > LINKS {
                return Err(FilesError::Loop { path: shown(path) });
            }
            resolved.truncate(if target.starts_with(b"/") { 0 } else { length });
            rest.extend(components(&target));
        }
        if resolved.len() > PATH {
            let depth = resolved.iter().filter(|byte| **byte == b'/').count();
            return Err(FilesError::TooDeep { path: shown(path), length: resolved.len(), depth });
        }
    }
    Ok(resolved)
}

/// The last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(<[u8]>::to_vec).collect()
}

/// The path less its last component.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or_default()]
}

/// The last component.
pub(super) fn name(path: &[u8]) -> &[u8] {
    &path[path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)..]
}

/// Appends a component.
pub(super) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

pub(super) fn join(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let mut joined = folder.to_vec();
    if !path.is_empty() {
        push(&mut joined, path);
    }
    joined
}

/// Looks at resolved paths of a tree.
pub(super) struct Looker<'a> {
    root: &'a Directory,
    /// The folder that was looked into last.
    folder: Option<(Vec<u8>, Directory)>,
}

impl<'a> Looker<'a> {
    pub(super) fn new(root: &'a Directory) -> Self {
        Self { root, folder: None }
    }

    /// The folder at a resolved path; `None` when there is none.
    pub(super) fn folder(&mut self, path: &[u8]) -> Result<Option<&Directory>, FilesError> {
        if path.is_empty() {
            return Ok(Some(self.root));
        }
        if self.folder.as_ref().is_none_or(|(known, _)| known != path) {
            self.folder = match self.root.resolve(Path::new(OsStr::from_bytes(path))) {
                Ok(folder) => Some((path.to_vec(), folder)),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(io_error("open", path)(error)),
            };
        }
        Ok(self.folder.as_ref().map(|(_, folder)| folder))
    }

    pub(super) fn metadata(&mut self, path: &[u8]) -> Result<Option<Metadata>, FilesError> {
        if path.is_empty() {
            return self.root.own_metadata().map(Some).map_err(io_error("inspect", path));
        }
        let Some(folder) = self.folder(parent(path))? else { return Ok(None) };
        match folder.metadata(OsStr::from_bytes(name(path))) {
            Err(error) if is_missing(&error) => Ok(None),
            result => result.map_err(io_error("inspect", path)),
        }
    }

    pub(super) fn look(&mut self, path: &[u8]) -> Result<Seen, FilesError> {
        use rustix::fs::FileType;
        Ok(match self.metadata(path)?.map(|metadata| metadata.file_type) {
            None => Seen::Missing,
            Some(FileType::Directory) => Seen::Folder,
            Some(FileType::Symlink) => {
                let Some(folder) = self.folder(parent(path))? else { return Ok(Seen::Missing) };
                let text =
                    folder.read_link(OsStr::from_bytes(name(path))).map_err(changed_or("read the link", path))?;
                Seen::Link(text.as_bytes().to_vec())
            }
            Some(_) => Seen::Other,
        })
    }
}

/// Errors by which the kernel says that a path leads nowhere.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn links_are_followed_inside_of_the_tree() {
        let links: HashMap<&[u8], &[u8]> = HashMap::from([
            (&b"absolute"[..], &b"/usr/lib"[..]),
            (b"usr/up", b"../../.."),
            (b"usr/lib/next", b"./deep//x/"),
            (b"dangling", b"nowhere/at/all"),
            (b"round", b"round"),
            (b"one", b"two"),
            (b"two", b"/one/"),
        ]);
        let go = |path: &str| {
            let mut look = |path: &[u8]| Ok(links.get(path).map_or(Seen::Missing, |link| Seen::Link(link.to_vec())));
            resolve(path.as_bytes(), &mut look).map(|path| String::from_utf8(path).unwrap())
        };
        for (path, expected) in [
            ("", ""),
            ("/", ""),
            ("/a//./b/", "a/b"),
            ("../../a", "a"),
            ("absolute/x", "usr/lib/x"),
            ("absolute/..", "usr"),
            ("absolute/next/y", "usr/lib/deep/x/y"),
            ("usr/up/etc", "etc"),
            ("dangling/x", "nowhere/at/all/x"),
        ] {
            assert_eq!(go(path).unwrap(), expected, "{path}");
        }
        for path in ["round", "one/x"] {
            assert!(matches!(go(path), Err(FilesError::Loop { .. })), "{path}");
        }
        assert!(matches!(go(&"x/".repeat(3000)), Err(FilesError::TooDeep { .. })));
    }

    #[test]
    fn paths_have_parents_and_names() {
        for (path, folder, last) in [("a/b/c", "a/b", "c"), ("a", "", "a"), ("", "", "")] {
            assert_eq!((parent(path.as_bytes()), name(path.as_bytes())), (folder.as_bytes(), last.as_bytes()));
        }
        assert_eq!(
            (join(b"", b"a"), join(b"a", b"b"), join(b"a", b"")),
            (b"a".to_vec(), b"a/b".to_vec(), b"a".to_vec())
        );
    }
}
