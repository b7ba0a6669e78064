//! The test images, made once by the scripts in `tests/images` and kept below the target folder by the scripts' content.

use super::{Registry, run};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the scripts make: a script, and an image of its layout.
const IMAGES: [(&str, &str); 4] = [("busybox", "busybox"), ("tiny", "other"), ("tiny", "tiny"), ("web", "web")];

/// The OCI layout that a script makes.
pub(crate) fn layout(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(format!("{name}.sh"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", fingerprint(&[&script])));
    make_once(&folder, |unfinished| run(Command::new(&script).arg(unfinished).env_remove("RUST_BACKTRACE")));
    folder
}

/// The storage of a registry that holds all test images, for any number of registries that only read.
pub(super) fn storage() -> PathBuf {
    let layouts = IMAGES.map(|(script, _)| layout(script));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", fingerprint_names(&layouts)));
    make_once(&folder, |unfinished| {
        let name = format!("tt-push-{}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Path::new("/run/netns").join(&name);
        run(Command::new("ip").args(["-n", &name, "link", "set", "lo", "up"]));
        let configuration = tempfile::tempdir().unwrap();
        let registry = Registry::start_in(&namespace, configuration.path(), unfinished, false);
        for ((_, name), layout) in IMAGES.iter().zip(&layouts) {
            registry.push(&namespace, layout, name);
        }
        drop(registry);
        run(Command::new("ip").args(["netns", "del", &name]));
    });
    folder
}

/// Makes a folder that others may want at the same time: one makes it under another name, the rest wait.
fn make_once(folder: &Path, make: impl FnOnce(&Path)) {
    if folder.exists() {
        return;
    }
    let lock = File::create(folder.with_extension("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if folder.exists() {
        return;
    }
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).unwrap();
    }
    make(&unfinished);
    fs::rename(&unfinished, folder).unwrap();
}

fn fingerprint(files: &[&Path]) -> String {
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|file| fs::read(file).unwrap().hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

fn fingerprint_names(paths: &[PathBuf]) -> String {
    let mut hasher = DefaultHasher::new();
    paths.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
