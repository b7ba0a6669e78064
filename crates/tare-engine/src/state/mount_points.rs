//! The lowest layer of every container: folders and empty files that the engine mounts something over.
//!
//! Without it each start would make them in the container's own layer, where they are no changes of the container, and
//! would copy the image's `/etc` there. An image that has its own, of whatever kind, hides these. It is made at the first
//! start and never changed; what a crash leaves out of it is made by the next start, and what is missing in it is made in
//! the container's own layer.

use crate::engine::Engine;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

const FOLDERS: [&str; 5] = ["", "dev", "etc", "proc", "sys"];

const FILES: [&str; 2] = ["etc/hostname", "etc/hosts"];

/// It is made last: with it, all are there.
const LAST_FILE: &str = "etc/resolv.conf";

/// The layer's folder.
pub(crate) fn layer(engine: &Engine) -> Result<PathBuf> {
    let layer = engine.paths.root.join("mount-points");
    if layer.join(LAST_FILE).exists() {
        return Ok(layer);
    }
    for path in FOLDERS.map(|folder| layer.join(folder)) {
        let made = match std::fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)),
        };
        made.map_err(|source| Error::file("create", &path, source))?;
    }
    for path in FILES.into_iter().chain([LAST_FILE]).map(|file| layer.join(file)) {
        let made = File::options().write(true).create(true).truncate(false).mode(0o644).open(&path);
        made.map_err(|source| Error::file("create", &path, source))?;
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Options;

    #[test]
    fn it_is_made_once_and_completed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = Options { root: dir.path().join("root"), run_root: dir.path().join("run"), ..Options::default() };
        let engine = Engine::open(options).unwrap();
        let made = layer(&engine).unwrap();
        assert!(made.join("proc").is_dir() && made.join("etc/hosts").is_file());
        std::fs::remove_file(made.join("etc/resolv.conf")).unwrap();
        assert_eq!(layer(&engine).unwrap(), made);
        assert!(made.join("etc/resolv.conf").is_file());
    }
}
