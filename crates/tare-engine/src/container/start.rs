//! Starting and attaching: the client's side of a monitor.

use crate::MONITOR_NAME;
use crate::container::Loaded;
use crate::container::life::AttachRequest;
use crate::container::spec::Streams;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::{Pipes, Session};
use crate::state::record::Status;
use crate::state::{file, lock};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tare_runtime::monitor::protocol::{Connection, Reply, Request};

impl Engine {
    /// Starts a container. With `attach` the session has its streams from the first byte. `None` when nothing was to be
    /// attached; starting what runs is a success.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Monitor`] with the reason why it could not be started: then nothing of the
    /// attempt is left.
    pub fn start(&self, name: &str, attach: Option<AttachRequest>) -> Result<Option<Session>> {
        let id = self.resolve(name)?;
        let paths = self.paths.container(&id);
        file::make_directory(&paths.run)?;
        let missing = || Error::NoSuchContainer { name: name.to_owned() };
        let transition = lock::acquire(&paths.lock())?.ok_or_else(missing)?;
        let loaded = self.load_locked(&id, &transition)?;
        if loaded.state.status == Status::Running {
            return attach.map(|request| self.attach_to(&loaded, request)).transpose();
        }
        // A monitor that is still cleaning up after the last run is waited for.
        drop(lock::acquire(&paths.monitor_lock())?);
        if !paths.record().exists() {
            return Err(missing());
        }
        let (ours, theirs) = Connection::pair().map_err(Error::system("make a socket pair"))?;
        let mut pipes = Pipes::default();
        if let Some(request) = attach {
            pipes = Pipes::new(streams(request.streams, &loaded))?;
            self.request_attach(&loaded, &ours, request, &mut pipes)?;
        }
        let mut monitor = self.spawn_monitor(&loaded, theirs)?;
        match ours.receive::<Reply>() {
            Ok(Some((Reply::Started { .. }, _))) => {}
            Ok(Some((Reply::Failed(failure), _))) => {
                // It has nothing left to do: its end is waited for, so that its locks and folders are free.
                let _ = monitor.wait();
                return Err(Error::Monitor(failure));
            }
            Ok(Some((Reply::Exited { .. }, _)) | None) => {
                let status = monitor.wait().map_err(Error::system("wait for the monitor"))?;
                let words = file::read_text(&paths.monitor_errors())?.unwrap_or_default();
                let mut cleaning = Vec::new();
                cleaning.extend(self.tear_down(&id).err());
                if loaded.record.spec.auto_remove {
                    cleaning.extend(self.remove_files(&loaded.record, &paths).err());
                }
                let detail = if words.trim().is_empty() { status.to_string() } else { words.trim().to_owned() };
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
        Connection::connect(&loaded.paths.monitor_socket())
            .map_err(|source| Error::Connection { id: loaded.record.id.clone(), source })
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
    /// (CVE-2019-5736).
    fn spawn_monitor(&self, loaded: &Loaded, connection: Connection) -> Result<std::process::Child> {
        let path = loaded.paths.monitor_errors();
        let errors = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let errors = errors.map_err(|source| Error::file("open", &path, source))?;
        // What whoever started this program left open is not for the monitor, which outlives it.
        tare_sys::exec::close_on_exec_from(3).map_err(Error::system("mark descriptors close-on-exec"))?;
        let program = tare_sys::exec::read_only_self().map_err(Error::system("open this program's file"))?;
        Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0(MONITOR_NAME)
            .arg(&self.paths.root)
            .arg(&self.paths.run_root)
            .arg(loaded.record.id.as_str())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(connection.into_socket()))
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(Error::system("start the monitor"))
    }
}

/// What there is to attach to: standard input only where it is kept open, standard error only beside no terminal.
fn streams(wanted: Streams, loaded: &Loaded) -> Streams {
    let spec = &loaded.record.spec;
    Streams { stdin: wanted.stdin && spec.open_stdin, stderr: wanted.stderr && !spec.terminal, ..wanted }
}
