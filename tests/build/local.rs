//! Builds from the busybox image as it lies on disk: no registry takes part.

use crate::host::{Host, Output, Run, layout};
use std::fs;

/// A host with the busybox image as `busybox:1`, which no registry needs to be asked for.
pub(crate) fn with_busybox() -> Option<Host> {
    let host = Host::new()?;
    load(&host, "busybox", "busybox:1");
    Some(host)
}

/// Loads one of the test images under the name of one of Docker Hub's.
pub(crate) fn load(host: &Host, image: &str, name: &str) {
    let archive = path(host, &format!("{image}.tar"));
    let (from, to) = (format!("oci:{}", layout(image).display()), format!("oci-archive:{archive}"));
    host.command("skopeo", &["copy", "-q", &from, &format!("{to}:docker.io/library/{name}")]).ok();
    host.tare(&["load", "-q", "-i", &archive]).ok();
}

/// A path of the host's folder as an argument.
pub(crate) fn path(host: &Host, name: &str) -> String {
    host.folder().join(name).display().to_string()
}

/// Writes the files of a context; gives its path.
pub(crate) fn context(host: &Host, name: &str, files: &[(&str, &str)]) -> String {
    let folder = host.folder().join(name);
    for (file, text) in files {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    folder.display().to_string()
}

/// A build with plain progress.
pub(crate) fn build(host: &Host, arguments: &[&str]) -> Run {
    host.tare(&[&["build", "--progress", "plain"], arguments].concat())
}

/// Runs a build that must succeed.
#[track_caller]
pub(crate) fn built(host: &Host, arguments: &[&str]) -> Output {
    let output = build(host, arguments).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    output
}

/// What a container of an image prints.
#[track_caller]
pub(crate) fn shown(host: &Host, image: &str, command: &[&str]) -> String {
    host.tare(&[&["run", "--rm", "--network", "none", image], command].concat()).ok()
}
