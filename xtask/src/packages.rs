//! The Debian packages that the tests need.

use crate::{is_root, run};
use anyhow::{Result, bail};
use std::process::Command;

/// What is used for what: see `tests/host` and `tests/images`.
const NEEDED: [&str; 15] = [
    "attr",            // setfattr
    "bsdutils",        // script
    "busybox-static",  // the small test image
    "curl",            // the browser
    "docker-registry", // pulls
    "erofs-utils",     // judges of the layers' images
    "git",             // what builds fetch
    "iproute2",        // network namespaces and links
    "mmdebstrap",      // the large test image
    "nftables",        // a look at the rules
    "openssh-client",  // an agent with a key
    "openssl",         // certificates
    "skopeo",          // pushes
    "umoci",           // layers of the test images
    "util-linux",      // nsenter, setsid, setpriv
];

/// Installs what is missing.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("the tests need Debian packages that only root can install: apt-get install {}", missing.join(" "));
    }
    println!("installing {}", missing.join(" "));
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let mut install = Command::new("apt-get");
    // Another apt may be at work on this machine: wait for it.
    install.args(["-qq", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "--no-install-recommends"]).args(missing);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}
