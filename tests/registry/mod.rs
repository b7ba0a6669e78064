//! `tare registry`: other engines push to it and pull from it.

use crate::host::{Host, Running, layout};
use rustix::process::Signal;
use std::path::Path;

/// `htpasswd -nbB -C 4 anna secret`
const USERS: &str = "anna:$2y$04$eOmMdGzyJm5b/v182WnMM.AVj4L0MAMzS8xLMS4qa3Cbo2ifSLF0m\n";

/// A registry on a test's host.
struct Registry {
    running: Running,
    /// `127.0.0.1:PORT`
    address: String,
}

impl Registry {
    fn start(host: &Host, flags: &[&str]) -> Self {
        let all = [&["registry", "serve", "--addr", "127.0.0.1:0"], flags].concat();
        Self::of(host.tare(&all).spawn())
    }

    fn of(mut running: Running) -> Self {
        let url = running.stdout.expect("\n");
        let address = url.trim().split_once("://").unwrap().1.to_owned();
        Self { running, address }
    }

    /// Ends it as a service manager would.
    fn end(mut self) -> String {
        self.running.signal(Signal::TERM);
        assert_eq!(self.running.wait(), 0);
        self.running.stderr.rest()
    }
}

fn skopeo(host: &Host, arguments: &[&str]) -> crate::host::Run {
    host.command("skopeo", &[&["--insecure-policy", "copy", "--quiet"], arguments].concat())
}

fn busybox() -> String {
    format!("oci:{}:busybox", layout("busybox").display())
}

/// The digest of the first manifest of an OCI layout.
fn manifest(layout: &Path) -> serde_json::Value {
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    index["manifests"][0]["digest"].clone()
}

#[test]
fn skopeo_and_tare_get_what_skopeo_pushed() {
    let Some(host) = Host::new() else { return };
    let registry = Registry::start(&host, &[]);
    let image = format!("{}/team/busybox:1", registry.address);
    skopeo(&host, &["--dest-tls-verify=false", &busybox(), &format!("docker://{image}")]).ok();
    let back = host.folder().join("back");
    skopeo(&host, &["--src-tls-verify=false", &format!("docker://{image}"), &format!("oci:{}:x", back.display())]).ok();
    assert_eq!(manifest(&back), manifest(&layout("busybox")));
    assert_eq!(host.tare(&["run", "--rm", "-q", &image, "echo", "there"]).ok(), "there");
    // From one repository into another one: mounted, not sent again.
    let copy = format!("docker://{}/other:1", registry.address);
    skopeo(&host, &["--src-tls-verify=false", "--dest-tls-verify=false", &format!("docker://{image}"), &copy]).ok();
    let catalog = host.get(&format!("http://{}/v2/_catalog", registry.address));
    assert_eq!(catalog, r#"{"repositories":["other","team/busybox"]}"#);
    let log = registry.end();
    assert!(log.contains("\"PUT /v2/team/busybox/manifests/1\" 201"), "{log}");
    assert!(host.root().join("registry/blobs/sha256").exists());
}

#[test]
fn podman_pushes_and_pulls() {
    let Some(host) = Host::new() else { return };
    if host.command("sh", &["-c", "command -v podman"]).output().code != 0 {
        return; // not one of the packages that the tests install
    }
    let registry = Registry::start(&host, &[]);
    let image = format!("docker://{}/busybox:1", registry.address);
    skopeo(&host, &["--dest-tls-verify=false", &busybox(), &image]).ok();
    let (root, run_root) = (host.folder().join("podman"), host.folder().join("podman-run"));
    let podman = |arguments: &[&str]| {
        let (root, run_root) = (root.display().to_string(), run_root.display().to_string());
        let own = [
            "--root",
            &root,
            "--runroot",
            &run_root,
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ];
        host.command("podman", &[&own, arguments].concat()).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").ok()
    };
    let (theirs, again) = (format!("{}/busybox:1", registry.address), format!("{}/busybox:2", registry.address));
    podman(&["pull", "-q", "--tls-verify=false", &theirs]);
    podman(&["tag", &theirs, &again]);
    podman(&["push", "-q", "--tls-verify=false", &again]);
    assert_eq!(host.tare(&["run", "--rm", "-q", &again, "echo", "there"]).ok(), "there");
    registry.end();
}

#[test]
fn users_and_certificates() {
    let Some(host) = Host::new() else { return };
    let file = |name: &str| host.folder().join(name).display().to_string();
    let (users, key, certificate) = (file("users"), file("key.pem"), file("cert.pem"));
    std::fs::write(&users, USERS).unwrap();
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    let fresh = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    host.command("openssl", &[&fresh[..], &["-keyout", &key, "-out", &certificate], &subject].concat()).ok();
    let registry = Registry::start(&host, &["--htpasswd", &users, "--tls-cert", &certificate, "--tls-key", &key]);
    let image = format!("docker://{}/busybox:1", registry.address);
    let trusted = file("certs");
    std::fs::create_dir(&trusted).unwrap();
    std::fs::copy(&certificate, Path::new(&trusted).join("ca.crt")).unwrap();
    skopeo(&host, &["--dest-cert-dir", &trusted, &busybox(), &image]).fails(1);
    skopeo(&host, &["--dest-creds", "anna:wrong", "--dest-cert-dir", &trusted, &busybox(), &image]).fails(1);
    skopeo(&host, &["--dest-creds", "anna:secret", "--dest-cert-dir", &trusted, &busybox(), &image]).ok();
    let url = format!("https://{}/v2/busybox/tags/list", registry.address);
    let listed = host.command("curl", &["-fsS", "--cacert", &certificate, "-u", "anna:secret", &url]).ok();
    assert_eq!(listed, r#"{"name":"busybox","tags":["1"]}"#);
    host.command("curl", &["-fsS", &url]).fails(60); // an unknown authority
    let log = registry.end();
    assert!(log.contains(" anna \"PUT /v2/busybox/manifests/1\" 201") && !log.contains("secret"), "{log}");
    // What makes no sense is refused before anything listens.
    std::fs::write(&users, "anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n").unwrap();
    let refused = host.tare(&["registry", "serve", "--htpasswd", &users]).fails(1);
    assert!(refused.stderr.contains("SHA-1, which is not accepted: only bcrypt is"), "{}", refused.stderr);
    let refused = host.tare(&["registry", "serve", "--tls-cert", &key, "--tls-key", &key]).fails(1);
    assert!(refused.stderr.contains("there is no certificate in it"), "{}", refused.stderr);
    host.tare(&["registry", "serve", "--tls-cert", &certificate]).fails(125);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    let root = host.folder().join("small");
    std::fs::create_dir(&root).unwrap();
    // A disk of its own, in a mount namespace that goes with the server.
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs {0} && exec {1} registry serve --addr 127.0.0.1:0 --root {0}",
        root.display(),
        crate::host::program().display()
    );
    let mut registry = Registry::of(host.command("unshare", &["--mount", "sh", "-c", &script]).spawn());
    let inside =
        Path::new("/proc").join(registry.running.pid().to_string()).join("root").join(root.strip_prefix("/").unwrap());
    let (large, small) = (host.folder().join("large"), host.folder().join("little"));
    std::fs::write(&large, vec![1; 6 << 20]).unwrap();
    std::fs::write(&small, "{}").unwrap();
    let url = |path: &str| format!("http://{}/v2/{path}", registry.address);
    let post = |file: &Path, digest: &str| {
        let data = format!("@{}", file.display());
        let to = url(&format!("a/blobs/uploads/?digest={digest}"));
        host.command("curl", &["-sS", "-w", "%{http_code}", "-H", "Expect:", "--data-binary", &data, &to]).ok()
    };
    let sum = |file: &Path| {
        let sum = host.command("sha256sum", &[&file.display().to_string()]).ok();
        format!("sha256:{}", sum.split(' ').next().unwrap())
    };
    for _ in 0..2 {
        let answer = post(&large, &sum(&large));
        assert!(answer.ends_with("507") && answer.contains("no space left in the registry"), "{answer}");
        let left = host.command("find", &[&inside.display().to_string(), "-type", "f", "-size", "+0"]).ok();
        assert_eq!(left, "");
    }
    // An upload in pieces, likewise.
    let location = host
        .command("curl", &["-sS", "-o", "/dev/null", "-w", "%header{location}", "-X", "POST", &url("a/blobs/uploads/")])
        .ok();
    let (data, to) = (format!("@{}", large.display()), format!("http://{}{location}", registry.address));
    let answer = host
        .command("curl", &["-sS", "-w", "%{http_code}", "-X", "PATCH", "-H", "Expect:", "--data-binary", &data, &to])
        .ok();
    assert!(answer.ends_with("507"), "{answer}");
    // And there is room for what fits.
    assert_eq!(post(&small, &sum(&small)), "201");
    registry.running.signal(Signal::INT);
    assert_eq!(registry.running.wait(), 0);
}

#[test]
fn garbage_is_shown_and_collected() {
    let Some(host) = Host::new() else { return };
    let root = host.folder().join("content").display().to_string();
    let registry = Registry::start(&host, &["--root", &root]);
    let image = format!("docker://{}/busybox:1", registry.address);
    skopeo(&host, &["--dest-tls-verify=false", &busybox(), &image]).ok();
    let collect = |flags: &[&str]| host.tare(&[&["registry", "garbage-collect", "--root", &root], flags].concat()).ok();
    assert_eq!(collect(&["--grace", "0s", "--untagged"]), "Total reclaimed space: 0B");
    host.command("skopeo", &["delete", "--tls-verify=false", &image]).ok();
    // The manifest is gone; its blobs were asked for just now, and stay.
    let young = collect(&["--dry-run"]);
    assert_eq!((young.lines().count(), young.contains("blob busybox")), (2, false), "{young}");
    assert_eq!(collect(&[]), young.replace("Would reclaim", "Total reclaimed"));
    let told = collect(&["--dry-run", "--grace", "0s"]);
    assert_eq!(told.lines().filter(|line| line.starts_with("content sha256:")).count(), 2, "{told}");
    assert!(told.contains("blob busybox@sha256:") && told.contains("Would reclaim space: "), "{told}");
    assert_eq!(collect(&["--grace", "0s"]), told.replace("Would reclaim", "Total reclaimed"));
    assert_eq!(host.get(&format!("http://{}/v2/_catalog", registry.address)), r#"{"repositories":[]}"#);
    registry.end();
    host.tare(&["registry", "garbage-collect", "--root", "/nonexistent"]).fails(1);
}
