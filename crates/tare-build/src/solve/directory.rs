//! WORKDIR.

use super::view::View;
use super::{Job, Work};
use crate::cache::Parts;
use crate::error::{Error, Result};
use crate::files::{Below, Copier, Destination, resolve_owner};
use std::collections::BTreeMap;
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest};

pub(super) struct Making<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) path: &'a str,
    pub(super) owner: &'a str,
}

impl Work for Making<'_> {
    fn decide(&mut self, parts: &mut Parts) -> Result<BTreeMap<String, Digest>> {
        parts.add("instruction", &("WORKDIR", self.path, self.owner));
        parts.add_base(&self.job.below().diff_ids());
        Ok(BTreeMap::new())
    }

    fn carry_out(&mut self) -> Result<(Descriptor, DiffId)> {
        let view = View::new(self.job.solver.store, &self.job.below().diff_ids())?;
        let below = Below { root: view.root(), time: self.job.time() };
        let destination = Destination { path: self.path.to_owned(), into: true, owner: None, mode: None, link: false };
        let owner = match self.owner {
            "" => (0, 0),
            user => {
                let lines = self.job.lines();
                resolve_owner(user, view.root()).map_err(|error| Error::Owner { lines, error })?
            }
        };
        let problem = |error| Error::Files { lines: self.job.lines(), error: Box::new(error) };
        self.job.layer(|writer| {
            let mut copier = Copier::new(below, destination, writer.by_ref()).map_err(problem)?;
            copier.directory(self.path, owner).map_err(problem)?;
            copier.finish().map(drop).map_err(problem)
        })
    }
}
