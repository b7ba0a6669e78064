//! Many processes that take in, use and remove the same images at once.

use crate::host::{Host, Output};
use std::fs;

/// How often each of them does it; `TARE_CRASH_ROUNDS` says otherwise.
const ROUNDS: usize = 12;

/// What the containers print.
const SHOW: [&str; 3] = ["cat", "/srv/name", "/data/same"];

#[test]
fn pulls_loads_removals_and_containers_of_the_same_images() {
    let Some(host) = Host::new() else { return };
    let images = [host.pull("tiny"), host.pull("other")];
    let archive = host.folder().join("archive.tar").display().to_string();
    host.tare(&["save", "-o", &archive, &images[0], &images[1]]).ok();
    let rounds = std::env::var("TARE_CRASH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let shared = Shared { host: &host, images: &images, archive: &archive };
    let workers: [fn(&Shared<'_>, usize); 9] = [pull, pull_the_other, load, run, keep, remove, prune, check, list];
    std::thread::scope(|scope| {
        for worker in workers {
            let shared = &shared;
            scope.spawn(move || (0..rounds).for_each(|round| worker(shared, round)));
        }
    });
    // Nobody is at work any more: all is whole, and all of it can go.
    assert_eq!(host.tare(&["system", "check", "-q"]).ok(), "");
    for image in &images {
        host.tare(&["pull", "-q", image]).ok();
        let show = [&["run", "--rm", "--network", "none", image], &SHOW[..]].concat();
        assert!(is_shown(&host.tare(&show).ok()));
    }
    host.tare(&["image", "prune", "-a", "-f"]).ok();
    let root = host.root().display().to_string();
    let left = host.command("find", &[&format!("{root}/blobs"), &format!("{root}/layers"), "-type", "f"]).ok();
    let names = host.command("find", &[&format!("{root}/images"), "-name", "*.json"]).ok();
    assert_eq!(left + &names, "");
    for folder in ["blobs", "images", "layers"] {
        assert_eq!(fs::read_dir(host.root().join(folder).join("temporary")).unwrap().count(), 0, "{folder}");
    }
}

/// What all of them work on.
struct Shared<'a> {
    host: &'a Host,
    images: &'a [String; 2],
    archive: &'a str,
}

impl Shared<'_> {
    fn image(&self, round: usize) -> &str {
        &self.images[round % 2]
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.host.tare(arguments).ok()
    }

    /// Runs a command that finds an image or says that there is none. Whether it found it.
    fn finds(&self, arguments: &[&str], failed: i32) -> Option<String> {
        let Output { code, stdout, stderr } = self.host.tare(arguments).output();
        if code == failed && stderr.contains("No such image") {
            return None;
        }
        assert_eq!(code, 0, "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
        Some(stdout)
    }
}

fn is_shown(text: &str) -> bool {
    matches!(text.trim_end(), "tiny\nnew" | "other\nnew")
}

fn pull(shared: &Shared<'_>, round: usize) {
    let said = shared.ok(&["pull", shared.image(round)]);
    assert!(said.contains("Status: "), "{said}");
}

fn pull_the_other(shared: &Shared<'_>, round: usize) {
    shared.ok(&["pull", "-q", shared.image(round + 1)]);
}

fn load(shared: &Shared<'_>, _: usize) {
    let said = shared.ok(&["load", "-i", shared.archive]);
    assert_eq!(said.matches("Loaded image: ").count(), 2, "{said}");
}

/// Pulls what is not there; what it started with stays, whoever removes the image.
fn run(shared: &Shared<'_>, round: usize) {
    let arguments = [&["run", "--rm", "--network", "none", shared.image(round)], &SHOW[..]].concat();
    let said = shared.ok(&arguments);
    assert!(is_shown(&said), "{said}");
}

/// A container's layers stay as long as it does.
fn keep(shared: &Shared<'_>, round: usize) {
    let name = format!("kept-{round}");
    let create = [&["create", "--pull", "never", "--network", "none", "--name", &name, shared.image(round)], &SHOW[..]];
    if shared.finds(&create.concat(), 1).is_some() {
        shared.host.tare(&["rmi", "-f", shared.image(round)]).output();
        for _ in 0..3 {
            let said = shared.ok(&["start", "-a", &name]);
            assert!(is_shown(&said), "{said}");
        }
        shared.ok(&["rm", &name]);
    }
}

fn remove(shared: &Shared<'_>, round: usize) {
    for image in [shared.image(round), shared.image(round + 1)] {
        let Output { code, stdout, stderr } = shared.host.tare(&["rmi", image]).output();
        let truthful = stderr.contains("No such image") || stderr.contains("is using its referenced image");
        assert!(code == 0 || code == 1 && truthful, "{code}\n{stdout}{stderr}");
    }
}

fn prune(shared: &Shared<'_>, _: usize) {
    shared.ok(&["image", "prune", "-a", "-f"]);
    shared.ok(&["image", "prune", "-a", "--dry-run"]);
}

fn check(shared: &Shared<'_>, _: usize) {
    for _ in 0..3 {
        assert_eq!(shared.ok(&["system", "check", "-q"]), "");
    }
}

fn list(shared: &Shared<'_>, round: usize) {
    for _ in 0..2 {
        shared.ok(&["images", "-a", "--digests"]);
        shared.ok(&["system", "df", "-v"]);
        shared.finds(&["image", "inspect", shared.image(round)], 1);
        shared.finds(&["history", shared.image(round)], 1);
    }
}
