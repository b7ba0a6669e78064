//! `save`, `load`, `import`, `export`, `commit` and `diff`, with other engines' tools on the other side.

use crate::host::{Host, layout};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A path on the host as an argument.
fn at(host: &Host, name: &str) -> String {
    host.folder().join(name).display().to_string()
}

fn ids(host: &Host) -> String {
    host.tare(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]).ok()
}

fn inspect(host: &Host, image: &str, pointer: &str) -> Value {
    let text = host.tare(&["image", "inspect", image]).ok();
    serde_json::from_str::<Value>(&text).unwrap().pointer(&format!("/0{pointer}")).unwrap().clone()
}

/// A host with the busybox image, loaded from an archive that skopeo made, as `busybox:1`.
fn with_busybox() -> Option<Host> {
    let host = Host::new()?;
    let archive = skopeo_archive(&host, "oci-archive", "busybox:1");
    let loaded = host.tare(&["load", "-i", &archive]).ok();
    assert_eq!(loaded, "Loaded image: busybox:1");
    Some(host)
}

fn skopeo_archive(host: &Host, kind: &str, name: &str) -> String {
    let path = at(host, &format!("{kind}.tar"));
    let from = format!("oci:{}", layout("busybox").display());
    host.command("skopeo", &["copy", "-q", &from, &format!("{kind}:{path}:docker.io/library/{name}")]).ok();
    path
}

#[test]
fn what_is_saved_is_loaded_byte_for_byte() {
    let Some(host) = with_busybox() else { return };
    let (first, second) = (at(&host, "first.tar"), at(&host, "second.tar"));
    host.tare(&["tag", "busybox:1", "other/name:2"]).ok();
    host.tare(&["save", "-o", &first, "busybox:1", "other/name"]).ok();
    let before = ids(&host);
    host.tare(&["rmi", "busybox:1", "other/name:2"]).ok();
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    let loaded = host.tare(&["load", "-i", &first]).ok();
    assert_eq!(loaded, "Loaded image: busybox:1\nLoaded image: other/name:2");
    assert_eq!(ids(&host), before);
    host.tare(&["save", "-o", &second, "busybox:1", "other/name:2"]).ok();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert_eq!(host.tare(&["run", "--rm", "--network", "none", "busybox:1", "echo", "there"]).ok(), "there");
}

#[test]
fn other_tools_read_what_is_saved() {
    let Some(host) = with_busybox() else { return };
    let archive = at(&host, "ours.tar");
    host.tare(&["save", "-o", &archive, "busybox:1"]).ok();
    let id = inspect(&host, "busybox:1", "/Id");
    for kind in ["docker-archive", "oci-archive"] {
        let target = at(&host, &format!("from-{kind}"));
        host.command("skopeo", &["copy", "-q", &format!("{kind}:{archive}"), &format!("dir:{target}")]).ok();
        let manifest = fs::read_to_string(Path::new(&target).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], id, "{kind}");
    }
    let folder = host.folder().join("layout");
    fs::create_dir(&folder).unwrap();
    host.command("tar", &["-xf", &archive, "-C", &folder.display().to_string()]).ok();
    let image = format!("{}:1", folder.display());
    host.command("umoci", &["unpack", "--image", &image, &at(&host, "bundle")]).ok();
    assert!(host.folder().join("bundle/rootfs/bin/busybox").exists());
}

#[test]
fn archives_of_other_tools_are_loaded() {
    let Some(host) = with_busybox() else { return };
    let id = inspect(&host, "busybox:1", "/Id");
    // Docker's layout with uncompressed layers, folders for each layer and links.
    let docker = skopeo_archive(&host, "docker-archive", "docker:1");
    host.tare(&["rmi", "busybox:1"]).ok();
    assert_eq!(host.tare(&["load", "-i", &docker]).ok(), "Loaded image: docker:1");
    assert_eq!(inspect(&host, "docker:1", "/Id"), id);
    assert_eq!(host.tare(&["run", "--rm", "--network", "none", "docker:1", "echo", "there"]).ok(), "there");
    // Without a name, compressed, from a pipe.
    let nameless = at(&host, "nameless.tar");
    let folder = layout("busybox").display().to_string();
    host.command("tar", &["-C", &folder, "-cf", &nameless, "."]).ok();
    for (program, suffix) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz")] {
        host.command(program, &["-q", "-k", &nameless]).ok();
        let bytes = fs::read(format!("{nameless}.{suffix}")).unwrap();
        let load = host.tare(&["load"]).input(bytes);
        if suffix == "xz" {
            let refused = load.fails(1).stderr;
            assert!(refused.contains("compressed with xz"), "{refused}");
        } else {
            assert_eq!(load.ok(), format!("Loaded image ID: {}", id.as_str().unwrap()));
        }
    }
}

#[test]
fn a_platform_is_chosen_and_a_name_moves() {
    let Some(host) = with_busybox() else { return };
    let archive = at(&host, "ours.tar");
    host.tare(&["save", "-o", &archive, "busybox:1"]).ok();
    let other = host.tare(&["load", "-i", &archive, "--platform", "linux/s390x"]).fails(1).stderr;
    assert!(other.contains("no matching manifest for linux/s390x"), "{other}");
    let save = host.tare(&["save", "-o", &archive, "--platform", "linux/s390x", "busybox:1"]).fails(1).stderr;
    assert!(save.contains("does not match the specified platform"), "{save}");
    let id = host.tare(&["import", "-", "busybox:1"]).input(vec![0; 1024]).ok();
    assert_eq!(inspect(&host, "busybox:1", "/Id"), id.as_str());
    let moved = host.tare(&["load", "-i", &archive]).ok();
    let first = format!("The image busybox:1 already exists, renaming the old one with ID {id} to empty string");
    assert_eq!(moved, format!("{first}\nLoaded image: busybox:1"));
}

#[test]
fn refusals_leave_nothing() {
    let Some(host) = with_busybox() else { return };
    let archive = at(&host, "ours.tar");
    host.tare(&["save", "-o", &archive, "busybox:1"]).ok();
    host.tare(&["rmi", "busybox:1"]).ok();
    let empty = blobs(&host);
    // One bit of the layer, which is the largest member and ends the archive.
    let mut bytes = fs::read(&archive).unwrap();
    let place = bytes.len() - 100_000;
    bytes[place] ^= 1;
    let wrong = host.tare(&["load"]).input(bytes.clone()).fails(1).stderr;
    assert!(wrong.contains("sha256:"), "{wrong}");
    bytes.truncate(place);
    let cut = host.tare(&["load"]).input(bytes).fails(1).stderr;
    assert!(cut.contains("in the middle of"), "{cut}");
    let none = host.tare(&["load"]).input("no archive at all").fails(1).stderr;
    assert!(none.contains("no well-formed tar archive") || none.contains("in the middle of"), "{none}");
    let nothing = host.tare(&["load"]).input(vec![0; 1024]).fails(1).stderr;
    assert!(nothing.contains("neither index.json nor manifest.json"), "{nothing}");
    let missing = host.tare(&["save", "-o", &at(&host, "x.tar"), "busybox:1"]).fails(1).stderr;
    assert!(missing.contains("No such image: busybox:1"), "{missing}");
    assert!(!host.folder().join("x.tar").exists());
    assert_eq!(host.tare(&["images", "-q"]).ok(), "");
    assert_eq!(blobs(&host), empty);
}

/// All files below the store's blobs and layers.
fn blobs(host: &Host) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![host.root().join("blobs"), host.root().join("layers")];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

const CHANGES: &str =
    "mkdir -p /new/dir && echo x > /new/dir/f && ln /new/dir/f /new/hard && ln -s x /new/link && mkfifo /new/fifo
    rm /data/plain && rm -r /home && echo y > /data/orphan && mkdir /tmp/q && rm -r /var && mkdir /var && echo > /var/z
    touch /bin/busybox && chmod 4755 /new/hard && echo done";

const DIFF: &str = "C /bin\nC /bin/busybox\nC /data\nC /data/orphan\nD /data/plain\nD /home\nA /new\nA /new/dir\nA /new/dir/f\n\
    A /new/fifo\nA /new/hard\nA /new/link\nC /tmp\nA /tmp/q\nC /var\nA /var/z\nA /vol";

#[test]
fn changes_are_told_as_docker_tells_them_and_committed() {
    let Some(host) = with_busybox() else { return };
    let volume = host.folder().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("secret"), "").unwrap();
    let bind = format!("{}:/vol", volume.display());
    let script = format!("{CHANGES}\nexec sleep 1000000");
    let run =
        ["run", "-d", "--network", "none", "--name", "box", "-v", &bind, "-e", "ADDED=1", "busybox:1", "sh", "-c"];
    host.tare(&[&run[..], &[&script]].concat()).ok();
    crate::host::eventually("the script is done", || host.tare(&["logs", "box"]).ok() == "done");
    assert_eq!(host.tare(&["diff", "box"]).ok(), DIFF);
    let id = host.tare(&["commit", "-a", "me", "-m", "why", "-c", "CMD [\"true\"]", "box", "made:1"]).ok();
    // It goes on afterwards.
    assert_eq!(host.tare(&["exec", "box", "cat", "/new/dir/f"]).ok(), "x");
    assert_eq!(inspect(&host, "made:1", "/Id"), id.as_str());
    assert_eq!(
        (inspect(&host, "made:1", "/Author"), inspect(&host, "made:1", "/Comment")),
        ("me".into(), "why".into())
    );
    let environment = inspect(&host, "made:1", "/Config/Env");
    assert_eq!(environment, serde_json::json!(["PATH=/bin", "IMAGE=busybox", "ADDED=1"]));
    let look = "ls -l /new; stat -c %a:%h /new/hard; ls /data /var /vol; test ! -e /home && echo gone";
    let seen = host.tare(&["run", "--rm", "--network", "none", "made:1", "sh", "-c", look]).ok();
    for part in ["link -> x", "4755:2", "orphan", "\nz\n", "gone"] {
        assert!(seen.contains(part), "{part:?} in {seen}");
    }
    assert!(!seen.contains("plain") && !seen.contains("secret"), "{seen}");
    // skopeo and umoci take the layer as well.
    let archive = at(&host, "made.tar");
    host.tare(&["save", "-o", &archive, "made:1"]).ok();
    let target = format!("oci:{}:1", at(&host, "made"));
    host.command("skopeo", &["copy", "-q", &format!("docker-archive:{archive}"), &target]).ok();
    host.command("umoci", &["unpack", "--image", &format!("{}:1", at(&host, "made")), &at(&host, "bundle")]).ok();
    let rootfs = host.folder().join("bundle/rootfs");
    assert!(!rootfs.join("home").exists() && !rootfs.join("data/plain").exists());
    assert_eq!(fs::read_to_string(rootfs.join("new/hard")).unwrap(), "x\n");
    // Nothing changed: no layer.
    host.tare(&["create", "--name", "same", "busybox:1", "true"]).ok();
    host.tare(&["commit", "same", "same:1"]).ok();
    assert_eq!(inspect(&host, "same:1", "/RootFS"), inspect(&host, "busybox:1", "/RootFS"));
    assert_eq!(host.tare(&["diff", "same"]).ok(), "");
    let refused = host.tare(&["commit", "-c", "RUN x", "box"]).fails(1).stderr;
    assert!(refused.contains("run is not a valid change command"), "{refused}");
}

#[test]
fn a_container_is_exported_running_or_not_and_imported() {
    let Some(host) = with_busybox() else { return };
    let volume = host.folder().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("secret"), "").unwrap();
    let bind = format!("{}:/vol", volume.display());
    let script = format!("{CHANGES}\nexec sleep 1000000");
    host.tare(&["run", "-d", "--network", "none", "--name", "box", "-v", &bind, "busybox:1", "sh", "-c", &script]).ok();
    crate::host::eventually("the script is done", || host.tare(&["logs", "box"]).ok() == "done");
    let archive = at(&host, "c.tar");
    let list = || {
        let names = host.command("tar", &["-tf", &archive]).ok();
        names.lines().filter(|name| !name.starts_with("etc/")).map(str::to_owned).collect::<Vec<_>>()
    };
    host.tare(&["export", "-o", &archive, "box"]).ok();
    let running = list();
    host.tare(&["stop", "-t", "0", "box"]).ok();
    host.tare(&["export", "-o", &archive, "box"]).ok();
    assert_eq!(list(), running);
    for present in ["new/hard", "new/link", "bin/busybox", "vol/", "dev/", "proc/", "var/z"] {
        assert!(running.contains(&present.to_owned()), "{present} in {running:?}");
    }
    assert!(
        !running.iter().any(|name| name.starts_with("vol/s") || name.starts_with("home") || name.starts_with("proc/1"))
    );
    // As a file, compressed from a pipe, and by a URL.
    host.command("gzip", &["-k", &archive]).ok();
    let changes = ["-c", "CMD [\"cat\", \"/new/dir/f\"]", "-c", "ENV PATH=/bin", "-m", "from a box"];
    let plain = host.tare(&[&["import"], &changes[..], &[&archive, "flat:1"]].concat()).ok();
    assert!(plain.starts_with("sha256:"), "{plain}");
    let bytes = fs::read(format!("{archive}.gz")).unwrap();
    host.tare(&[&["import"], &changes[..], &["-", "flat:2"]].concat()).input(bytes).ok();
    for name in ["flat:1", "flat:2"] {
        assert_eq!(host.tare(&["run", "--rm", "--network", "none", name]).ok(), "x");
        assert_eq!(inspect(&host, name, "/Comment"), "from a box");
    }
    assert_eq!(inspect(&host, "flat:1", "/RootFS"), inspect(&host, "flat:2", "/RootFS"));
    let down = host.tare(&["import", "http://127.0.0.1:5999/x.tar", "flat:3"]).fails(1).stderr;
    assert!(down.contains("connection refused"), "{down}");
}
