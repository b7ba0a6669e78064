//! The role of the process that owns one container: it sets the container up, serves it, and takes it down.
//!
//! Started by [`crate::Engine::start`] as this same program under the name [`MONITOR_NAME`], with the two roots and the
//! id as arguments, the starter's connection as standard input and `monitor.err` as standard error. Setting up runs
//! forwards through: lock, log, socket, first process, network, files of /etc, state, exec. Each step is undone in
//! reverse order when a later one fails, and all of them at the end.

use crate::container::spec::NetworkMode;
use crate::container::stop::{STOP_TIMEOUT, signal_number};
use crate::container::{Loaded, oci, start_time};
use crate::engine::{Engine, Options};
use crate::error::{Error, Result};
use crate::state::file::{self, Durability};
use crate::state::lock::{self, Lock};
use crate::state::mount_points;
use crate::state::record::{ContainerRecord, ContainerState, Run, RunNetwork, Status};
use crate::{etc, role};
use rustix::process::Signal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tare_net::{Attach, Attached};
use tare_runtime::monitor::log::LogFile;
use tare_runtime::monitor::protocol::{self, Connection, Exec, Failure};
use tare_runtime::monitor::{ContainerStreams, Executed, Supervisor, Termination, note};
use tare_runtime::{CreateRequest, Created, ExecRequest, Exit, RootFilesystem, Running, Stdio, Step};
use tare_spec::port::PortMapping;
use tare_spec::{ContainerId, ExposedPort};
use tare_store::Mounted;

/// `argv[0]` of monitor processes.
pub const MONITOR_NAME: &str = "tare-monitor";

/// Runs the monitor's role; `main` calls it before anything else when the program's name is [`MONITOR_NAME`].
#[must_use]
pub fn monitor_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard error is a file that `start` shows when no answer came.
            note(crate::error::text(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let starter = Connection::from(role::take(0)?);
    role::begin(c"tare-monitor")?;
    let mut arguments = std::env::args_os().skip(1);
    let mut next = || arguments.next().unwrap_or_default();
    let (root, run_root, id) = (next(), next(), next());
    let id = ContainerId::parse(&id.to_string_lossy()).map_err(|error| Error::invalid(error.to_string()))?;
    // It takes no layers in: which form new ones get is not its concern.
    let engine = Engine::open(Options { root: root.into(), run_root: run_root.into(), layers: None })?;
    Monitor::new(&engine, &id)?.serve(starter)
}

struct Monitor<'a> {
    engine: &'a Engine,
    loaded: Loaded,
    lock: Lock,
}

/// A container that runs, and what keeps it so.
struct Live {
    running: Running,
    cgroup: tare_runtime::cgroup::Cgroup,
    /// Its image's layers, which others may share.
    layers: Mounted,
    /// Sockets that hold the published ports of the host as long as they are open.
    _ports: Vec<OwnedFd>,
}

impl<'a> Monitor<'a> {
    fn new(engine: &'a Engine, id: &ContainerId) -> Result<Self> {
        let paths = engine.paths.container(id);
        // The starter has made sure that there is no other monitor; who only looks holds it for moments.
        let lock = lock::acquire(&paths.monitor_lock())?;
        let lock = lock.ok_or_else(|| Error::NoSuchContainer { name: id.to_string() })?;
        // The starter holds the container's lock; its records are read as they are.
        Ok(Self { engine, loaded: engine.read(id)?, lock })
    }

    fn serve(mut self, starter: Connection) -> Result<()> {
        let paths = &self.loaded.paths;
        // A socket of a monitor that was killed.
        let _ = std::fs::remove_file(paths.monitor_socket());
        let socket_failed = |source| Error::file("listen on", &paths.monitor_socket(), source);
        let listener = protocol::listen(&paths.monitor_socket()).map_err(socket_failed)?;
        let mut supervisor = Supervisor::new(listener, Some(starter), LogFile::new(paths.log()))
            .map_err(Error::system("prepare the monitor's loop"))?;
        // Before the container can exist: a shutdown of the machine must not leave it alone.
        supervisor.on_termination(self.termination()?).map_err(Error::system("watch for signals"))?;
        let live = match self.start(&mut supervisor) {
            Ok(live) => live,
            Err(error) => {
                let error = self.undo_start(error);
                supervisor.failed(&error.to_failure());
                return Ok(());
            }
        };
        supervisor.started(live.running.pid);
        let record = &self.loaded.record;
        let mut executor =
            |exec, descriptors| execute(&live, record, exec, descriptors).map_err(|error| exec_failure(&error));
        let served = supervisor.run(live.running.pidfd.as_fd(), &mut executor);
        if let Err(error) = &served {
            // Without its loop nobody reads the container's output: it ends with the monitor, and is seen to end.
            note(format_args!("serve the container: {error}"));
            live.cgroup.kill_all()?;
        }
        let (code, result) = self.end(live);
        supervisor.finish(code).map_err(Error::system("tell clients of the end"))?;
        result
    }

    /// What to do when the machine is shut down: as `stop` does.
    fn termination(&self) -> Result<Termination> {
        let record = &self.loaded.record;
        let timeout = record.spec.stop_timeout.unwrap_or(STOP_TIMEOUT);
        Ok(Termination {
            asked: tare_sys::signal::descriptor(Signal::TERM).map_err(Error::system("watch for signals"))?,
            signal: signal_number(&record.stop_signal)?,
            patience: u64::try_from(timeout).ok().map(Duration::from_secs),
        })
    }

    /// From records to a running container.
    fn start(&mut self, supervisor: &mut Supervisor) -> Result<Live> {
        let (engine, record, paths) = (self.engine, &self.loaded.record, &self.loaded.paths);
        for (path, content) in [
            (paths.hostname(), format!("{}\n", record.hostname)),
            (paths.hosts(), String::new()),
            (paths.resolv_conf(), etc::resolv_conf(&record.spec.dns, record.spec.network == NetworkMode::Host)?),
        ] {
            etc::write(&path, &content)?;
        }
        make_bind_sources(&self.loaded)?;
        // It is started: the next end is an end again. A work directory of an earlier run of `--rm` would be refused.
        let _ = std::fs::remove_file(paths.restarting());
        file::remove_tree(&paths.work().join("work"))?;
        let layers = engine.store()?.layers().mount(&record.layers)?;
        let mut lower = layers.lower_dirs().to_vec();
        lower.push(mount_points::layer(engine)?);
        let spec = oci::configuration(record, paths);
        let (stdio, streams) = standard_streams(&self.loaded)?;
        let request = CreateRequest {
            id: &record.id,
            spec: &spec,
            root: RootFilesystem::Overlay {
                lower,
                upper: paths.upper(),
                work: paths.work(),
                volatile: record.spec.auto_remove,
            },
            stdio,
            // Also nobody's name is looked up: it is root's, who may be in groups.
            user: Some(&record.user),
        };
        let created = tare_runtime::create(request)?;
        let attached = match self.attach_network(&created) {
            // Its namespace is gone because it has ended: why it did is what matters.
            Err(Error::Runtime(tare_runtime::Error::Step { step: Step::JoinNamespace, .. })) => {
                return Err(created.start().err().map_or(Error::invalid("the first process has ended"), Error::from));
            }
            attached => attached?,
        };
        etc::write(&paths.hosts(), &hosts(record, attached.as_ref())?)?;
        // The streams of the first process; a terminal comes with the start, as it belongs to the container.
        if !record.spec.terminal {
            supervisor.adopt(streams).map_err(Error::system("take the container's streams"))?;
        }
        let cgroup = created.cgroup().clone();
        let (pid, started) = (created.pid(), jiff::Timestamp::now());
        let ports = attached.as_ref().map(|attached| attached.ports.clone()).unwrap_or_default();
        let run = Run {
            boot_id: engine.boot_id()?.to_owned(),
            pid,
            pid_start: start_time(pid).unwrap_or_default(),
            monitor_pid: rustix::process::getpid().as_raw_pid(),
            network: attached.as_ref().map(|attached| RunNetwork {
                address: attached.address,
                prefix_len: attached.prefix_len,
                gateway: attached.gateway,
                mac: attached.mac.clone(),
            }),
            ports,
            monitored: false,
        };
        let state = ContainerState {
            status: Status::Running,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started: Some(started),
            finished: None,
            run: Some(run),
            ..self.loaded.state.clone()
        };
        file::write_json(&paths.state(), &state, Durability::Volatile)?;
        let mut running = created.start()?;
        if record.spec.terminal {
            let streams = ContainerStreams { terminal: running.console.take(), ..ContainerStreams::default() };
            supervisor.adopt(streams).map_err(Error::system("take the container's terminal"))?;
        }
        self.loaded.state = state;
        let reservations = attached.map(|attached| attached.reservations).unwrap_or_default();
        Ok(Live { running, cgroup, layers, _ports: reservations })
    }

    fn attach_network(&self, created: &Created) -> Result<Option<Attached>> {
        let record = &self.loaded.record;
        match record.spec.network {
            NetworkMode::Host => Ok(None),
            NetworkMode::None => {
                self.engine.networks()?.loopback_up(created.network_namespace()?.as_fd())?;
                Ok(None)
            }
            NetworkMode::Bridge => {
                let netns = created.network_namespace()?;
                let ports = ports(&self.loaded);
                let attach = Attach { container: &record.id, netns: netns.as_fd(), ports: &ports };
                let networks = self.engine.networks()?;
                let attached = match networks.attach(&attach) {
                    // A container whose monitor was killed keeps its ports until somebody looks at it.
                    Err(tare_net::Error::PortAllocated { holder: Some(holder), .. }) if self.has_ended(&holder) => {
                        networks.attach(&attach)
                    }
                    attached => attached,
                };
                Ok(Some(attached.map_err(|error| self.explain(error))?))
            }
        }
    }

    /// Whether a container does not run; it is cleaned up then.
    fn has_ended(&self, id: &ContainerId) -> bool {
        match self.engine.load(id) {
            Ok(loaded) => loaded.state.status != Status::Running,
            Err(error) => error.kind() == tare_spec::ErrorKind::NotFound,
        }
    }

    /// Finds out the name of the container that holds a port.
    fn explain(&self, error: tare_net::Error) -> Error {
        let (port, holder) = match &error {
            tare_net::Error::PortAllocated { port, holder, .. } => (*port, holder.clone()),
            tare_net::Error::PortInUse { port, .. } => (*port, None),
            _ => return error.into(),
        };
        let free = (port..=port.saturating_add(100)).skip(1).find(|port| is_free(*port));
        let name = holder.and_then(|id| self.engine.read(&id).ok()).map(|loaded| loaded.record.name);
        Error::PortTaken { port, holder: name, free, error: Box::new(error) }
    }

    /// Takes back what a failed start did, and records why it failed.
    fn undo_start(&mut self, error: Error) -> Error {
        let mut cleaning = Vec::new();
        cleaning.extend(self.engine.tear_down(&self.loaded.record.id).err());
        if self.loaded.record.spec.auto_remove {
            cleaning.extend(self.engine.remove_files(&self.loaded.record, &self.loaded.paths).err());
            return error.after(cleaning);
        }
        let state = ContainerState {
            exit_code: error.start_exit_code().unwrap_or(128),
            error: crate::error::text(&error),
            run: None,
            ..self.loaded.state.clone()
        };
        cleaning.extend(file::write_json(&self.loaded.paths.state(), &state, self.loaded.record.durability()).err());
        // It may not have been made yet.
        let _ = std::fs::remove_file(self.loaded.paths.monitor_socket());
        error.after(cleaning)
    }

    /// Reaps the container and takes it down; returns its exit code and how that went.
    fn end(self, live: Live) -> (i32, Result<()>) {
        let code = match live.running.wait() {
            Ok(exit @ (Exit::Code(_) | Exit::Signal(_))) => i32::from(exit.code()),
            Err(error) => {
                note(crate::error::text(&error));
                255
            }
        };
        let oom_killed = live.cgroup.oom_kills().is_some_and(|kills| kills > 0);
        let Live { cgroup, layers, _ports, .. } = live;
        drop(_ports);
        let (record, paths) = (&self.loaded.record, &self.loaded.paths);
        let mut errors = Vec::new();
        errors.extend(self.engine.tear_down_from(&record.id, Ok(cgroup)).err());
        errors.extend(layers.release().map_err(Error::from).err());
        // From here on nobody new connects; who is connected is told at the end.
        errors.extend(
            std::fs::remove_file(paths.monitor_socket())
                .map_err(|source| Error::file("remove", &paths.monitor_socket(), source))
                .err(),
        );
        if record.spec.auto_remove && !paths.restarting().exists() {
            errors.extend(self.engine.remove_files(record, paths).err());
        } else {
            let state = ContainerState {
                status: Status::Stopped,
                exit_code: code,
                oom_killed,
                finished: Some(jiff::Timestamp::now()),
                run: None,
                ..self.loaded.state.clone()
            };
            if let Err(error) = file::write_json(&paths.state(), &state, record.durability()) {
                // No room: what is known of the end is kept beside the lock until there is some.
                errors.extend(file::write_json(&paths.last_state(), &state, Durability::Volatile).err());
                errors.push(error);
            }
        }
        drop(self.lock);
        (code, Error::of_clean_up(errors))
    }
}

/// Whether nobody listens on a port of the host.
fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// The process's standard streams, and the monitor's sides of them.
fn standard_streams(loaded: &Loaded) -> Result<(Stdio, ContainerStreams)> {
    let spec = &loaded.record.spec;
    if spec.terminal {
        let (rows, columns) = spec.console_size.unwrap_or_default();
        return Ok((Stdio::Terminal { rows, columns }, ContainerStreams::default()));
    }
    let pipe = || std::io::pipe().map_err(Error::system("make a pipe"));
    let (stdout_reader, stdout) = pipe()?;
    let (stderr_reader, stderr) = pipe()?;
    let (stdin, stdin_writer) = if spec.open_stdin {
        let (reader, writer) = pipe()?;
        (Some(OwnedFd::from(reader)), Some(OwnedFd::from(writer)))
    } else {
        (None, None)
    };
    let stdio = Stdio::Pipes { stdin, stdout: stdout.into(), stderr: stderr.into() };
    let ours = ContainerStreams {
        stdin: stdin_writer,
        stdout: Some(stdout_reader.into()),
        stderr: Some(stderr_reader.into()),
        terminal: None,
        // As Docker's StdinOnce: who started it attached owns its input; with -d -i it stays open for who comes later.
        stdin_once: spec.attach.stdin,
    };
    Ok((stdio, ours))
}

/// Runs a further process for a client.
fn execute(live: &Live, record: &ContainerRecord, exec: Exec, descriptors: Vec<OwnedFd>) -> Result<Executed> {
    let mut descriptors = descriptors.into_iter();
    let null = || {
        let file = std::fs::File::options().read(true).write(true).open("/dev/null");
        file.map(OwnedFd::from).map_err(Error::system("open /dev/null"))
    };
    let stdio = if exec.process.terminal {
        let (rows, columns) = exec.size.unwrap_or_default();
        Stdio::Terminal { rows, columns }
    } else {
        let mut take = |wanted: bool| if wanted { descriptors.next() } else { None };
        let (stdin, stdout, stderr) = (take(exec.streams.stdin), take(exec.streams.stdout), take(exec.streams.stderr));
        Stdio::Pipes { stdin, stdout: stdout.map_or_else(null, Ok)?, stderr: stderr.map_or_else(null, Ok)? }
    };
    let seccomp = oci::seccomp(record);
    let request = ExecRequest {
        init: live.running.pidfd.as_fd(),
        cgroup: &live.cgroup,
        process: &exec.process,
        seccomp: seccomp.as_ref(),
        user: exec.user.as_deref(),
        stdio,
    };
    let running = tare_runtime::exec(request)?;
    Ok(Executed { pid: running.pid, pidfd: running.pidfd, terminal: running.console })
}

/// Why a further process could not be started, with a hint that fits it.
fn exec_failure(error: &Error) -> Failure {
    let mut failure = error.to_failure();
    // The container runs, so that what is wrong is the process that was asked for. One that has just ended is another matter.
    if !matches!(error, Error::Runtime(tare_runtime::Error::Step { step: Step::JoinNamespace, .. })) {
        failure.exit_code = failure.exit_code.or(Some(126));
    }
    if matches!(error, Error::Runtime(tare_runtime::Error::CommandNotFound { .. })) {
        failure.hint =
            Some("the container has no such program; images without a shell have only what they were made for".into());
    }
    failure
}

/// The published ports: those asked for, and with `-P` every exposed one that is not among them.
fn ports(loaded: &Loaded) -> Vec<PortMapping> {
    let spec = &loaded.record.spec;
    let mut ports = spec.ports.clone();
    if spec.publish_all {
        for exposed in loaded.record.exposed.iter().filter_map(|text| ExposedPort::parse(text).ok()).flatten() {
            let published =
                |port: &PortMapping| port.container_port == exposed.port && port.protocol == exposed.protocol;
            if !ports.iter().any(published) {
                ports.push(PortMapping {
                    host_ip: None,
                    host_port: None,
                    host_port_end: None,
                    container_port: exposed.port,
                    protocol: exposed.protocol,
                });
            }
        }
    }
    ports
}

/// /etc/hosts of a container.
fn hosts(record: &ContainerRecord, attached: Option<&Attached>) -> Result<String> {
    let on_host = record.spec.network == NetworkMode::Host;
    let mut text = etc::hosts(on_host)?;
    let gateway = attached.map(|attached| attached.gateway.to_string());
    let extra = record.spec.extra_hosts.iter().filter_map(|line| line.split_once([':', '=']));
    for (name, address) in extra {
        // The address `host-gateway` is the host as the container sees it.
        let address = match (address, &gateway) {
            ("host-gateway", Some(gateway)) => gateway.as_str(),
            ("host-gateway", None) => "127.0.0.1",
            (address, _) => address,
        };
        etc::add_host(&mut text, address, name);
    }
    if let Some(attached) = attached {
        etc::add_host(&mut text, attached.address, &record.hostname);
    }
    Ok(text)
}

/// Makes the folders that `-v` names and the host does not have, as Docker does.
fn make_bind_sources(loaded: &Loaded) -> Result<()> {
    for bind in loaded.record.spec.binds.iter().filter(|bind| bind.create_source) {
        let path = Path::new(&bind.source);
        if !path.exists() {
            std::fs::create_dir_all(path).map_err(|source| Error::file("create", path, source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_all_causes() {
        let error = Error::file("open", Path::new("/x"), std::io::Error::from_raw_os_error(13));
        let failure = error.to_failure();
        assert_eq!(failure.message, "open /x: Permission denied (os error 13)");
    }
}
