//! What RUN has mounted: where it comes from, what of it decides the result, and how the executor gets it.

use super::Job;
use super::view::View;
use crate::cache::{Parts, failed, is_named, make_folder};
use crate::error::{Error, Result};
use crate::executor::{Mount, MountSource};
use crate::files::{Below, Copier, Destination, Fingerprint, Selection, Source, Wish, copy_tree, select};
use crate::plan::{Origin, RunMount, Sharing};
use crate::request::SecretSource;
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tare_spec::Digest;
use tare_sys::directory::{Directory, remove_tree};

/// BuildKit's bound on secrets, in bytes.
const SECRET_LIMIT: u64 = 500 << 10;

/// Where programs look for an SSH agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// The mounts of one RUN.
pub(super) struct Mounts<'a> {
    job: &'a Job<'a>,
    mounts: &'a [RunMount],
    /// What is taken of contexts, by the mount's place.
    chosen: BTreeMap<usize, (Selection, Fingerprint)>,
}

/// Mounts as the executor takes them, there while this lives.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) mounts: Vec<Mount>,
    /// Variables that come with them.
    pub(super) env: Vec<String>,
    _views: Vec<View>,
    _locks: Vec<File>,
}

impl<'a> Mounts<'a> {
    pub(super) fn new(job: &'a Job<'a>, mounts: &'a [RunMount]) -> Self {
        Self { job, mounts, chosen: BTreeMap::new() }
    }

    /// Adds what of them decides the result: neither the contents of caches nor the values of secrets.
    pub(super) fn decide(&mut self, parts: &mut Parts) -> Result<BTreeMap<String, Digest>> {
        let mut files = BTreeMap::new();
        for (index, mount) in self.mounts.iter().enumerate() {
            let name = format!("mount {index}");
            match mount.origin() {
                Some(Origin::Context | Origin::Named(_)) => {
                    let chosen = self.choose(mount)?;
                    parts.add(name, &(plain(mount), chosen.as_ref().map(|(_, fingerprint)| &fingerprint.digest)));
                    if let Some((selection, fingerprint)) = chosen {
                        files.extend(fingerprint.files.clone());
                        self.chosen.insert(index, (selection, fingerprint));
                    }
                }
                Some(Origin::Step(step)) => {
                    let layers = self.job.known.get(step).map(super::Outcome::diff_ids);
                    parts.add(name, &(plain(mount), layers));
                }
                Some(Origin::Nothing) | None => parts.add(name, &plain(mount)),
            }
        }
        Ok(files)
    }

    fn source(&self, origin: &Origin) -> Option<Source<'_>> {
        match origin {
            Origin::Context => self.job.solver.context.source(None),
            Origin::Named(name) => self.job.solver.context.source(Some(name)),
            Origin::Step(_) | Origin::Nothing => None,
        }
    }

    fn choose(&self, mount: &RunMount) -> Result<Option<(Selection, Fingerprint)>> {
        let (RunMount::Bind { from, source: path, .. } | RunMount::Cache { from: Some(from), source: path, .. }) =
            mount
        else {
            return Ok(None);
        };
        let Some(source) = self.source(from) else { return Ok(None) };
        // The whole context with what is above the path, so that the path is found in it again.
        let wanted = if path.is_empty() { ".".to_owned() } else { path.clone() };
        let wish = Wish { sources: vec![wanted], parents: !path.is_empty(), ..Wish::default() };
        let problem = |error| self.job.unchosen(from, error);
        let selection = select(&source, &wish).map_err(problem)?;
        let fingerprint = selection.fingerprint(&source).map_err(problem)?;
        Ok(Some((selection, fingerprint)))
    }

    /// Makes them ready for the executor. Waits for cache folders that others have locked.
    pub(super) fn ready(&self) -> Result<Ready> {
        let mut ready = Ready::default();
        let caches = self.cache_folders()?;
        for (index, mount) in self.mounts.iter().enumerate() {
            match mount {
                RunMount::Bind { target, from, source, writable } => {
                    let view = self.view(index, from)?;
                    let lower = view.lower_dirs().to_vec();
                    ready._views.push(view);
                    let source = MountSource::Tree { lower, path: source.clone() };
                    ready.mounts.push(Mount { target: target.clone(), read_only: !writable, source });
                }
                RunMount::Cache { target, read_only, .. } => {
                    let folder = self
                        .cache_name(index, mount)
                        .and_then(|name| caches.get(&name))
                        .map(|(folder, _)| folder.clone());
                    let source = MountSource::Folder(folder.unwrap_or_default());
                    ready.mounts.push(Mount { target: target.clone(), read_only: *read_only, source });
                }
                RunMount::Tmpfs { target, size } => {
                    let source = MountSource::Temporary { size: *size };
                    ready.mounts.push(Mount { target: target.clone(), read_only: false, source });
                }
                RunMount::Script { target, contents } => {
                    let contents = contents.clone().into_bytes();
                    let source = MountSource::Secret { contents, mode: 0o755, owner: (0, 0) };
                    ready.mounts.push(Mount { target: target.clone(), read_only: true, source });
                }
                RunMount::Secret { id, target, env, required, mode, owner } => {
                    let Some(contents) = self.secret(id)? else {
                        if *required {
                            return Err(Error::SecretMissing { lines: self.job.lines(), id: id.clone() });
                        }
                        continue;
                    };
                    if let Some(name) = env {
                        let value = String::from_utf8(contents.clone());
                        let value = value.ok().filter(|value| !value.contains('\0'));
                        let value = value.ok_or_else(|| Error::SecretText { id: id.clone(), name: name.clone() })?;
                        ready.env.push(format!("{name}={value}"));
                    }
                    if let Some(target) = target {
                        let source = MountSource::Secret { contents, mode: *mode, owner: *owner };
                        ready.mounts.push(Mount { target: target.clone(), read_only: true, source });
                    }
                }
                RunMount::Ssh { id, target, required, mode, owner } => {
                    let Some(socket) = self.job.solver.request.agents.get(id) else {
                        if *required {
                            return Err(Error::AgentMissing { lines: self.job.lines(), id: id.clone() });
                        }
                        continue;
                    };
                    // Of several agents the first one is found by programs that look for one, as in BuildKit.
                    let known = |line: &String| line.split_once('=').is_some_and(|(name, _)| name == AGENT);
                    if !ready.env.iter().any(known) {
                        ready.env.push(format!("{AGENT}={target}"));
                    }
                    let source = MountSource::Agent { socket: socket.clone(), mode: *mode, owner: *owner };
                    ready.mounts.push(Mount { target: target.clone(), read_only: false, source });
                }
            }
        }
        ready._locks.extend(caches.into_values().map(|(_, lock)| lock));
        Ok(ready)
    }

    /// The tree of a bind mount. What comes from a context is a layer first, so that its rules hold and nothing leads out of it.
    fn view(&self, index: usize, origin: &Origin) -> Result<View> {
        let store = self.job.solver.store;
        let layers = match origin {
            Origin::Step(step) => return self.job.view_of(*step),
            Origin::Nothing => Vec::new(),
            Origin::Context | Origin::Named(_) => match (self.source(origin), self.chosen.get(&index)) {
                (Some(source), Some((selection, fingerprint))) => {
                    let problem = |error| Error::Files { lines: self.job.lines(), error: Box::new(error) };
                    let destination =
                        Destination { path: "/".to_owned(), into: true, owner: None, mode: None, link: true };
                    let below = Below { root: None, time: self.job.time() };
                    let (_, diff_id) = self.job.layer(|writer| {
                        let mut copier = Copier::new(below, destination, writer.by_ref()).map_err(problem)?;
                        copier.tree(&source, selection, fingerprint).map_err(problem)?;
                        copier.finish().map(drop).map_err(problem)
                    })?;
                    vec![diff_id]
                }
                _ => Vec::new(),
            },
        };
        let layers = if layers.is_empty() { vec![self.job.layer(|_| Ok(()))?.1] } else { layers };
        View::new(store, &layers)
    }

    /// The folders of all cache mounts by what they are known by, locked as they are shared. Everyone locks them in the same order,
    /// and each once, so that nobody waits for who waits for him.
    fn cache_folders(&self) -> Result<BTreeMap<String, (PathBuf, File)>> {
        let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
        for (index, mount) in self.mounts.iter().enumerate() {
            let (Some(name), RunMount::Cache { sharing, .. }) = (self.cache_name(index, mount), mount) else {
                continue;
            };
            let known = wanted.entry(name).or_insert(index);
            // Of several with one id the strictest counts.
            if *sharing == Sharing::Locked {
                *known = index;
            }
        }
        wanted.into_iter().map(|(name, index)| Ok((name.clone(), self.cache_folder(&name, index)?))).collect()
    }

    /// What a cache is known by: its id, whose it is where it is not as usual, and what it begins with, as in BuildKit.
    fn cache_name(&self, index: usize, mount: &RunMount) -> Option<String> {
        let RunMount::Cache { id, mode, owner, from, source, .. } = mount else { return None };
        let mut identity = match (mode, owner) {
            (0o755, (0, 0)) => id.clone(),
            (mode, (uid, gid)) => format!("{id}\0{mode:o} {uid}:{gid}"),
        };
        if let Some(from) = from {
            let mut parts = Parts::default();
            parts.add("path", source);
            match from {
                Origin::Step(step) => parts.add_base(&self.job.known.get(step)?.diff_ids()),
                Origin::Context | Origin::Named(_) => parts.add("files", &self.chosen.get(&index)?.1.digest),
                Origin::Nothing => {}
            }
            identity.push_str(&format!("\0from {}", parts.key().hex()));
        }
        Some(tare_store::sha256(identity.as_bytes()).hex().to_owned())
    }

    /// Puts into a new cache what it begins with.
    fn fill(&self, folder: &Path, index: usize, from: &Origin, source: &str) -> Result<()> {
        let view = self.view(index, from)?;
        let Some(root) = view.root() else { return Ok(()) };
        let of = |action| failed(action, Path::new(source));
        let root = root.resolve(Path::new(source)).map_err(of("open what the cache begins with at"))?;
        let target = Directory::open(folder).map_err(failed("open", folder))?;
        copy_tree(&root, &target, true).map_err(of("copy what the cache begins with at"))
    }

    fn cache_folder(&self, name: &str, index: usize) -> Result<(PathBuf, File)> {
        let RunMount::Cache { id, sharing, mode, owner, from, source, .. } = &self.mounts[index] else {
            return Err(self.unsupported("this mount"));
        };
        let all = self.job.solver.folders.mounts();
        let mut number = 0_u32;
        loop {
            let base = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
            let folder = all.join(&base);
            make_folder(&folder)?;
            let path = folder.join("lock");
            let file = match File::options().write(true).create(true).truncate(false).mode(0o600).open(&path) {
                // It was pruned between the two.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                file => file.map_err(failed("open", &path))?,
            };
            if *sharing == Sharing::Private {
                match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => {}
                    Err(rustix::io::Errno::WOULDBLOCK) => {
                        number += 1;
                        continue;
                    }
                    Err(errno) => return Err(failed("lock", &path)(errno.into())),
                }
            } else {
                let what = format!("cache {id}, which another step has");
                self.job.waiting(&what, |wait| wait.lock(&file, &path, *sharing == Sharing::Shared))?;
            }
            // Who pruned it has taken the whole folder away: the lock that was waited for is another one's.
            if !is_named(&file, &path)? {
                continue;
            }
            file.set_modified(std::time::SystemTime::now()).map_err(failed("set the time of", &path))?;
            let data = folder.join("data");
            if !data.exists() {
                describe(&folder, id)?;
                // It has its name when it is as it should be.
                let unfinished = folder.join(format!("data-{}-{:?}", std::process::id(), std::thread::current().id()));
                // What one that was killed left.
                remove_tree(&unfinished).map_err(failed("remove", &unfinished))?;
                make_folder(&unfinished)?;
                if let Some(from) = from {
                    self.fill(&unfinished, index, from, source).inspect_err(|_| {
                        // What matters is why; the next one removes it as well.
                        let _ = remove_tree(&unfinished);
                    })?;
                }
                let owned = std::os::unix::fs::chown(&unfinished, Some(owner.0), Some(owner.1));
                owned.map_err(failed("give away", &unfinished))?;
                let permissions = std::fs::Permissions::from_mode(*mode);
                std::fs::set_permissions(&unfinished, permissions).map_err(failed("set the mode of", &unfinished))?;
                match name_anew(&unfinished, &data) {
                    // Another one that shares it was faster.
                    Err(_) if data.exists() => remove_tree(&unfinished).map_err(failed("remove", &unfinished))?,
                    renamed => renamed.map_err(failed("rename to", &data))?,
                }
            }
            return Ok((data, file));
        }
    }

    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        let contents = match self.job.solver.request.secrets.get(id) {
            None => return Ok(None),
            Some(SecretSource::Value(bytes)) => bytes.clone(),
            Some(SecretSource::File(path)) => read_secret(path)?,
        };
        if contents.len() as u64 > SECRET_LIMIT {
            return Err(Error::TooLarge { what: "secret", path: id.to_owned(), limit: SECRET_LIMIT });
        }
        Ok(Some(contents))
    }

    fn unsupported(&self, feature: &str) -> Error {
        let problem = crate::dockerfile::Problem::Unsupported { feature: feature.to_owned() };
        Error::Dockerfile { lines: self.job.lines(), problem }
    }
}

/// Renames a folder to what is not there yet. rename(2) by itself replaces an empty folder: the one that another step was given a moment ago,
/// whose files would go with it.
fn name_anew(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(rustix::io::Errno::INVAL) => std::fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// A mount without what differs between builds of the same thing: numbers of steps.
fn plain(mount: &RunMount) -> RunMount {
    let mut mount = mount.clone();
    match &mut mount {
        RunMount::Bind { from, .. } | RunMount::Cache { from: Some(from), .. } => *from = Origin::Nothing,
        // Who forgets a secret that is not required gets what it would have got with it, as with BuildKit.
        _ => {}
    }
    mount
}

/// Writes down what a cache folder is for, so that it can be shown.
fn describe(folder: &Path, id: &str) -> Result<()> {
    crate::cache::write(&folder.join("id"), id.as_bytes())
}

fn read_secret(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("open the secret", path))?;
    file.take(SECRET_LIMIT + 1).read_to_end(&mut bytes).map_err(failed("read the secret", path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::name_anew;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn an_empty_folder_is_not_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let [first, second, name] = ["first", "second", "name"].map(|name| parent.path().join(name));
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&second).unwrap();
        let ours = std::fs::metadata(&first).unwrap().ino();
        name_anew(&first, &name).unwrap();
        name_anew(&second, &name).unwrap_err();
        assert_eq!(std::fs::metadata(&name).unwrap().ino(), ours);
    }
}
