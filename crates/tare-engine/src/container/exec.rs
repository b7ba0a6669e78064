//! A further process in a running container.

use crate::container::oci;
use crate::container::spec::Streams;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::session::{Pipes, Session};
use crate::state::record::Status;
use tare_runtime::monitor::protocol::{Exec, Reply, Request};

/// A process to run in a running container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `NAME=value` over the container's.
    pub env: Vec<String>,
    /// Working directory; the container's when absent.
    pub working_dir: Option<String>,
    /// `user[:group]`; the container's when absent.
    pub user: Option<String>,
    /// A pseudo-terminal.
    pub terminal: bool,
    /// Rows and columns of it.
    pub size: Option<(u16, u16)>,
    /// Which streams the caller wants; none of them is `-d`.
    pub streams: Streams,
}

impl Engine {
    /// Runs a process in a running container. On return it runs; dropping the session leaves it alone, though a process
    /// on a terminal is hung up then (SIGHUP).
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::NotRunning`]; [`Error::Monitor`] with the exit code 126 or 127 when the
    /// program cannot be executed.
    pub fn exec(&self, name: &str, request: &ExecRequest) -> Result<Session> {
        let loaded = self.load(&self.resolve(name)?)?;
        let id = loaded.record.id.clone();
        if loaded.state.status != Status::Running {
            return Err(Error::NotRunning { id });
        }
        let mut process = oci::process(&loaded.record);
        process.args.clone_from(&request.command);
        process.terminal = request.terminal;
        if request.terminal && !process.env.iter().any(|variable| variable.starts_with("TERM=")) {
            process.env.push("TERM=xterm".into());
        }
        for variable in &request.env {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            let prefix = format!("{name}=");
            process.env.retain(|existing| !existing.starts_with(&prefix));
            process.env.push(variable.clone());
        }
        if let Some(path) = &request.working_dir {
            process.cwd.clone_from(path);
        }
        let user = request.user.clone().unwrap_or_else(|| loaded.record.user.clone());
        let streams = if request.terminal { Streams::default() } else { request.streams };
        let mut pipes = Pipes::new(streams)?;
        let connection = self.connect(&loaded)?;
        let broken = |source| Error::Connection { id: id.clone(), source };
        let exec = Exec { process, user: Some(user), streams: streams.into(), size: request.size };
        connection.request(Request::Exec(Box::new(exec)), &pipes.to_send()).map_err(broken)?;
        pipes.sent();
        match connection.receive::<Reply>().map_err(broken)? {
            Some((Reply::Started { .. }, terminal)) => match terminal.into_iter().next() {
                Some(terminal) => Session::on_terminal(terminal, connection, id),
                None => Ok(Session::attached(pipes, connection, id)),
            },
            Some((Reply::Failed(failure), _)) => Err(Error::Monitor(failure)),
            Some((Reply::Exited { .. }, _)) | None => Err(Error::NotRunning { id }),
        }
    }
}
