//! Debian's erofs-utils, judges of the images.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs a program of erofs-utils that knows blocks of 512 bytes: the machine's own, or that of the first
/// Debian release which has one.
pub(crate) fn command(program: &str) -> Command {
    let version = Command::new("fsck.erofs").arg("-V").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).into_owned();
    // "fsck.erofs (erofs-utils) 1.8.6"; 1.5 said "fsck.erofs 1.5". 1.6 brought small blocks.
    let number = version.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or_default();
    let mut parts = number.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    if (parts.next(), parts.next()) >= (Some(1), Some(6)) {
        return Command::new(program);
    }
    let root = extracted();
    // The libraries go with the program, and so does the loader.
    let libraries = fs::read_dir(root.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
    let libraries = libraries.filter(|path| path.join("libc.so.6").exists()).collect::<Vec<_>>().remove(0);
    let loader = fs::read_dir(&libraries).unwrap().map(|entry| entry.unwrap().path());
    let is_loader = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("ld-linux");
    let mut command = Command::new(loader.filter(is_loader).collect::<Vec<_>>().remove(0));
    command.arg("--library-path").arg(libraries).arg(root.join("usr/bin").join(program));
    command
}

/// The package and what it needs from Debian 13, unpacked and not installed.
fn extracted() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("erofs-utils-trixie");
    let lock = File::create(folder.with_extension("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !folder.exists() {
        let unfinished = folder.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
        let script =
            "mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
            exec mmdebstrap --quiet --variant=extract --include=erofs-utils trixie \"$1\" \"$mirror\"";
        let status = Command::new("sh").args(["-ec", script, "sh"]).arg(&unfinished).status().unwrap();
        assert!(status.success());
        fs::rename(&unfinished, &folder).unwrap();
    }
    folder
}
