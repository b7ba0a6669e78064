//! Where commands write whole archives: `-o FILE` or standard output.

use crate::failure::{Failure, errno_text};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An archive's destination.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// The file in the making and the name that it gets when it is whole.
    rename: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Opens the file of this path, or standard output unless that is a terminal.
    pub(crate) fn open(path: Option<&str>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            if io::stdout().is_terminal() {
                return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
            }
            return Ok(Self { file: duplicate(io::stdout().as_fd())?, rename: None });
        };
        let failed = |error: &io::Error| Failure::new(format!("open {path}: {}", errno_text(error)));
        let target = Path::new(path);
        match fs::metadata(target) {
            Ok(found) if found.is_dir() => {
                return Err(Failure::new(format!("open {path}: is a directory")));
            }
            // A device or FIFO is written to.
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(target).map_err(|error| failed(&error))?;
                return Ok(Self { file, rename: None });
            }
            _ => {}
        }
        // A link's target is replaced, not the link.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let name = target.file_name().ok_or_else(|| Failure::new(format!("open {path}: is a directory")))?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(Failure::new(format!("invalid output path: directory {folder:?} does not exist")));
        }
        let temporary = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let mut options = File::options();
        // Read by nobody else: what is in an image may be secret (as Docker's).
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let file = file.map_err(|error| failed(&error))?;
        Ok(Self { file, rename: Some((temporary, target)) })
    }

    /// What to write to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The archive is whole: it gets its name. Dropped without this, a file in the making is removed.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        let Some((temporary, target)) = self.rename.take() else { return Ok(()) };
        fs::rename(&temporary, &target).map_err(|error| {
            // It has no name that anybody looks for.
            let _ = fs::remove_file(&temporary);
            Failure::new(format!("rename {}: {}", target.display(), errno_text(&error)))
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.rename {
            // The command has failed and says why; a leftover is found by its name.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A descriptor of the same open file, for who wants to own one.
pub(crate) fn duplicate(descriptor: BorrowedFd<'_>) -> Result<File, Failure> {
    match descriptor.try_clone_to_owned() {
        Ok(owned) => Ok(owned.into()),
        Err(error) => Err(Failure::new(format!("duplicate a descriptor: {}", errno_text(&error)))),
    }
}
