//! The virtual machine: a Debian 13 of packages, with tare as its work. Made once and kept below `target/vm`.

use crate::conformance::Server;
use crate::{output, run, top};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The files that a machine is started from.
pub(super) struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// Makes what is missing; `tare` is put in every time.
    pub(super) fn prepare(tare: &Path) -> Result<Self> {
        let this = Self { folder: top().join("target/vm") };
        fs::create_dir_all(&this.folder)?;
        let root = this.path("debian");
        once(&root, |unfinished| {
            let mirror = output(
                Command::new("apt-get")
                    .args(["indextargets", "--format", "$(REPO_URI)"])
                    .args(["Created-By: Packages", "Label: Debian"]),
            )?;
            let mirror = mirror.lines().next().context("this machine has no Debian mirror in its apt sources")?;
            let packages = "--include=linux-image-cloud-amd64,busybox-static,iproute2,kmod";
            run(Command::new("mmdebstrap")
                .args(["--quiet", "--variant=minbase", packages, "trixie"])
                .arg(unfinished)
                .arg(mirror))
        })?;
        once(&this.path("initrd"), |unfinished| initrd(&root, unfinished))?;
        let layout = this.path("layout");
        once(&layout, |unfinished| run(Command::new(top().join("xtask/src/vm/images.sh")).arg(unfinished)))?;
        once(&this.path("registry.img"), |unfinished| {
            let content = this.path("content");
            if content.exists() {
                fs::remove_dir_all(&content)?;
            }
            let server = Server::start(tare, &content)?;
            for image in 1..=super::IMAGES {
                let from = format!("oci:{}:i{image}", layout.display());
                let to = format!("docker://{}/i{image}", server.address);
                run(Command::new("skopeo").args([
                    "--insecure-policy",
                    "copy",
                    "--quiet",
                    "--dest-tls-verify=false",
                    &from,
                    &to,
                ]))?;
            }
            drop(server);
            file_system(unfinished, 256, Some(&content))
        })?;
        fs::copy(tare, root.join("tare"))?;
        fs::copy(top().join("xtask/src/vm/guest.sh"), root.join("guest.sh"))?;
        file_system(&this.path("debian.img"), 1536, Some(&root))?;
        Ok(this)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new, empty file system for the store.
    pub(super) fn new_store(&self) -> Result<PathBuf> {
        let path = self.path("store.img");
        file_system(&path, 1024, None)?;
        Ok(path)
    }

    /// Starts it with the store's disk behind a socket and these words for the kernel. Its console is its standard output.
    pub(super) fn start(&self, socket: &Path, words: &str) -> Result<Child> {
        let boot = self.path("debian/boot");
        let kernel = fs::read_dir(&boot)?.flatten().map(|entry| entry.path());
        let mut kernel =
            kernel.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")));
        let kernel = kernel.next().with_context(|| format!("no kernel in {}", boot.display()))?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "pc,acpi=off", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(self.path("initrd"));
        qemu.args(["-append", &format!("console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off {words}")]);
        // The first disk is written to a temporary file, the second not at all.
        qemu.args(["-drive", &format!("file={},if=virtio,format=raw,snapshot=on", self.path("debian.img").display())]);
        qemu.args([
            "-drive",
            &format!("file={},if=virtio,format=raw,readonly=on", self.path("registry.img").display()),
        ]);
        qemu.args(["-drive", &format!("file=nbd:unix:{},if=virtio,format=raw,cache=writeback", socket.display())]);
        qemu.args(["-nographic", "-nic", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio"]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().context("qemu-system-x86_64")
    }
}

/// Makes a file or folder under another name first, so that it is whole or not there.
fn once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    println!("making {}", path.display());
    let unfinished = path.with_extension("unfinished");
    if unfinished.is_dir() {
        fs::remove_dir_all(&unfinished)?;
    }
    make(&unfinished)?;
    Ok(fs::rename(&unfinished, path)?)
}

/// An ext4 of so many MiB in a file, with what is in a folder.
fn file_system(path: &Path, size: u64, content: Option<&Path>) -> Result<()> {
    fs::File::create(path)?.set_len(size << 20)?;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4"]);
    if let Some(content) = content {
        command.arg("-d").arg(content);
    }
    run(command.arg(path))
}

/// A root file system in memory that reaches the one on the disk.
fn initrd(root: &Path, target: &Path) -> Result<()> {
    let work = target.with_extension("work");
    fs::create_dir_all(work.join("bin"))?;
    fs::copy(root.join("bin/busybox"), work.join("bin/busybox"))?;
    fs::copy(top().join("xtask/src/vm/init.sh"), work.join("init"))?;
    let found = output(Command::new("find").arg(root.join("usr/lib/modules")).args(["-name", "virtio_blk.ko*"]))?;
    let module = found.lines().next().context("the kernel has no driver virtio_blk")?;
    let bytes = Command::new("xz").args(["--decompress", "--stdout", module]).output()?;
    if !bytes.status.success() {
        bail!("{module}: {}", bytes.status);
    }
    fs::write(work.join("virtio_blk.ko"), bytes.stdout)?;
    let archive = "find . | busybox cpio -o -H newc > \"$0\"";
    run(Command::new("sh").args(["-c", archive]).arg(target).current_dir(&work).stderr(Stdio::null()))?;
    Ok(fs::remove_dir_all(&work)?)
}
