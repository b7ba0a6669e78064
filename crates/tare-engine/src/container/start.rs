//! Starting and attaching: the client's side of a monitor.

use crate::MONITOR_NAME;
use crate::container::Loaded;
use crate::container::life::AttachRequest;
use crate::container::spec::Streams;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::{Pipes, Session};
use crate::state::file;
use crate::state::lock::{self, Lock};
use crate::state::record::Status;
use rustix::io::retry_on_intr;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use tare_runtime::monitor::note;
use tare_runtime::monitor::protocol::{Connection, Reply, Request};
use tare_spec::ContainerId;
use tare_sys::clone::{Child, CloneOptions, spawn};
use tare_sys::exec;

impl Engine {
    /// Starts a container. With `attach` the session has its streams from the first byte. `None` when nothing was to be
    /// attached; starting what runs is a success.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Monitor`] with the reason why it could not be started: then nothing of the
    /// attempt is left.
    pub fn start(&self, name: &str, attach: Option<AttachRequest>) -> Result<Option<Session>> {
        let id = self.resolve(name)?;
        let transition = self.lock_container(&id, name)?;
        self.start_locked(&id, &transition, attach)
    }

    pub(crate) fn start_locked(
        &self,
        id: &ContainerId,
        transition: &Lock,
        attach: Option<AttachRequest>,
    ) -> Result<Option<Session>> {
        let id = id.clone();
        let paths = self.paths.container(&id);
        let loaded = self.load_locked(&id, transition)?;
        if loaded.state.status == Status::Running {
            return attach.map(|request| self.attach_to(&loaded, request)).transpose();
        }
        // A monitor that is still cleaning up after the last run is waited for.
        drop(lock::acquire(&paths.monitor_lock())?);
        if !paths.record().exists() {
            return Err(Error::NoSuchContainer { name: id.to_string() });
        }
        let (ours, theirs) = Connection::pair().map_err(Error::system("make a socket pair"))?;
        let mut pipes = Pipes::default();
        if let Some(request) = attach {
            pipes = Pipes::new(streams(request.streams, &loaded))?;
            self.request_attach(&loaded, &ours, request, &mut pipes)?;
        }
        let monitor = self.spawn_monitor(&loaded, theirs)?;
        match ours.receive::<Reply>() {
            Ok(Some((Reply::Started { .. }, _))) => {}
            Ok(Some((Reply::Failed(failure), _))) => {
                // It has nothing left to do: its end is waited for, so that its locks and folders are free.
                let _ = wait(&monitor);
                return Err(Error::Monitor(failure));
            }
            Ok(Some((Reply::Exited { .. }, _)) | None) => {
                let status = wait(&monitor)?;
                let words = file::read_text(&paths.monitor_errors())?.unwrap_or_default();
                let mut cleaning = Vec::new();
                cleaning.extend(self.tear_down(&id).err());
                if loaded.record.spec.auto_remove {
                    cleaning.extend(self.remove_files(&loaded.record, &paths).err());
                }
                let detail = if words.trim().is_empty() { status } else { words.trim().to_owned() };
                return Err(Error::MonitorLost { id, detail }.after(cleaning));
            }
            Err(source) => return Err(Error::Connection { id, source }),
        }
        Ok(attach.map(|_| Session::attached(pipes, ours, id)))
    }

    /// Attaches to a running container.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::NotRunning`], [`Error::Connection`] when its monitor is gone.
    pub fn attach(&self, name: &str, request: AttachRequest) -> Result<Session> {
        let loaded = self.load(&self.resolve(name)?)?;
        if loaded.state.status != Status::Running {
            return Err(Error::invalid("You cannot attach to a stopped container, start it first"));
        }
        self.attach_to(&loaded, request)
    }

    fn attach_to(&self, loaded: &Loaded, request: AttachRequest) -> Result<Session> {
        let connection = self.connect(loaded)?;
        let mut pipes = Pipes::new(streams(request.streams, loaded))?;
        self.request_attach(loaded, &connection, request, &mut pipes)?;
        let id = loaded.record.id.clone();
        match connection.receive::<Reply>() {
            Ok(Some((Reply::Started { .. }, _))) => Ok(Session::attached(pipes, connection, id)),
            Ok(Some((Reply::Failed(failure), _))) => Err(Error::Monitor(failure)),
            Ok(Some((Reply::Exited { .. }, _)) | None) => Err(Error::NotRunning { id }),
            Err(source) => Err(Error::Connection { id, source }),
        }
    }

    pub(crate) fn connect(&self, loaded: &Loaded) -> Result<Connection> {
        let id = loaded.record.id.clone();
        Connection::connect(&loaded.paths.monitor_socket()).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Unmonitored { id },
            _ => Error::Connection { id, source },
        })
    }

    fn request_attach(
        &self,
        loaded: &Loaded,
        connection: &Connection,
        request: AttachRequest,
        pipes: &mut Pipes,
    ) -> Result<()> {
        let broken = |source| Error::Connection { id: loaded.record.id.clone(), source };
        let wanted = streams(request.streams, loaded);
        connection.request(Request::Attach(wanted.into()), &pipes.to_send()).map_err(broken)?;
        pipes.sent();
        if let Some((rows, columns)) = request.size {
            connection.request(Request::Resize { rows, columns }, &[]).map_err(broken)?;
        }
        Ok(())
    }

    /// Starts the program once more in the role of the container's monitor. It runs from a read-only mount of its own
    /// file that no path leads to, so that a container cannot write to the program through `/proc/PID/exe`
    /// (CVE-2019-5736), and in the monitors' own cgroup, so that it does not end with a service or login that started it.
    fn spawn_monitor(&self, loaded: &Loaded, connection: Connection) -> Result<Child> {
        let path = loaded.paths.monitor_errors();
        let errors = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let errors = errors.map_err(|source| Error::file("open", &path, source))?;
        let null = File::open("/dev/null").map_err(Error::system("open /dev/null"))?;
        // What whoever started this program left open is not for the monitor, which outlives it.
        exec::close_on_exec_from(3).map_err(Error::system("mark descriptors close-on-exec"))?;
        let program = exec::read_only_self().map_err(Error::system("open this program's file"))?;
        let invalid = |_| Error::invalid("a path has a null byte");
        let program_path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())).map_err(invalid)?;
        let arguments: [&[u8]; 4] = [
            MONITOR_NAME.as_bytes(),
            self.paths.root.as_os_str().as_bytes(),
            self.paths.run_root.as_os_str().as_bytes(),
            loaded.record.id.as_str().as_bytes(),
        ];
        let arguments = arguments.map(CString::new).into_iter().collect::<std::result::Result<Vec<_>, _>>();
        let arguments = arguments.map_err(invalid)?;
        let socket = connection.into_socket();
        let cgroup = tare_runtime::cgroup::of_monitors()?;
        let options = CloneOptions { namespaces: 0, cgroup: cgroup.as_ref().map(AsFd::as_fd) };
        spawn(options, || {
            let prepared = exec::become_stdio(&socket, 0)
                .and_then(|()| exec::become_stdio(&null, 1))
                .and_then(|()| exec::become_stdio(&errors, 2))
                .and_then(|()| exec::reset_signals())
                .and_then(|()| std::env::set_current_dir("/"));
            let error = prepared.err().unwrap_or_else(|| exec::execve(&program_path, &arguments, &[]));
            note(format_args!("start the monitor: {error}"));
            127
        })
        .map_err(Error::system("start the monitor"))
    }
}

/// Waits for a monitor's end and says how it ended.
fn wait(monitor: &Child) -> Result<String> {
    let failed = |errno: rustix::io::Errno| Error::System { action: "wait for the monitor", source: errno.into() };
    let status = retry_on_intr(|| waitid(WaitId::PidFd(monitor.pidfd.as_fd()), WaitIdOptions::EXITED));
    let status = status.map_err(failed)?;
    Ok(match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => format!("exit status: {code}"),
        Some((None, Some(signal))) => format!("signal: {signal}"),
        _ => "no status".to_owned(),
    })
}

/// What there is to attach to: standard input only where it is kept open, standard error only beside no terminal.
fn streams(wanted: Streams, loaded: &Loaded) -> Streams {
    let spec = &loaded.record.spec;
    Streams { stdin: wanted.stdin && spec.open_stdin, stderr: wanted.stderr && !spec.terminal, ..wanted }
}
