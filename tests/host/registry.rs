//! Debian's docker-registry on loopback of a test's host.

use super::{Host, eventually, run};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Every host has a network of its own, so that one port serves all tests.
pub(super) const PORT: u16 = 5000;

/// A running registry; killed when dropped.
pub(crate) struct Registry {
    child: Child,
}

impl Registry {
    /// Starts a registry on this storage folder and waits until it listens.
    pub(crate) fn start(host: &Host, storage: &Path, read_only: bool) -> Self {
        Self::start_in(&host.network_namespace(), host.folder(), storage, read_only)
    }

    pub(super) fn start_in(namespace: &Path, folder: &Path, storage: &Path, read_only: bool) -> Self {
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             maintenance:\n    uploadpurging: {{enabled: false}}\n    readonly: {{enabled: {read_only}}}\nhttp: {{addr: 127.0.0.1:{PORT}}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.join("registry.log")).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net={}", namespace.display()))
            .args(["--", "docker-registry", "serve"])
            .arg(&config)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { child };
        let sockets = format!("/proc/{}/net/tcp", registry.child.id());
        let listening = format!("0100007F:{PORT:04X} 00000000:0000 0A");
        let own = std::fs::metadata("/proc/self/ns/net").unwrap();
        eventually("the registry listens", || {
            use std::os::unix::fs::MetadataExt;
            // Until nsenter has entered the namespace, the file shows the sockets of the machine itself.
            let now = std::fs::metadata(format!("/proc/{}/ns/net", registry.child.id())).unwrap();
            now.ino() != own.ino() && std::fs::read_to_string(&sockets).is_ok_and(|text| text.contains(&listening))
        });
        registry
    }

    /// Pushes an image of an OCI layout.
    pub(crate) fn push(&self, namespace: &Path, layout: &Path, name: &str) {
        let from = format!("oci:{}:{name}", layout.display());
        let to = format!("docker://127.0.0.1:{PORT}/{name}");
        run(Command::new("nsenter").arg(format!("--net={}", namespace.display())).args([
            "--",
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            &from,
            &to,
        ]));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
