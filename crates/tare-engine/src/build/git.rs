//! Fetching and checking out with the host's git, as Docker does: the one program of the host that builds start, in a
//! process of its own that ends it when the builder is gone.
//!
//! It reads no configuration but what is said here, runs no hook, asks nobody, and speaks with servers only by the protocols
//! of the web, of ssh and its own; what a repository names as its submodules can lead to nothing else either.

use super::request::{Answer, CheckOut};
use super::work::WorkFolder;
use crate::error::{Error, Result};
use crate::state::file;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tare_runtime::monitor::protocol::Connection;
use tare_spec::ErrorKind;
use tare_spec::url::without_users;

/// The most bytes of what git says that are kept: the last ones.
const WORDS: usize = 16 << 10;

/// Protocols that may be used, also by submodules (git(1), `GIT_ALLOW_PROTOCOL`).
const PROTOCOLS: &str = "git:http:https:ssh";

/// What would otherwise come from configurations, or from habits that belong to people's own repositories.
const CONFIGURATION: [&str; 13] = [
    "advice.detachedHead=false",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.symlinks=true",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "init.defaultBranch=main",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
    "protocol.file.allow=never",
    "submodule.recurse=false",
];

/// Does it, in `tree/` of a folder of work.
pub(super) fn check_out(request: &CheckOut, work: &WorkFolder, builder: &Connection) -> Result<Answer> {
    let git = Git { request, tree: work.path().join("tree"), home: work.path().join("home"), builder };
    git.run(&["init", "-q", "--template=", "."])?;
    // Submodules may be named relative to it.
    git.run(&["config", "remote.origin.url", &request.remote])?;
    let target = git.fetch()?;
    let object = git.line(&["rev-parse", "--verify", "-q", &target])?;
    let commit = git.line(&["rev-parse", "--verify", "-q", &format!("{target}^{{commit}}")])?;
    if let Some(expected) = &request.checksum
        && !commit.starts_with(expected)
        && !object.starts_with(expected)
    {
        let problem = format!("expected commit {expected}, got {commit}");
        return Err(git.failed(problem, ErrorKind::InvalidParameter));
    }
    git.run(&["checkout", "-q", "--force", "--detach", &commit])?;
    let has_submodules = fs::symlink_metadata(git.tree.join(".gitmodules")).is_ok_and(|found| found.is_file());
    if has_submodules {
        git.update_submodules()?;
    }
    if request.keep_git_dir {
        git.tidy(&object, has_submodules)?
    } else {
        git.remove_git_dirs(has_submodules)?
    }
    Ok(Answer::CheckedOut { commit })
}

struct Git<'a> {
    request: &'a CheckOut,
    tree: PathBuf,
    home: PathBuf,
    builder: &'a Connection,
}

/// What a command came to.
struct Said {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Git<'_> {
    /// Brings what was asked for, with as little history as the server can do; returns what names it then.
    fn fetch(&self) -> Result<String> {
        let wanted = self.request.reference.as_deref().unwrap_or("HEAD");
        let mut said = self.try_run(&["fetch", "-q", "--depth=1", "--no-tags", "--", "origin", wanted])?;
        if !said.succeeded && said.wants_history() {
            said = self.try_run(&["fetch", "-q", "--no-tags", "--", "origin", wanted])?;
        }
        if !said.succeeded && self.request.is_commit && said.wants_names() {
            // A server that gives away only what has a name: all of that, which the commit is hopefully part of.
            let (branches, tags) = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*");
            said = self.try_run(&["fetch", "-q", "--no-tags", "--", "origin", branches, tags])?;
            said.check(self)?;
            return Ok(wanted.to_owned());
        }
        said.check(self)?;
        Ok("FETCH_HEAD".to_owned())
    }

    fn update_submodules(&self) -> Result<()> {
        let said = self.try_run(&["submodule", "-q", "update", "--init", "--recursive", "--depth=1"])?;
        if !said.succeeded && (said.wants_history() || said.wants_names()) {
            return self.run(&["submodule", "-q", "update", "--init", "--recursive"]).map(drop);
        }
        said.check(self).map(drop)
    }

    /// Leaves a `.git` that is the same whenever it is made of the same: without times of the checkout, logs, and secrets.
    fn tidy(&self, object: &str, has_submodules: bool) -> Result<()> {
        let folder = self.tree.join(".git");
        let fetched = fs::read_to_string(folder.join("FETCH_HEAD")).unwrap_or_default();
        if let Some(name) = fetched_name(&fetched) {
            self.run(&["update-ref", &name, object])?;
        }
        self.run(&["config", "remote.origin.url", &self.request.shown])?;
        remove_traces(&folder)?;
        // An index that knows the contents only.
        self.run(&["read-tree", "HEAD"])?;
        if has_submodules {
            self.tidy_modules(&folder)?;
            // Those in others are found by the index of these, which is there by then.
            self.run(&["submodule", "-q", "foreach", "--recursive", "git read-tree HEAD"])?;
        }
        Ok(())
    }

    /// The same with the repositories of submodules, and what git has written down of where they came from.
    fn tidy_modules(&self, folder: &Path) -> Result<()> {
        let mut folders = vec![folder.join("modules")];
        self.tidy_config(&folder.join("config"))?;
        while let Some(folder) = folders.pop() {
            let failed = |source| Error::file("list", &folder, source);
            let entries = match fs::read_dir(&folder) {
                // The names that there are lead to no submodule.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            if folder.join("HEAD").is_file() {
                remove_traces(&folder)?;
                self.tidy_config(&folder.join("config"))?;
                // Submodules of submodules.
                folders.push(folder.join("modules"));
                continue;
            }
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// Takes the password of our address away, which those of submodules that are named relative to it have as well.
    fn tidy_config(&self, path: &Path) -> Result<()> {
        if self.request.remote == self.request.shown {
            return Ok(());
        }
        let failed = |action| move |source| Error::file(action, path, source);
        let text = fs::read_to_string(path).map_err(failed("read"))?;
        fs::write(path, without_users(&text)).map_err(failed("write"))
    }

    /// Removes `.git`, which no commit can have in it: what is called so comes from git itself.
    fn remove_git_dirs(&self, has_submodules: bool) -> Result<()> {
        let remove = |path: &Path| file::remove_tree(path);
        remove(&self.tree.join(".git"))?;
        let mut folders = if has_submodules { vec![self.tree.clone()] } else { Vec::new() };
        while let Some(folder) = folders.pop() {
            let failed = |source| Error::file("list", &folder, source);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_name() == ".git" {
                    remove(&entry.path())?;
                } else if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// Runs a command that must succeed; what it says.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.try_run(arguments)?.check(self)
    }

    fn line(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run(arguments)?.trim().to_owned())
    }

    fn failed(&self, problem: String, kind: ErrorKind) -> Error {
        Error::Git { remote: self.request.shown.clone(), problem, kind }
    }

    /// Runs a command and waits for it, unless the builder goes.
    fn try_run(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new("git");
        command.env_clear().current_dir(&self.tree).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it starts is ended with it.
        command.process_group(0);
        command.envs(self.request.environment.iter().map(|(name, value)| (name, value)));
        command.env("HOME", &self.home).env("XDG_CONFIG_HOME", &self.home);
        command.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree));
        for (name, value) in [
            ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("LC_ALL", "C"),
        ] {
            command.env(name, value);
        }
        for setting in CONFIGURATION {
            command.args(["-c", setting]);
        }
        let mut child = match command.args(arguments).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::GitMissing { remote: self.request.shown.clone() });
            }
            child => child.map_err(Error::system("start git"))?,
        };
        let mut stdout = child.stdout.take().expect("it was asked for");
        let mut stderr = child.stderr.take().expect("it was asked for");
        let (mut words, mut problems, mut open) = (Vec::new(), Vec::new(), [true; 2]);
        while open != [false; 2] {
            let mut interests = vec![PollFd::new(self.builder, PollFlags::IN)];
            // poll(2) leaves out what has no number.
            interests.extend(open[0].then(|| PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)));
            interests.extend(open[1].then(|| PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN)));
            match poll(&mut interests, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::System { action: "wait for git", source: errno.into() }),
            }
            let mut ready = interests.iter().map(|interest| !interest.revents().is_empty());
            let gone = ready.next().unwrap_or(false);
            let (out, err) = (open[0] && ready.next() == Some(true), open[1] && ready.next() == Some(true));
            if gone {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // It may have ended by itself just now.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Err(Error::BuildCancelled);
            }
            open[0] &= !out || read_some(&mut stdout, &mut words)?;
            open[1] &= !err || read_some(&mut stderr, &mut problems)?;
        }
        let status = child.wait().map_err(Error::system("wait for git"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { succeeded: status.success(), stdout: text(words), stderr: text(problems) })
    }
}

/// Reads what is there, and keeps the last of it; false at the end.
fn read_some(from: &mut impl Read, kept: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 4096];
    let count = loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            count => break count.map_err(Error::system("read what git says"))?,
        }
    };
    kept.extend_from_slice(&buffer[..count]);
    let excess = kept.len().saturating_sub(WORDS);
    kept.drain(..excess);
    Ok(count > 0)
}

impl Said {
    /// Whether the server cannot give a part of the history away.
    fn wants_history(&self) -> bool {
        ["shallow", "--depth"].iter().any(|word| self.stderr.contains(word))
    }

    /// Whether the server gives away only what has a name.
    fn wants_names(&self) -> bool {
        let known = ["not our ref", "unadvertised object", "couldn't find remote ref", "did not send all necessary"];
        known.iter().any(|word| self.stderr.contains(word))
    }

    fn check(self, git: &Git<'_>) -> Result<String> {
        if self.succeeded {
            return Ok(self.stdout);
        }
        let words = |all: &[&str]| all.iter().any(|word| self.stderr.contains(word));
        let kind = if words(&["could not read Username", "Authentication failed", "Permission denied", "publickey"]) {
            ErrorKind::Unauthorized
        } else if words(&["couldn't find remote ref", "not our ref", "not found", "does not exist", "not exported"]) {
            ErrorKind::NotFound
        } else if words(&["not allowed"]) {
            ErrorKind::Forbidden
        } else {
            ErrorKind::Unavailable
        };
        // The address may have a password in it.
        let said = self.stderr.replace(&git.request.remote, &git.request.shown);
        let problem = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Err(git.failed(if problem.is_empty() { "it failed without a word".to_owned() } else { problem }, kind))
    }
}

/// Removes what tells of a checkout from a folder of git: times, logs, addresses.
fn remove_traces(folder: &Path) -> Result<()> {
    let names = ["FETCH_HEAD", "ORIG_HEAD", "index", "logs", "hooks"];
    names.iter().try_for_each(|name| file::remove_tree(&folder.join(name)))
}

/// The name of what was fetched alone, by the first line of FETCH_HEAD: `<digits>\t\tbranch 'main' of …`.
fn fetched_name(text: &str) -> Option<String> {
    let note = text.lines().next()?.splitn(3, '\t').nth(2)?;
    let folder = match note.split_once(' ')?.0 {
        "branch" => "refs/heads",
        "tag" => "refs/tags",
        _ => return None,
    };
    Some(format!("{folder}/{}", note.split('\'').nth(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_has_a_name() {
        for (line, name) in [
            ("0123\t\tbranch 'main' of git://host/x", Some("refs/heads/main")),
            ("0123\tnot-for-merge\ttag 'v1/a' of host", Some("refs/tags/v1/a")),
            ("0123\t\tgit://host/x", None),
            ("", None),
        ] {
            assert_eq!(fetched_name(line).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn only_the_last_words_are_kept() {
        let (mut kept, mut from) = (Vec::new(), vec![b'x'; WORDS + 5000]);
        from.extend_from_slice(b"the end");
        let mut from = &from[..];
        while read_some(&mut from, &mut kept).unwrap() {}
        assert!(kept.len() == WORDS && kept.ends_with(b"the end"));
    }
}
