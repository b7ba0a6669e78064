//! RUN.

use super::mounts::Mounts;
use super::view::View;
use super::{Job, Work};
use crate::cache::Parts;
use crate::error::{Error, OfStatement, OfWhat, Result};
use crate::executor::{Finished, Process};
use crate::plan::RunAction;
use crate::progress::Event;
use std::collections::BTreeMap;
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest};
use tare_store::Tree;
use tare_sys::directory::Directory;

/// The variable by which many programs give what they write a time that is always the same
/// (reproducible-builds.org, "SOURCE_DATE_EPOCH").
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// A RUN under way.
pub(super) struct Running<'a> {
    job: &'a Job<'a>,
    run: &'a RunAction,
    mounts: Mounts<'a>,
}

impl<'a> Running<'a> {
    pub(super) fn new(job: &'a Job<'a>, run: &'a RunAction) -> Self {
        Self { job, run, mounts: Mounts::new(job, &run.mounts) }
    }

    fn env(&self) -> Vec<String> {
        let is_set = self.run.env.iter().any(|line| line.split_once('=').is_some_and(|(name, _)| name == EPOCH));
        let epoch = self.job.step.time.filter(|_| !is_set).map(|time| format!("{EPOCH}={}", time.as_second()));
        self.run.env.iter().cloned().chain(epoch).chain(self.run.proxies.iter().cloned()).collect()
    }

    fn finish(&self, view: &View) -> Result<Finished> {
        let Job { solver, id, step, .. } = self.job;
        let request = solver.request;
        let mut ready = self.mounts.ready()?;
        let env: Vec<String> = self.env().into_iter().chain(std::mem::take(&mut ready.env)).collect();
        let process = Process {
            lower: view.lower_dirs(),
            args: &self.run.args,
            env: &env,
            cwd: &self.run.cwd,
            user: &self.run.user,
            network: self.run.network,
            insecure: self.run.insecure,
            mounts: &ready.mounts,
            hosts: &request.hosts,
            ulimits: &request.ulimits,
            shm_size: request.shm_size,
        };
        let mut output = |stderr: bool, bytes: &[u8]| solver.progress.event(Event::Output { step: *id, stderr, bytes });
        let finished = solver.executor.run(&process, &mut output).map_err(|error| {
            let what = OfWhat::Program(self.run.args.first().cloned().unwrap_or_default());
            Error::OfStatement(Box::new(OfStatement { lines: self.job.lines(), what, error }))
        })?;
        match finished.exit_code {
            0 => Ok(finished),
            exit_code => Err(Error::Failed {
                step: step.title.name.clone(),
                lines: self.job.lines(),
                command: self.run.args.join(" "),
                exit_code,
                out_of_memory: finished.out_of_memory,
            }),
        }
    }
}

impl Work for Running<'_> {
    fn decide(&mut self, parts: &mut Parts) -> Result<BTreeMap<String, Digest>> {
        let RunAction { args, env, proxies: _, cwd, user, network, insecure, mounts: _, config } = self.run;
        parts.add("instruction", &("RUN", args));
        for line in env {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            // Those of the image are in the configuration, too: what changed there is told by their names.
            parts.add(format!("variable {name}"), &value);
        }
        parts.add("configuration", config);
        parts.add("user", user);
        parts.add("working directory", cwd);
        parts.add("network", network);
        parts.add("security", insecure);
        let request = self.job.solver.request;
        parts.add("limits and hosts", &(&request.hosts, &request.ulimits, request.shm_size));
        parts.add_plain("platform", self.job.step.platform.to_string());
        parts.add_base(&self.job.below().diff_ids());
        self.mounts.decide(parts)
    }

    fn carry_out(&mut self) -> Result<(Descriptor, DiffId)> {
        let view = View::new(self.job.solver.store, &self.job.below().diff_ids())?;
        let finished = self.finish(&view)?;
        let failed = |source| Error::View { source };
        let upper = Directory::open(&finished.upper).map_err(failed)?;
        let latest = self.job.step.time.map(|_| self.job.time());
        self.job.layer(|writer| {
            Tree { upper: &upper, lower: view.root(), skip: &|_| false, latest }.write(writer)?;
            Ok(())
        })
        // `finished` goes here, and its files with it.
    }
}
