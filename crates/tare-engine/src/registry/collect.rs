//! Removing what no manifest of a registry refers to any more, also beside a running server.
//!
//! Repository by repository, then the content: each step holds the registry's lock exclusively, so that nobody adds or
//! removes references meanwhile; reading needs no lock and goes on. A blob that was pushed, mounted or asked for within the
//! grace time stays: its manifest may be on its way.

use super::layout::{self, RepositoryLayout};
use super::storage::{FileStorage, ManifestRecord, TagRecord, names};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tare_spec::digest::Algorithm;
use tare_spec::image::Document;
use tare_spec::{Digest, Repository, Tag};
use tare_store::content;

/// How a collection goes about it.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// Only tell what would be removed.
    pub dry_run: bool,
    /// Also remove manifests that neither a tag, nor an index, nor a subject that stays leads to.
    pub untagged: bool,
    /// How long a blob that nothing refers to is kept after it was last pushed, mounted or asked for.
    pub grace: Duration,
}

/// What a collection removed, or would.
#[derive(Debug, Default)]
pub struct Collected {
    /// Untagged manifests.
    pub manifests: Vec<(Repository, Digest)>,
    /// Blobs that a repository had and no manifest of it refers to.
    pub blobs: Vec<(Repository, Digest)>,
    /// Content that no repository has any more, with the bytes it occupies on the disk.
    pub content: Vec<(Digest, u64)>,
    /// What was left alone because it could not be understood, and why.
    pub problems: Vec<Error>,
}

/// Collects in the registry below `root`.
///
/// # Errors
/// Of the disk. A repository with a damaged manifest is left alone and named in [`Collected::problems`].
pub fn collect(root: &Path, options: &CollectOptions) -> Result<Collected> {
    if !layout::exists(&root.join("repositories"))? {
        let source = std::io::Error::from(ErrorKind::NotFound);
        return Err(Error::file("find a registry in", root, source));
    }
    let storage = FileStorage::open(root)?;
    let mut collected = Collected::default();
    // What would be gone if this were no dry run. Otherwise what is there counts: it may have been pushed again since.
    let mut gone = BTreeSet::new();
    for name in storage.layout.list()? {
        let _exclusive = storage.layout.lock_exclusive()?;
        let mut sweep = Sweep { storage: &storage, name: &name, options, gone: &mut gone };
        if let Err(error) = sweep.repository(&mut collected) {
            collected.problems.push(error);
        }
    }
    let _exclusive = storage.layout.lock_exclusive()?;
    let mut used = BTreeSet::new();
    for name in storage.layout.list()? {
        let repository = storage.layout.repository(&name);
        for folder in [repository.blobs(), repository.manifests()] {
            for digest in links(&folder)? {
                if !gone.contains(&folder.join(digest.algorithm().name()).join(digest.hex())) {
                    used.insert(digest);
                }
            }
        }
    }
    let mut unused: Vec<Digest> = storage.content.list()?.into_iter().filter(|digest| !used.contains(digest)).collect();
    unused.sort();
    for digest in unused {
        let path = storage.content.path(&digest);
        let Ok(metadata) = fs::metadata(&path) else { continue }; // gone already
        if options.dry_run || storage.content.remove(&digest)? {
            // st_blocks is in units of 512 bytes (inode(7)).
            collected.content.push((digest, metadata.blocks() * 512));
        }
    }
    collected.manifests.sort();
    collected.blobs.sort();
    Ok(collected)
}

/// One repository's turn.
struct Sweep<'a> {
    storage: &'a FileStorage,
    name: &'a Repository,
    options: &'a CollectOptions,
    gone: &'a mut BTreeSet<PathBuf>,
}

impl Sweep<'_> {
    fn repository(&mut self, collected: &mut Collected) -> Result<()> {
        let repository = self.storage.layout.repository(self.name);
        let mut all = Vec::new();
        for digest in links(&repository.manifests())? {
            all.push(self.entry(&repository, digest)?);
        }
        let kept = if self.options.untagged { reachable(&all, tagged(&repository)?) } else { digests(&all) };
        for entry in all.iter().filter(|entry| !kept.contains(&entry.digest)) {
            if self.options.dry_run {
                self.gone.insert(repository.manifest(&entry.digest));
            } else {
                self.storage.forget_manifest(&repository, &entry.digest)?;
            }
            collected.manifests.push((self.name.clone(), entry.digest.clone()));
        }
        let kept = all.iter().filter(|entry| kept.contains(&entry.digest));
        let used: BTreeSet<&Digest> = kept.flat_map(|entry| &entry.blobs).collect();
        for digest in links(&repository.blobs())? {
            let link = repository.blob(&digest);
            if used.contains(&digest) || self.is_young(&link) {
                continue;
            }
            if self.options.dry_run {
                self.gone.insert(link);
            } else {
                layout::remove(&link)?;
            }
            collected.blobs.push((self.name.clone(), digest));
        }
        if !self.options.dry_run {
            self.leftovers(&repository, &digests(&all))?;
            self.empty_folders(&repository);
        }
        Ok(())
    }

    fn entry(&self, repository: &RepositoryLayout, digest: Digest) -> Result<Entry> {
        let path = repository.manifest(&digest);
        let missing = || Error::file("read", &path, ErrorKind::NotFound.into());
        let record = content::read_record::<ManifestRecord>(&path)?.ok_or_else(missing)?;
        let bytes = self.storage.manifest_bytes(&digest)?.ok_or_else(missing)?;
        let (blobs, children) = match Document::parse(&bytes, Some(&record.media_type))? {
            Document::Manifest(manifest) => {
                (manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest.clone()).collect(), Vec::new())
            }
            Document::Index(index) => {
                (Vec::new(), index.manifests.iter().map(|manifest| manifest.digest.clone()).collect())
            }
        };
        Ok(Entry { digest, blobs, children, subject: record.subject })
    }

    /// Whether it was made or renewed within the grace time; a time in the future counts as young.
    fn is_young(&self, path: &Path) -> bool {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < self.options.grace) || time.elapsed().is_err())
    }

    /// Removes what crashes in the middle of a push or a deletion left: referrers and tags of manifests that are not there.
    fn leftovers(&self, repository: &RepositoryLayout, manifests: &BTreeSet<Digest>) -> Result<()> {
        for subject in links(&repository.subjects())? {
            for digest in links(&repository.referrers(&subject))? {
                if !manifests.contains(&digest) {
                    layout::remove(&repository.referrer(&subject, &digest))?;
                }
            }
        }
        for (tag, digest) in tags(repository)? {
            if !manifests.contains(&digest) {
                layout::remove(&repository.tag(&tag))?;
            }
        }
        Ok(())
    }

    /// Removes the folders of a repository that has nothing any more. What is not empty stays, whatever the reason.
    fn empty_folders(&self, repository: &RepositoryLayout) {
        let mut folders = vec![repository.tags(), repository.uploads()];
        for folder in [repository.blobs(), repository.manifests(), repository.subjects()] {
            folders.extend(["sha256", "sha512"].map(|algorithm| folder.join(algorithm)));
            folders.push(folder);
        }
        for subject in links(&repository.subjects()).unwrap_or_default() {
            let folder = repository.referrers(&subject);
            let inner = ["sha256", "sha512"].map(|algorithm| folder.join(algorithm));
            folders.splice(0..0, inner.into_iter().chain([folder]));
        }
        for folder in folders {
            let _ = fs::remove_dir(folder);
        }
        // Only the lock is left: nobody holds it, for its holders have the registry's lock, too.
        let only_lock = names(repository.folder()).is_ok_and(|names| names.is_some_and(|names| names == ["lock"]));
        if only_lock {
            let _ = fs::remove_file(repository.folder().join("lock"));
        }
        let top = self.storage.layout.repositories();
        let mut folder = repository.folder();
        while folder != top && fs::remove_dir(folder).is_ok() {
            folder = folder.parent().unwrap_or(&top);
        }
    }
}

/// What a manifest leads to.
struct Entry {
    digest: Digest,
    blobs: Vec<Digest>,
    children: Vec<Digest>,
    subject: Option<Digest>,
}

fn digests(all: &[Entry]) -> BTreeSet<Digest> {
    all.iter().map(|entry| entry.digest.clone()).collect()
}

/// The manifests that the roots lead to: themselves, the entries of indexes, and what has one of them as its subject.
fn reachable(all: &[Entry], roots: BTreeSet<Digest>) -> BTreeSet<Digest> {
    let mut next: BTreeMap<&Digest, Vec<&Digest>> = BTreeMap::new();
    for entry in all {
        next.entry(&entry.digest).or_default().extend(&entry.children);
        if let Some(subject) = &entry.subject {
            next.entry(subject).or_default().push(&entry.digest);
        }
    }
    let mut left: Vec<&Digest> = roots.iter().collect();
    let mut kept = BTreeSet::new();
    while let Some(digest) = left.pop() {
        if kept.insert(digest.clone()) {
            left.extend(next.get(digest).into_iter().flatten());
        }
    }
    kept
}

fn tagged(repository: &RepositoryLayout) -> Result<BTreeSet<Digest>> {
    Ok(tags(repository)?.into_iter().map(|(_, digest)| digest).collect())
}

fn tags(repository: &RepositoryLayout) -> Result<Vec<(Tag, Digest)>> {
    let mut found = Vec::new();
    for tag in names(&repository.tags())?.unwrap_or_default().iter().filter_map(|name| Tag::parse(name)) {
        found.extend(content::read_record::<TagRecord>(&repository.tag(&tag))?.map(|record| (tag, record.digest)));
    }
    Ok(found)
}

/// The digests below `folder/<algorithm>/`.
fn links(folder: &Path) -> Result<Vec<Digest>> {
    let mut found = content::list(folder, Algorithm::Sha256)?;
    found.extend(content::list(folder, Algorithm::Sha512)?);
    Ok(found)
}
