//! The role of the process that carries out one step of a build.
//!
//! The runtime wants a process with one thread, and a builder has many: so each step has a runner, which is this same
//! program under the name [`BUILD_RUN_NAME`]. Its standard input is the builder's connection, its standard output the step's
//! folder, whose lock it keeps that way, and its standard error takes its last words.
//!
//! It sets the step up, waits for its end, takes it down and answers. Checkouts of git are carried out likewise (git.rs). A builder that closes its connection, or its side for
//! writing, wants the step ended. When the builder is gone, the runner removes the step's folder as well.

use super::configuration::{HOSTNAME, configuration};
use super::git;
use super::request::{Answer, Request, RunNetwork, RunRequest, Start, Task};
use super::sources::{self, Sources};
use super::targets::Targets;
use super::work::WorkFolder;
use crate::engine::{Engine, Options};
use crate::error::{Error, Result};
use crate::isolation::EtcFiles;
use crate::state::mount_points;
use crate::{etc, role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::PidfdFlags;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tare_net::Attach;
use tare_runtime::cgroup::Cgroup;
use tare_runtime::monitor::note;
use tare_runtime::monitor::protocol::{Connection, Failure};
use tare_runtime::{CreateRequest, Created, RootFilesystem, Running, Stdio, Step};
use tare_sys::directory::Directory;
use tare_sys::mount;

/// `argv[0]` of runners.
pub const BUILD_RUN_NAME: &str = "tare-build-run";

/// Runs the runner's role; `main` calls it before anything else when the program's name is [`BUILD_RUN_NAME`].
#[must_use]
pub fn build_run_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard error is a pipe that the builder reads when no answer came.
            note(crate::error::text(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let builder = Connection::from(role::take(0)?);
    let parent = rustix::process::getppid();
    let parent = parent.and_then(|parent| rustix::process::pidfd_open(parent, PidfdFlags::empty()).ok());
    let folder = role::take(1)?;
    role::begin(c"tare-build-run")?;
    let failed = |source| Error::System { action: "talk to the builder", source };
    // A builder that is gone before it has asked for anything.
    let Some((start, descriptors)) = builder.receive::<Start>().map_err(failed)? else { return Ok(()) };
    let Ok([memory, stdout, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else {
        return Err(Error::invalid("a build step's request has three descriptors"));
    };
    let mut memory = File::from(memory);
    let Request { root, run_root, id, task } = Request::of_memory(&start, &mut memory)?;
    // It takes no layers in: which form new ones get is not its concern.
    let engine = Engine::open(Options { root, run_root, layers: None })?;
    let folder = Directory::of(&folder).map_err(Error::system("open the step's folder"))?;
    let mut work = WorkFolder::shared(&engine, &id, folder);
    let done = match &task {
        Task::Run(request) => {
            let runner = Runner { engine: &engine, request, work: &work, builder: &builder };
            runner.run(&mut memory, stdout, stderr)
        }
        Task::CheckOut(request) => git::check_out(request, &work, &builder),
    };
    let answer = done.unwrap_or_else(|error| match error {
        Error::BuildCancelled => Answer::Cancelled,
        error => Answer::Failed(failure(&error)),
    });
    if builder.send(&answer, &[]).is_err() {
        work.own();
        // It was killed with the layers of its steps mounted. They are its own until it has ended, which takes it a moment.
        if let Some(parent) = &parent {
            let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
            // Whatever comes of waiting, what is free then goes; the rest goes with the next command.
            let _ = poll(&mut [PollFd::new(parent, PollFlags::IN)], Some(&patience));
        }
        engine.store()?.layers().unmount_unused()?;
    }
    Ok(())
}

/// Why a step could not be run, with a hint that fits it.
fn failure(error: &Error) -> Failure {
    let mut failure = error.to_failure();
    if let Error::Runtime(tare_runtime::Error::CommandNotFound { command }) = error {
        failure.hint = Some(format!(
            "the stage has no program {command:?} at this step; `RUN command` needs the stage's own /bin/sh, `RUN [\"program\", \"argument\"]` does not"
        ));
    }
    failure
}

struct Runner<'a> {
    engine: &'a Engine,
    request: &'a RunRequest,
    work: &'a WorkFolder,
    builder: &'a Connection,
}

impl Runner<'_> {
    fn run(&self, secrets: &mut File, stdout: OwnedFd, stderr: OwnedFd) -> Result<Answer> {
        let etc = self.write_etc()?;
        let mut lower = self.request.lower.clone();
        lower.push(mount_points::layer(self.engine)?);
        let targets = self.targets(&lower)?;
        let mut sources = sources::prepare(self.work, &self.request.mounts, secrets)?;
        let spec = configuration(self.request, &etc, &sources.paths)?;
        let upper = self.work.path().join("upper");
        let root = RootFilesystem::Overlay {
            lower,
            upper: upper.clone(),
            work: self.work.path().join("work"),
            // It is read once and removed; after a power cut it is swept.
            volatile: true,
        };
        let user = Some(self.request.user.as_str()).filter(|user| !user.is_empty()).unwrap_or("0");
        let created = tare_runtime::create(CreateRequest {
            id: &self.work.id,
            spec: &spec,
            root,
            stdio: Stdio::Pipes { stdin: None, stdout, stderr },
            user: Some(user),
        })?;
        let cgroup = created.cgroup().clone();
        let ran = self.start(created).and_then(|running| {
            let cancelled = self.wait(&running, &cgroup, &mut sources)?;
            let code = running.wait()?.code();
            let out_of_memory = cgroup.oom_kills().is_some_and(|kills| kills > 0);
            if cancelled { Err(Error::BuildCancelled) } else { Ok(Answer::Ended { code, out_of_memory }) }
        });
        let mut cleaning: Vec<Error> = self.tear_down(&cgroup).err().into_iter().collect();
        let removed = Directory::open(&upper).and_then(|upper| targets.remove(&upper));
        cleaning.extend(removed.map_err(|source| Error::file("clean up", &upper, source)).err());
        match ran {
            Ok(answer) => Error::of_clean_up(cleaning).map(|()| answer),
            Err(error) => Err(error.after(cleaning)),
        }
    }

    /// The files of /etc: the same for every step, whatever its address is, as far as the request says no more.
    fn write_etc(&self) -> Result<EtcFiles> {
        let on_host = self.request.network == RunNetwork::Host;
        let file = |name: &str| self.work.path().join(name);
        let files = EtcFiles { resolv_conf: file("resolv.conf"), hostname: file("hostname"), hosts: file("hosts") };
        let mut hosts = etc::hosts(on_host)?;
        for (name, address) in &self.request.hosts {
            etc::add_host(&mut hosts, address, name);
        }
        etc::add_host(&mut hosts, "127.0.0.1", HOSTNAME);
        etc::write(&files.hosts, &hosts)?;
        etc::write(&files.hostname, &format!("{HOSTNAME}\n"))?;
        etc::write(&files.resolv_conf, &etc::resolv_conf(&[], on_host)?)?;
        Ok(files)
    }

    fn targets(&self, lower: &[PathBuf]) -> Result<Targets> {
        if self.request.mounts.is_empty() {
            return Ok(Targets::default());
        }
        let view = mount::overlay(lower).map_err(Error::system("look at the step's files"))?;
        let root = Directory::of(&view).map_err(Error::system("look at the step's files"))?;
        Targets::missing(&root, self.request.mounts.iter().map(|mount| Path::new(&mount.target)))
    }

    fn start(&self, created: Created) -> Result<Running> {
        match self.attach_network(&created) {
            // Its namespace is gone because it has ended: why it did is what matters.
            Err(Error::Runtime(tare_runtime::Error::Step { step: Step::JoinNamespace, .. })) => {
                Err(created.start().err().map_or(Error::invalid("the first process has ended"), Error::from))
            }
            attached => {
                attached?;
                Ok(created.start()?)
            }
        }
    }

    fn attach_network(&self, created: &Created) -> Result<()> {
        match self.request.network {
            RunNetwork::Host => {}
            RunNetwork::None => self.engine.networks()?.loopback_up(created.network_namespace()?.as_fd())?,
            RunNetwork::Bridge => {
                let netns = created.network_namespace()?;
                let attach = Attach { container: &self.work.id, netns: netns.as_fd(), ports: &[] };
                self.engine.networks()?.attach(&attach)?;
            }
        }
        Ok(())
    }

    /// Returns when the process has ended; says whether that was the builder's wish.
    fn wait(&self, running: &Running, cgroup: &Cgroup, sources: &mut Sources) -> Result<bool> {
        let mut cancelled = false;
        loop {
            let mut interests = vec![PollFd::new(&running.pidfd, PollFlags::IN)];
            if !cancelled {
                interests.push(PollFd::new(self.builder, PollFlags::IN));
            }
            interests.extend(sources.agents.iter().flat_map(|agent| agent.interests()));
            match poll(&mut interests, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    cgroup.kill_all()?;
                    return Err(Error::System { action: "wait for the step's end", source: errno.into() });
                }
            }
            if !interests[0].revents().is_empty() {
                return Ok(cancelled);
            }
            // A builder says nothing more: whatever comes is the end of it, or of its interest.
            if !cancelled && !interests[1].revents().is_empty() {
                cancelled = true;
                cgroup.kill_all()?;
            }
            sources.agents.iter_mut().for_each(|agent| agent.serve());
        }
    }

    fn tear_down(&self, cgroup: &Cgroup) -> Result<()> {
        match self.request.network {
            RunNetwork::Bridge => self.engine.tear_down_from(&self.work.id, Ok(cgroup.clone())),
            RunNetwork::None | RunNetwork::Host => Ok(cgroup.remove()?),
        }
    }
}
