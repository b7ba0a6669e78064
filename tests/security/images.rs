//! Images made to attack whoever pulls, loads or runs them.

use crate::host::{Host, Running, layout};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A variable that only the host has.
const SECRET: &str = "SECRET_OF_HOST";

/// An OCI layout with the layer of the busybox image and whatever else a test says.
struct Forged<'a> {
    host: &'a Host,
    folder: PathBuf,
}

impl<'a> Forged<'a> {
    fn new(host: &'a Host, name: &str) -> Self {
        let folder = host.folder().join(name);
        host.command("cp", &["-r", &layout("busybox").display().to_string(), &folder.display().to_string()]).ok();
        fs::copy(folder.join("index.json"), folder.join("original.json")).unwrap();
        Self { host, folder }
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.folder.join(path)).unwrap()).unwrap()
    }

    fn read(&self, descriptor: &Value) -> Value {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        self.json(&format!("blobs/sha256/{hex}"))
    }

    /// The manifest and the configuration of busybox.
    fn documents(&self) -> (Value, Value) {
        let index = self.json("original.json");
        let manifest = self.read(&index["manifests"][0]);
        let config = self.read(&manifest["config"]);
        (manifest, config)
    }

    fn blob(&self, kind: &str, document: &Value) -> Value {
        let bytes = document.to_string();
        let path = self.folder.join("new");
        fs::write(&path, &bytes).unwrap();
        let sum = self.host.command("sha256sum", &[&path.display().to_string()]).ok();
        let hex = sum.split(' ').next().unwrap();
        fs::rename(path, self.folder.join("blobs/sha256").join(hex)).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    }

    /// Makes an archive of a manifest; the path.
    fn archive(&self, name: &str, manifest: &Value, annotations: Value) -> String {
        let mut entry = self.blob(MANIFEST, manifest);
        entry["annotations"] = annotations;
        entry["annotations"]["io.containerd.image.name"] = json!(name);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        fs::write(self.folder.join("index.json"), index.to_string()).unwrap();
        let path = self.folder.with_extension("tar").display().to_string();
        let files = ["blobs", "index.json", "oci-layout"];
        self.host
            .command("tar", &[&["-C", &self.folder.display().to_string(), "-cf", &path], &files[..]].concat())
            .ok();
        path
    }

    /// The manifest of busybox with another configuration.
    fn with_config(&self, change: impl FnOnce(&mut Value)) -> Value {
        let (mut manifest, mut config) = self.documents();
        change(&mut config);
        let kind = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
        manifest["config"] = self.blob(&kind, &config);
        manifest
    }
}

/// A registry that says whatever lies in its folder; what it was asked is on its standard error.
struct Liar {
    _running: Running,
    folder: PathBuf,
    address: String,
}

impl Liar {
    /// Every host has a network of its own, so that any port does.
    fn start(host: &Host, port: u16) -> Self {
        let folder = host.folder().join(format!("liar-{port}"));
        fs::create_dir_all(folder.join("v2")).unwrap();
        fs::write(folder.join("v2/index.html"), "{}").unwrap();
        let types = [("image", MANIFEST), ("index", INDEX)].map(|(suffix, kind)| format!(".{suffix}:{kind}\n"));
        fs::write(folder.join("types"), types.concat()).unwrap();
        let address = format!("127.0.0.1:{port}");
        let (home, types) = (folder.display().to_string(), folder.join("types").display().to_string());
        let arguments = ["httpd", "-f", "-vv", "-p", &address, "-h", &home, "-c", &types];
        let running = host.command("/bin/busybox", &arguments).spawn();
        host.get(&format!("http://{address}/v2/"));
        Self { _running: running, folder, address }
    }

    /// Puts a document where a tag is; the ending of the tag is its type. The reference.
    fn manifest(&self, tag: &str, document: &str) -> String {
        let folder = self.folder.join("v2/evil/manifests");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(tag), document).unwrap();
        format!("{}/evil:{tag}", self.address)
    }

    /// Puts all blobs of a layout where they are looked for.
    fn blobs(&self, layout: &Path) -> PathBuf {
        let folder = self.folder.join("v2/evil/blobs");
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.join(format!("sha256:{}", entry.file_name().display()))).unwrap();
        }
        folder
    }
}

/// No image and no layer, and no blob that is not what its name says. What a broken pull has verified may stay for the
/// next one.
fn assert_nothing_came(host: &Host, what: &str) {
    assert_eq!(host.tare(&["images", "-a", "-q"]).ok(), "", "{what}");
    let layers = fs::read_dir(host.root().join("layers/sha256")).into_iter().flatten().flatten();
    assert_eq!(layers.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{what}");
    for entry in fs::read_dir(host.root().join("blobs/sha256")).into_iter().flatten().flatten() {
        let sum = host.command("sha256sum", &[&entry.path().display().to_string()]).ok();
        assert_eq!(sum.split(' ').next(), entry.file_name().to_str(), "{what}");
    }
}

/// Rows 9 and 10 from a registry, CVE-2021-41190 and CVE-2024-3727: documents of two kinds, of another kind than the
/// registry says, and with digests that are paths or none.
#[test]
fn documents_that_lie_are_not_pulled() {
    let Some(host) = Host::new() else { return };
    let liar = Liar::start(&host, 5001);
    let forged = Forged::new(&host, "forged");
    let blobs = liar.blobs(&forged.folder);
    let (good, _) = forged.documents();
    let digest = good["config"]["digest"].as_str().unwrap().to_owned();
    fs::write(liar.folder.join("x"), "outside").unwrap();
    let mut both = good.clone();
    both["manifests"] = json!([]);
    let mut other = good.clone();
    other["mediaType"] = json!(INDEX);
    let pull = |tag: &str, document: &Value| {
        let reference = liar.manifest(tag, &document.to_string());
        let refused = host.tare(&["pull", &reference]).fails(1);
        assert_nothing_came(&host, tag);
        refused.stderr
    };
    for (tag, document) in
        [("both.image", &both), ("both.index", &both), ("good.index", &good), ("other.image", &other)]
    {
        pull(tag, document);
    }
    for (number, bad) in [
        "sha256:../../../x".to_owned(),
        "sha256:/etc/passwd".to_owned(),
        digest.to_uppercase(),
        digest[..70].to_owned(),
        format!("{digest}0"),
        format!("md5:{}", &digest[7..39]),
        digest.replace("sha256", "../sha256"),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut config, mut layer) = (good.clone(), good.clone());
        config["config"]["digest"] = json!(bad);
        layer["layers"][0]["digest"] = json!(bad);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, "digest": bad, "size": 1}]});
        pull(&format!("c{number}.image"), &config);
        pull(&format!("l{number}.image"), &layer);
        pull(&format!("i{number}.index"), &index);
    }
    // In the configuration the digests of the layers.
    let diff = forged.with_config(|config| config["rootfs"]["diff_ids"] = json!(["sha256:../../../x"]));
    liar.blobs(&forged.folder);
    pull("diff.image", &diff);
    // Sizes and bytes: of the configuration, then of the layer.
    for place in ["config", "layers"] {
        for (step, name) in [(-1, "short"), (1, "long")] {
            let mut document = good.clone();
            let at = if place == "config" { &mut document["config"] } else { &mut document["layers"][0] };
            at["size"] = json!(at["size"].as_i64().unwrap() + step);
            pull(&format!("{place}-{name}.image"), &document);
        }
        let at = if place == "config" { &good["config"] } else { &good["layers"][0] };
        let path = blobs.join(at["digest"].as_str().unwrap());
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 1;
        fs::write(&path, wrong).unwrap();
        pull(&format!("{place}-bytes.image"), &good);
        fs::write(&path, right).unwrap();
    }
    // It was none of the rest.
    let reference = liar.manifest("good.image", &good.to_string());
    host.tare(&["pull", "-q", &reference]).ok();
    assert_eq!(host.tare(&["run", "--rm", "--network", "none", &reference, "echo", "there"]).ok(), "there");
}

/// Row 11, CVE-2020-15157: other places that a layer names are not asked, whether it is there or not.
#[test]
fn urls_of_layers_are_not_asked() {
    let Some(host) = Host::new() else { return };
    let (liar, other) = (Liar::start(&host, 5001), Liar::start(&host, 5002));
    let forged = Forged::new(&host, "forged");
    let (mut manifest, _) = forged.documents();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let there = other.blobs(&forged.folder);
    manifest["layers"][0]["urls"] = json!([format!("http://{}/v2/evil/blobs/{layer}", other.address)]);
    let blobs = liar.blobs(&forged.folder);
    let reference = liar.manifest("urls.image", &manifest.to_string());
    fs::remove_file(blobs.join(&layer)).unwrap();
    assert!(there.join(&layer).exists());
    host.tare(&["pull", &reference]).fails(1);
    assert_nothing_came(&host, "without the layer");
    manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let foreign = liar.manifest("foreign.image", &manifest.to_string());
    host.tare(&["pull", &foreign]).fails(1);
    assert_nothing_came(&host, "a foreign layer");
    let Liar { _running: mut asked, .. } = other;
    asked.signal(rustix::process::Signal::TERM);
    asked.wait();
    assert!(!asked.stderr.rest().contains("evil"), "the other place was asked");
}

/// Row 18, CVE-2026-57231: a variable without `=` names nothing, however the image came here; the host's value of it
/// stays outside, for run and for exec. What a person asks for by `-e NAME` comes.
#[test]
fn variables_without_a_value_bring_nothing_of_the_host() {
    let Some(host) = Host::new() else { return };
    let forged = Forged::new(&host, "forged");
    let manifest = forged.with_config(|config| config["config"]["Env"] = json!(["PATH=/bin", SECRET, "=x", "MARK=1"]));
    let liar = Liar::start(&host, 5001);
    liar.blobs(&forged.folder);
    let pulled = liar.manifest("env.image", &manifest.to_string());
    let archive = forged.archive("loaded:1", &manifest, json!({}));
    let tare = |arguments: &[&str]| host.tare(arguments).env(SECRET, "leaked");
    tare(&["pull", "-q", &pulled]).ok();
    tare(&["load", "-i", &archive]).ok();
    tare(&["create", "--name", "box", "loaded:1", "true"]).ok();
    tare(&["commit", "box", "committed:1"]).ok();
    let bytes = || {
        let path = host.folder().join("box.tar");
        host.tare(&["export", "-o", &path.display().to_string(), "box"]).ok();
        path.display().to_string()
    };
    tare(&["import", "-c", "ENV PATH=/bin MARK=1", "-c", "CMD [\"env\"]", &bytes(), "imported:1"]).ok();
    let run = |image: &str, flags: &[&str]| {
        tare(&[&["run", "--rm", "--network", "none"], flags, &[image, "env"]].concat()).ok()
    };
    for image in [&*pulled, "loaded:1", "committed:1", "imported:1"] {
        let seen = run(image, &[]);
        assert!(seen.contains("MARK=1"), "{image}: {seen}");
        assert!(!seen.contains(SECRET) && !seen.contains("leaked"), "{image}: {seen}");
    }
    assert!(run("loaded:1", &["-e", SECRET]).contains("SECRET_OF_HOST=leaked"));
    // A change without a value is refused or brings nothing.
    for (change, name) in
        [("ENV SECRET_OF_HOST", "a:1"), ("ENV SECRET_OF_HOST=", "b:1"), ("ENV X=$SECRET_OF_HOST", "c:1")]
    {
        for command in [vec!["import", "-c", change, &bytes(), name], vec!["commit", "-c", change, "box", name]] {
            if tare(&command).output().code == 0 {
                assert!(!run(name, &["--env", "PATH=/bin"]).contains("leaked"), "{command:?}");
            }
        }
    }
    tare(&["run", "-d", "--network", "none", "--name", "long", "loaded:1", "sleep", "1000000"]).ok();
    let seen = tare(&["exec", "long", "env"]).ok();
    assert!(seen.contains("MARK=1") && !seen.contains(SECRET) && !seen.contains("leaked"), "{seen}");
}

/// What a container has of the machine: its mounts, devices, rights, limits; the folders of layers differ.
const LOOK: &str = "awk '{print $5, $6}' /proc/self/mountinfo | sort; ls /dev | sort; id
    grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/self/status; cat /proc/self/oom_score_adj; env | grep -v HOSTNAME";

/// Row 19, GO-2026-5758: labels, annotations and fields of a configuration describe. None selects a program of the host,
/// a hook, a runtime, a mount, a device, a right or a helper for credentials, at any command.
#[test]
fn metadata_selects_nothing() {
    let Some(host) = Host::new() else { return };
    let (evil, ran) = (host.folder().join("evil"), host.folder().join("ran"));
    fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >>{}\n", ran.display())).unwrap();
    host.command("chmod", &["755", &evil.display().to_string()]).ok();
    // By its name alone it would be found, too: as a program, and as a helper for credentials.
    let programs = host.folder().join("programs");
    fs::create_dir(&programs).unwrap();
    for name in ["evil", "docker-credential-evil", "tare-credential-evil", "containerd-shim-evil-v1", "docker-evil"] {
        fs::copy(&evil, programs.join(name)).unwrap();
    }
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    let program = evil.display().to_string();
    let keys = [
        "org.opencontainers.runtime",
        "org.opencontainers.image.runtime",
        "io.containerd.runc.v2.binary",
        "runtime",
        "io.containerd.runtime",
        "io.kubernetes.cri.runtime-handler",
        "io.podman.annotations.runtime",
        "tare.runtime",
        "run.oci.handler",
        "run.oci.hooks.stderr",
        "module.wasm.image/variant",
        "io.containers.hooks",
        "tare.hooks",
        "org.freedesktop.systemd.property.ExecStartPre",
        "com.docker.credential-helper",
        "credsStore",
        "credHelpers",
        "io.podman.annotations.privileged",
        "io.podman.annotations.init",
        "io.podman.annotations.autoremove",
        "io.podman.annotations.seccomp",
        "io.podman.annotations.label",
        "io.containers.capabilities",
        "com.docker.compose.project.working_dir",
        "devices",
        "cdi.k8s.io/evil",
        "RUN",
        "INSTALL",
        "UNINSTALL",
        "io.containers.autoupdate",
        "org.opencontainers.image.source",
        "io.balena.features.dbus",
    ];
    let annotations: Value =
        keys.iter().map(|key| ((*key).to_owned(), json!(program))).collect::<serde_json::Map<_, _>>().into();
    let forged = Forged::new(&host, "forged");
    let hooks =
        json!({"prestart": [{"path": program}], "createRuntime": [{"path": program}], "poststop": [{"path": program}]});
    let mut manifest = forged.with_config(|config| {
        config["config"]["Labels"] = annotations.clone();
        config["config"]["OnBuild"] = json!([format!("RUN {program}")]);
        config["config"]["Shell"] = json!([program]);
        config["config"]["StopSignal"] = json!(program);
        config["config"]["Healthcheck"] = json!({"Test": ["CMD", program], "Interval": 1_000_000});
        config["config"]["CapAdd"] = json!(["ALL"]);
        for place in ["/config", ""] {
            let at = config.pointer_mut(place).unwrap();
            at["Runtime"] = json!(program);
            at["Hooks"] = hooks.clone();
            at["hooks"] = hooks.clone();
            at["Mounts"] = json!([{"Type": "bind", "Source": host.folder(), "Destination": "/host"}]);
            at["Devices"] = json!([{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}]);
            at["CredentialHelper"] = json!("evil");
            at["HostConfig"] = json!({
                "Binds": [format!("{}:/host", host.folder().display())], "Privileged": true, "CapAdd": ["ALL"],
                "PidMode": "host", "NetworkMode": "host", "IpcMode": "host", "UsernsMode": "host", "Runtime": program,
                "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"], "OomScoreAdj": -1000,
                "Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}],
            });
            at["linux"] = json!({"maskedPaths": [], "readonlyPaths": [], "devices": [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]});
            at["process"] = json!({"capabilities": {"effective": ["CAP_SYS_ADMIN"]}, "noNewPrivileges": false});
        }
    });
    manifest["annotations"] = annotations.clone();
    manifest["config"]["annotations"] = annotations.clone();
    manifest["layers"][0]["annotations"] = annotations.clone();
    let archive = forged.archive("evil:1", &manifest, annotations);
    let tare = |arguments: &[&str]| host.tare(arguments).env("PATH", &path);
    let plain = host.pull("busybox");
    tare(&["load", "-i", &archive]).ok();
    let look = |image: &str| tare(&["run", "--rm", image, "sh", "-c", LOOK]).ok();
    assert_eq!(look("evil:1"), look(&plain));
    // Every command that reads what the image says.
    tare(&["run", "-d", "--name", "box", "evil:1", "sleep", "1000000"]).ok();
    let copy = host.folder().join("copy.tar").display().to_string();
    let storage = host.folder().join("own").display().to_string();
    let mut serve = tare(&["registry", "serve", "-q", "--addr", "127.0.0.1:0", "--root", &storage]).spawn();
    let there = format!("{}/evil:1", serve.stdout.expect("\n").trim().replace("http://", ""));
    for command in [
        &["exec", "box", "true"][..],
        &["inspect", "box"],
        &["image", "inspect", "evil:1"],
        &["history", "evil:1"],
        &["images"],
        &["ps", "-a"],
        &["diff", "box"],
        &["commit", "box", "evil:2"],
        &["save", "-o", &copy, "evil:1"],
        &["tag", "evil:1", &there],
        &["push", &there],
        &["restart", "-t", "0", "box"],
        &["stop", "-t", "0", "box"],
        &["rm", "box"],
        &["rmi", "-f", &there],
        &["pull", "-q", &there],
        &["run", "--rm", "evil:2", "true"],
        &["rmi", "-f", "evil:1", "evil:2", &there],
    ] {
        tare(command).ok();
        assert!(!ran.exists(), "{command:?} ran {}", fs::read_to_string(&ran).unwrap());
    }
}

/// Row 10 from an archive, CVE-2024-3727: in its index, its manifests and its configurations.
#[test]
fn digests_that_are_paths_are_not_loaded() {
    let Some(host) = Host::new() else { return };
    let forged = Forged::new(&host, "forged");
    fs::write(host.folder().join("x"), "outside").unwrap();
    let (good, _) = forged.documents();
    let digest = good["config"]["digest"].as_str().unwrap().to_owned();
    for bad in [
        "sha256:../../x".to_owned(),
        "sha256:../../../x".to_owned(),
        digest.to_uppercase(),
        digest[..70].to_owned(),
        format!("md5:{}", &digest[7..39]),
    ] {
        let (mut config, mut layer) = (good.clone(), good.clone());
        config["config"]["digest"] = json!(bad);
        layer["layers"][0]["digest"] = json!(bad);
        let diff = forged.with_config(|config| config["rootfs"]["diff_ids"] = json!([bad]));
        let path = forged.archive("evil:1", &good, json!({}));
        for document in [config, layer, diff] {
            forged.archive("evil:1", &document, json!({}));
            host.tare(&["load", "-i", &path]).fails(1);
            assert_nothing_came(&host, &bad);
        }
        let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": bad, "size": 7}]});
        fs::write(forged.folder.join("index.json"), index.to_string()).unwrap();
        let folder = forged.folder.display().to_string();
        host.command("tar", &["-C", &folder, "-cf", &path, "blobs", "index.json", "oci-layout"]).ok();
        host.tare(&["load", "-i", &path]).fails(1);
        assert_nothing_came(&host, &bad);
    }
    host.tare(&["load", "-i", &forged.archive("good:1", &good, json!({}))]).ok();
}
