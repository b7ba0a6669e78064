//! The builder's side of a git checkout.

use super::EngineExecutor;
use super::process::unexpected;
use super::request::{Answer, CheckOut, Task};
use super::work::WorkFolder;
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use tare_build::executor::{Checkout, GitSource};
use tare_spec::ErrorKind;
use tare_sys::directory::Directory;

/// What git gets of our environment: where programs, proxies and the SSH agent are, as BuildKit has it.
const ENVIRONMENT: [&str; 10] = [
    "PATH",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

impl EngineExecutor<'_> {
    /// Fetches and checks out; the folder of the result lies in what was checked out, whatever links there are.
    pub(super) fn check_out(&self, git: &GitSource) -> Result<Checkout> {
        self.steps.check()?;
        git.check()?;
        let work = WorkFolder::create(self.engine)?;
        let tree = work.make("tree", 0o755)?;
        work.make("home", 0o700)?;
        let variable = |name: &&str| Some(((*name).to_owned(), std::env::var_os(name).and_then(text)?));
        let request = CheckOut {
            remote: git.remote.clone(),
            shown: git.shown(),
            reference: git.reference.clone(),
            is_commit: git.names_commit(),
            keep_git_dir: git.keep_git_dir,
            checksum: git.checksum.clone(),
            environment: ENVIRONMENT.iter().filter_map(variable).collect(),
        };
        let commit = match self.carry_out(&work, Task::CheckOut(request), &[], &mut |_, _| {})? {
            Answer::CheckedOut { commit } => commit,
            answer => return Err(unexpected(&answer)),
        };
        let folder = self.folder(git, &tree)?;
        Ok(Checkout { folder, commit, scratch: Box::new(work) })
    }

    /// The folder that was asked for, confined to the checkout (CVE-2026-33748), by a path without links.
    fn folder(&self, git: &GitSource, tree: &Path) -> Result<PathBuf> {
        let problem = |problem: String, kind| Error::Git { remote: git.shown(), problem, kind };
        let missing = |error: std::io::Error| {
            problem(format!("folder {:?} of it: {error}", git.folder), ErrorKind::InvalidParameter)
        };
        let inside = Directory::open(tree).map_err(|source| Error::file("open", tree, source))?;
        let found = inside.resolve(Path::new(git.folder.trim_start_matches('/'))).map_err(missing)?;
        let path = |directory: &Directory| {
            std::fs::read_link(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())).map_err(missing)
        };
        let (tree, found) = (path(&inside)?, path(&found)?);
        if found.starts_with(&tree) {
            Ok(found)
        } else {
            Err(problem(format!("folder {:?} leads out of it", git.folder), ErrorKind::InvalidParameter))
        }
    }
}

/// Git takes no other variables than text.
fn text(value: OsString) -> Option<String> {
    value.into_string().ok()
}
