//! What containers may leave behind, asked from the kernel.

use super::Host;
use rustix::fs::inotify;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Remembers every container and every step of a build that ever had a folder, so that what is named after one is known even when the container has long gone.
pub(super) struct Watch {
    descriptor: OwnedFd,
    seen: Mutex<Vec<String>>,
}

impl Watch {
    pub(super) fn new(folders: &[PathBuf]) -> Self {
        let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        for folder in folders {
            inotify::add_watch(&descriptor, folder, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)
                .unwrap();
        }
        Self { descriptor, seen: Mutex::new(Vec::new()) }
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut reader = inotify::Reader::new(&self.descriptor, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && !seen.contains(&name) {
                seen.push(name);
            }
        }
        seen.clone()
    }
}

/// All that is left of the containers and builds of a host, one line each. Layers, images, the bridge and the empty table are no containers' and may stay.
pub(super) fn find(host: &Host, ids: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(mounts(host).into_iter().map(|path| format!("mount {}", path.display())));
    left.extend(processes(host).into_iter().map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("process {pid}: {}", String::from_utf8_lossy(&command).replace('\0', " "))
    }));
    left.extend(cgroups(ids).into_iter().map(|path| format!("cgroup {}", path.display())));
    let links = host.command("ip", &["-brief", "link", "show", "type", "veth"]).ok();
    left.extend(links.lines().map(|line| format!("interface {line}")));
    left.extend(rules(host));
    let of_root = ["containers", "names", "build/work"].map(|name| host.root().join(name));
    for folder in of_root.into_iter().chain([host.run_root().join("containers")]) {
        left.extend(entries(&folder).into_iter().map(|path| format!("file {}", path.display())));
    }
    left
}

/// Ends and removes what is left, so that one failed test does not disturb the next.
pub(super) fn remove(host: &Host, ids: &[String]) {
    use rustix::process::{Pid, Signal, kill_process};
    for pid in processes(host) {
        // It may be gone by now.
        let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
    }
    for path in mounts(host).into_iter().rev() {
        let _ = Command::new("umount").arg("-l").arg(path).status();
    }
    for path in cgroups(ids).into_iter().rev() {
        let _ = fs::remove_dir(path);
    }
    let _ = Command::new("ip").args(["netns", "del", &host.namespace]).status();
}

fn mounts(host: &Host) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(host.folder())).collect()
}

/// Processes on this host's network (monitors) or with this host's layers below their root (containers); the registry is none of them.
fn processes(host: &Host) -> Vec<i32> {
    let network = fs::metadata(host.network_namespace()).map(|file| file.ino()).ok();
    let layers = host.root().display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("docker-registr")) {
            continue;
        }
        let on_network = fs::metadata(entry.path().join("ns/net")).is_ok_and(|file| Some(file.ino()) == network);
        let on_layers = fs::read_to_string(entry.path().join("mountinfo"))
            .is_ok_and(|table| table.lines().any(|line| line.contains(" - overlay ") && line.contains(&layers)));
        if on_network || on_layers {
            found.push(pid);
        }
    }
    found
}

fn cgroups(ids: &[String]) -> Vec<PathBuf> {
    fn walk(folder: &Path, ids: &[String], found: &mut Vec<PathBuf>) {
        for path in entries(folder).into_iter().filter(|path| path.is_dir() && !path.is_symlink()) {
            if ids.iter().any(|id| path.to_string_lossy().contains(id.as_str())) {
                found.push(path.clone());
            }
            walk(&path, ids, found);
        }
    }
    let mut found = Vec::new();
    if !ids.is_empty() {
        walk(Path::new("/sys/fs/cgroup"), ids, &mut found);
    }
    found
}

/// Elements of maps and sets: published ports.
fn rules(host: &Host) -> Vec<String> {
    let text = host.command("nft", &["--json", "list", "ruleset"]).ok();
    let rules: serde_json::Value = serde_json::from_str(&text).unwrap();
    let objects = rules["nftables"].as_array().cloned().unwrap_or_default();
    let maps = objects.iter().filter_map(|object| object.get("map"));
    maps.filter(|map| map["elem"].as_array().is_some_and(|elements| !elements.is_empty()))
        .map(|map| format!("elements of the nftables map {}: {}", map["name"], map["elem"]))
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // A folder that is not there has nothing in it.
    fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}
