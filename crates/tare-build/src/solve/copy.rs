//! COPY and ADD.

use super::view::View;
use super::{Job, Work};
use crate::cache::Parts;
use crate::context;
use crate::error::{Error, Result};
use crate::executor::Checkout;
use crate::files::{
    Below, Copier, Destination, FilesError, Fingerprint, Inline, InlineContents, Selection, Source, SourceKind, Wish,
    resolve_owner, select,
};
use crate::plan::{CopyAction, Origin, RemoteFile, RemoteSource};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest};
use tare_sys::directory::Directory;

/// Permissions of files that no tree gives any.
const INLINE_MODE: u32 = 0o644;
/// The same of what was fetched, as Docker has it.
const FETCHED_MODE: u32 = 0o600;

/// A COPY or ADD under way.
pub(super) struct Copying<'a> {
    job: &'a Job<'a>,
    copy: &'a CopyAction,
    /// The tree of a stage or image that files come from.
    view: Option<View>,
    /// In the order of the statement: of two files with one name the later one stays.
    pieces: Vec<Piece>,
}

enum Piece {
    /// What was chosen from the tree.
    Chosen(Selection, Fingerprint),
    File(Inline),
    Tree {
        root: Directory,
        selection: Selection,
        fingerprint: Fingerprint,
        _checkout: Checkout,
    },
}

impl<'a> Copying<'a> {
    pub(super) fn new(job: &'a Job<'a>, copy: &'a CopyAction) -> Result<Self> {
        let view = match &copy.from {
            Origin::Step(step) => Some(job.view_of(*step)?),
            Origin::Context | Origin::Nothing | Origin::Named(_) => None,
        };
        Ok(Self { job, copy, view, pieces: Vec::new() })
    }

    /// The tree that files come from, if there is any.
    fn source(&self) -> Option<Source<'_>> {
        let context = self.job.solver.context;
        match &self.copy.from {
            Origin::Context => context.source(None),
            Origin::Named(name) => context.source(Some(name)),
            Origin::Nothing => None,
            Origin::Step(_) => {
                let root = self.view.as_ref().and_then(View::root)?;
                Some(Source { root, ignore: None, kind: SourceKind::Image })
            }
        }
    }

    /// Chooses some sources that follow each other, if there are any.
    fn choose(&mut self, sources: &[String]) -> Result<()> {
        if sources.is_empty() {
            return Ok(());
        }
        let wish = &Wish { sources: sources.to_vec(), ..self.copy.wish.clone() };
        let problem = |error| self.job.unchosen(&self.copy.from, error);
        let Some(source) = self.source() else {
            return Err(problem(FilesError::NotFound { path: wish.sources[0].clone(), hidden: None }));
        };
        let selection = select(&source, wish).map_err(problem)?;
        let fingerprint = selection.fingerprint(&source).map_err(problem)?;
        self.pieces.push(Piece::Chosen(selection, fingerprint));
        Ok(())
    }

    fn fetch(&self, remote: &RemoteFile) -> Result<(Piece, Digest)> {
        let executor = self.job.solver.executor;
        match &remote.source {
            RemoteSource::Url(url) => {
                let fetched = executor.fetch(url)?;
                let digest = digest(&fetched.file).map_err(context::failed(url))?;
                if let Some(expected) = remote.checksum.as_ref().filter(|expected| **expected != digest) {
                    let (expected, actual) = (expected.clone(), digest);
                    return Err(Error::Checksum { url: url.clone(), expected, actual });
                }
                let inline = Inline {
                    name: fetched.name,
                    contents: InlineContents::File(fetched.file),
                    mode: FETCHED_MODE,
                    unpack: remote.unpack,
                };
                Ok((Piece::File(inline), digest))
            }
            RemoteSource::Git(git) => {
                let checkout = executor.checkout(git)?;
                let problem = |error| Error::Files { lines: self.job.lines(), error: Box::new(error) };
                let root = Directory::open(&checkout.folder).map_err(context::failed(&git.shown()))?;
                let source = Source { root: &root, ignore: None, kind: SourceKind::Context };
                let selection = select(&source, &Wish { sources: vec![".".to_owned()], ..Wish::default() });
                let selection = selection.map_err(problem)?;
                let fingerprint = selection.fingerprint(&source).map_err(problem)?;
                let digest = fingerprint.digest.clone();
                Ok((Piece::Tree { root, selection, fingerprint, _checkout: checkout }, digest))
            }
        }
    }
}

impl Work for Copying<'_> {
    fn decide(&mut self, parts: &mut Parts) -> Result<BTreeMap<String, Digest>> {
        let CopyAction { from: _, wish, documents, remotes, destination, owner } = self.copy;
        let mut begun = 0;
        for (index, remote) in remotes.iter().enumerate() {
            self.choose(&wish.sources[begun..remote.after])?;
            begun = remote.after;
            let (piece, digest) = self.fetch(remote)?;
            let file = match &piece {
                Piece::File(inline) => inline.name.as_str(),
                Piece::Chosen(..) | Piece::Tree { .. } => "",
            };
            // Numbered: several can have one address, and the last one wins.
            parts.add(format!("source {}", index + 1), &(&digest, remote.unpack, file, self.pieces.len()));
            self.pieces.push(piece);
        }
        self.choose(&wish.sources[begun..])?;
        parts.add("instruction", &("COPY", destination, owner, documents, wish.unpack, wish.parents));
        let chosen = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Chosen(_, fingerprint) => Some(fingerprint),
            Piece::File(_) | Piece::Tree { .. } => None,
        });
        let digests: Vec<String> = chosen.clone().map(|fingerprint| fingerprint.digest.to_string()).collect();
        if !digests.is_empty() {
            parts.add_plain("files", digests.join(" "));
        }
        // With --link the layer fits onto any files, but for the names of users, which are theirs.
        if !destination.link || owner.is_some() {
            parts.add_base(&self.job.below().diff_ids());
        }
        Ok(chosen.flat_map(|fingerprint| fingerprint.files.clone()).collect())
    }

    fn carry_out(&mut self) -> Result<(Descriptor, DiffId)> {
        let job = self.job;
        let view = View::new(job.solver.store, &job.below().diff_ids())?;
        let lines = job.lines();
        let problem = |error| Error::Files { lines, error: Box::new(error) };
        let owner = self.copy.owner.as_deref().map(|text| resolve_owner(text, view.root())).transpose();
        let owner = owner.map_err(|error| Error::Owner { lines, error })?;
        let destination = Destination { owner, ..self.copy.destination.clone() };
        let below = Below { root: view.root(), time: job.time() };
        let documents: Vec<Inline> = self
            .copy
            .documents
            .iter()
            .map(|(name, contents)| Inline {
                name: name.clone(),
                contents: InlineContents::Bytes(contents.clone().into_bytes()),
                mode: INLINE_MODE,
                unpack: false,
            })
            .collect();
        job.layer(|writer| {
            let mut copier = Copier::new(below, destination, writer.by_ref()).map_err(problem)?;
            for piece in &self.pieces {
                match piece {
                    Piece::Chosen(selection, fingerprint) => {
                        if let Some(source) = self.source() {
                            copier.tree(&source, selection, fingerprint).map_err(problem)?;
                        }
                    }
                    Piece::File(inline) => copier.inline(inline).map_err(problem)?,
                    Piece::Tree { root, selection, fingerprint, .. } => {
                        let source = Source { root, ignore: None, kind: SourceKind::Context };
                        copier.tree(&source, selection, fingerprint).map_err(problem)?;
                    }
                }
            }
            for document in &documents {
                copier.inline(document).map_err(problem)?;
            }
            copier.finish().map(drop).map_err(problem)
        })
    }
}

/// The SHA-256 of a whole file.
fn digest(file: &File) -> std::io::Result<Digest> {
    let mut hasher = tare_store::content::Hasher::new(tare_spec::digest::Algorithm::Sha256);
    let (mut buffer, mut offset) = (vec![0; 256 << 10], 0);
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => return Ok(hasher.finish()),
            count => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
        }
    }
}
