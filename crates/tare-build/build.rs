//! Compiles the server of the built-in image, for the same target as everything else.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"));
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")).join("../../images/hello");
    let folder = fs::canonicalize(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for file in ["server.rs", "Dockerfile"] {
        println!("cargo:rerun-if-changed={}", folder.join(file).display());
    }
    let status = Command::new(variable("RUSTC"))
        // Without the folder in it the binary, and so the image's id, is the same wherever it is built.
        .current_dir(&folder)
        .args(["server.rs", "--crate-name", "server", "--edition", "2024", "--target", &variable("TARGET")])
        .args(["-C", "opt-level=s", "-C", "panic=abort"])
        // Nothing to load at run time: there is nothing else in the image.
        .args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static", "-C", "strip=symbols"])
        .arg("-o")
        .arg(Path::new(&variable("OUT_DIR")).join("server"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("compiling images/hello/server.rs failed: {status}"),
        Err(error) => panic!("cannot run {}: {error}", variable("RUSTC")),
    }
}
