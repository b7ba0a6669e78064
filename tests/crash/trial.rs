//! One command that goes wrong at each of its steps in turn, and what must be true after each.

use super::tracer::{self, Fault, Outcome};
use crate::host::{Host, Output};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The folders that a command about images may change.
const FOLDERS: [&str; 4] = ["blobs", "build", "images", "layers"];

/// Those in which what is half done has a place of its own.
const WITH_TEMPORARY: [&str; 3] = ["blobs", "images", "layers"];

/// At how many calls a command goes wrong where `TARE_CRASH_STRIDE` does not say at every how many: all of them take minutes.
const POINTS: usize = 12;

/// A command and the state in which it is given, which the host has when this is made.
pub(super) struct Scenario<'a> {
    host: &'a Host,
    arguments: Vec<String>,
    /// What is true of an image when the command has succeeded.
    done: Vec<Claim>,
    /// All that a prune leaves after a go without a fault.
    clean: BTreeSet<String>,
}

/// What is said of an image, or true of it.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    Present(String),
    Absent(String),
}

impl<'a> Scenario<'a> {
    pub(super) fn new(host: &'a Host, arguments: &[&str], done: Vec<Claim>) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut this = Self { host, arguments, done, clean: BTreeSet::new() };
        for folder in FOLDERS {
            fs::create_dir_all(host.root().join(folder)).unwrap();
        }
        copy(&host.root(), &this.host.folder().join("base"));
        this.tare().ok();
        this.done.iter().for_each(|claim| this.verify(claim));
        this.prune();
        this.clean = this.files();
        this
    }

    fn tare(&self) -> crate::host::Run {
        self.host.tare(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Lets the command go wrong at its calls, one after the other.
    pub(super) fn explore(&self, fault: Fault) {
        let number = |name: &str| std::env::var(name).map(|text| text.parse::<usize>().unwrap());
        let calls = self.traced(fault, usize::MAX).calls;
        let stride = number("TARE_CRASH_STRIDE").unwrap_or((calls / POINTS).max(1));
        // The faults share the calls among them.
        let first = number("TARE_CRASH_FROM").unwrap_or(1 + stride * fault as usize / 3);
        let mut tried = 0;
        for count in (first..).step_by(stride) {
            let outcome = self.traced(fault, count);
            let Some(hit) = &outcome.hit else {
                assert_eq!(outcome.code, 0, "{outcome:?}");
                break;
            };
            // Shown when what follows fails.
            println!("{fault:?} at call {count}, {hit}: exit code {}", outcome.code);
            println!("stdout: {}\nstderr: {}", outcome.stdout, outcome.stderr);
            self.verify_outcome(fault, &outcome);
            tried += 1;
        }
        assert!(tried > 0, "the command makes {calls} calls that change something");
        println!(
            "{} {}: {fault:?} at {tried} of {calls} calls",
            self.arguments[0],
            self.arguments.get(1).map_or("", |a| a)
        );
    }

    /// Runs the command on its own state with a fault.
    fn traced(&self, fault: Fault, count: usize) -> Outcome {
        copy(&self.host.folder().join("base"), &self.host.root());
        tracer::run(self.tare().into_command(), &self.host.root(), self.host.folder(), fault, count)
    }

    fn verify_outcome(&self, fault: Fault, outcome: &Outcome) {
        match fault {
            Fault::Kill => assert_eq!(outcome.code, 128 + 9, "the command was not killed"),
            Fault::Full | Fault::Broken if outcome.code == 0 => {
                self.done.iter().for_each(|claim| self.verify(claim));
            }
            // Whoever reads it learns the cause.
            Fault::Full => assert!(outcome.stderr.to_lowercase().contains("no space left"), "what was it?"),
            Fault::Broken => assert!(outcome.stderr.to_lowercase().contains("input/output error"), "what was it?"),
        }
        self.verify_store();
        claims(&outcome.stdout).iter().for_each(|claim| self.verify(claim));
        for image in self.host.tare(&["images", "-a", "-q", "--no-trunc"]).ok().lines() {
            self.verify(&Claim::Present(image.to_owned()));
        }
        let Output { code, stdout, stderr } = self.tare().output();
        // Of what is gone already it says so.
        assert!(code == 0 || code == 1 && stderr.contains("No such image"), "again: {code}\n{stdout}{stderr}");
        self.done.iter().for_each(|claim| self.verify(claim));
        self.verify_store();
        self.prune();
        let left = self.files();
        assert!(left == self.clean, "left behind: {:?}", left.symmetric_difference(&self.clean));
    }

    /// Nothing is damaged, and this command, the next one, has swept what was half done.
    fn verify_store(&self) {
        assert_eq!(self.host.tare(&["system", "check", "-q"]).ok(), "");
        for folder in WITH_TEMPORARY.map(|folder| self.host.root().join(folder).join("temporary")) {
            let left: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    fn verify(&self, claim: &Claim) {
        match claim {
            Claim::Present(name) => {
                let said =
                    self.host.tare(&["run", "--rm", "--network", "none", name, "cat", "/srv/name", "/data/same"]).ok();
                assert!(matches!(said.as_str(), "tiny\nnew" | "other\nnew"), "{said}");
            }
            Claim::Absent(name) => {
                let said = self.host.tare(&["image", "inspect", name]).fails(1);
                assert!(said.stderr.contains("No such image"), "{}", said.stderr);
            }
        }
    }

    /// Takes away all that nobody uses.
    fn prune(&self) {
        self.host.tare(&["image", "prune", "-a", "-f"]).ok();
        self.host.tare(&["builder", "prune", "-a", "-f"]).ok();
    }

    /// All files of the store, by their paths.
    fn files(&self) -> BTreeSet<String> {
        let find = FOLDERS.map(|folder| self.host.root().join(folder).display().to_string());
        self.host
            .command("find", &[find.each_ref().map(String::as_str).as_slice(), &["-type", "f"]].concat())
            .ok()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// What a command has said about images.
pub(super) fn claims(stdout: &str) -> Vec<Claim> {
    let mut claims = Vec::new();
    for line in stdout.lines() {
        let value = line.split_once(": ").map_or("", |(_, value)| value).to_owned();
        if let Some((_, name)) = line.split_once(" image for ").or_else(|| line.split_once("Image is up to date for "))
        {
            claims.push(Claim::Present(name.to_owned()));
        } else if line.starts_with("Loaded image: ") {
            claims.push(Claim::Present(value));
        } else if line.starts_with("sha256:") {
            claims.push(Claim::Present(line.to_owned()));
        } else if ["Untagged: ", "Deleted: ", "untagged: ", "deleted: "].iter().any(|word| line.starts_with(word)) {
            claims.push(Claim::Absent(value));
        }
    }
    claims
}

/// Makes the folders of the store at `to` what they are at `from`.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for folder in FOLDERS {
        let target = to.join(folder);
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        let copied = Command::new("cp").arg("-a").arg(from.join(folder)).arg(&target).status().unwrap();
        assert!(copied.success());
    }
}
