//! Ending: stop, kill, restart, wait.

use crate::container::Loaded;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::file;
use crate::state::lock::{self, Lock};
use crate::state::record::{Run, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tare_runtime::monitor::protocol::{Connection, Reply, Request};
use tare_spec::ContainerId;

/// Seconds between the stop signal and SIGKILL where nobody says otherwise (Docker's).
pub(crate) const STOP_TIMEOUT: i64 = 10;

/// How long a container may take to go after SIGKILL, in seconds.
const KILL_PATIENCE: u32 = 30;

/// The number of a signal given by name, with or without `SIG`, or by number.
///
/// # Errors
/// [`Error::InvalidParameter`] in Docker's words.
pub(crate) fn signal_number(signal: &str) -> Result<Signal> {
    let invalid = || Error::invalid(format!("invalid signal: {signal}"));
    // Real-time signals have numbers and no constants.
    tare_spec::signal::parse(signal).and_then(tare_sys::signal::from_number).ok_or_else(invalid)
}

impl Engine {
    /// Asks a container to end, by `signal` or its stop signal, and kills it after `timeout` seconds; its own timeout or
    /// 10 seconds when absent, never when negative. On return it has ended and is cleaned up; success when it did not run.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::InvalidParameter`] for the signal, [`Error::Unkillable`].
    pub fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let loaded = self.load(&self.resolve(name)?)?;
        let signal = signal_number(signal.unwrap_or(&loaded.record.stop_signal))?;
        let Some(target) = self.target(&loaded)? else { return Ok(()) };
        let timeout = timeout.or(loaded.record.spec.stop_timeout).unwrap_or(STOP_TIMEOUT);
        target.signal(signal)?;
        let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
        if target.wait(patience)? {
            return self.ended(&loaded);
        }
        self.end(&loaded, &target)
    }

    /// Kills a container and waits until it is cleaned up.
    pub(crate) fn end(&self, loaded: &Loaded, target: &Target) -> Result<()> {
        target.signal(Signal::KILL)?;
        if target.wait(Some(Duration::from_secs(KILL_PATIENCE.into())))? {
            self.ended(loaded)
        } else {
            Err(Error::Unkillable { id: loaded.record.id.clone(), seconds: KILL_PATIENCE })
        }
    }

    /// A container whose monitor is gone has nobody to clean up: who looks next does it.
    fn ended(&self, loaded: &Loaded) -> Result<()> {
        match self.load(&loaded.record.id) {
            Ok(_) | Err(Error::NoSuchContainer { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal, by name with or without SIG, or by number.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::NothingToKill`], [`Error::InvalidParameter`].
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let signal = signal_number(signal)?;
        let loaded = self.load(&self.resolve(name)?)?;
        match self.target(&loaded)? {
            // A kill is done when the container is: commands that follow may rely on it.
            Some(target) if signal == Signal::KILL => self.end(&loaded, &target),
            Some(target) => target.signal(signal),
            None => Err(Error::NothingToKill { name: name.to_owned(), id: loaded.record.id }),
        }
    }

    /// Stops and starts, as one transition; a container that removes itself at its end stays.
    ///
    /// # Errors
    /// Those of [`Self::stop`] and [`Self::start`].
    pub fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let id = self.resolve(name)?;
        let transition = self.lock_container(&id, name)?;
        let loaded = self.load_locked(&id, &transition)?;
        if loaded.state.status == Status::Running {
            let marker = loaded.paths.restarting();
            std::fs::write(&marker, "").map_err(|source| Error::file("write", &marker, source))?;
            if let Err(error) = self.stop(id.as_str(), signal, timeout) {
                // It goes on, and its end is an end again.
                let _ = std::fs::remove_file(&marker);
                return Err(error);
            }
        }
        self.start_locked(&id, &transition, None).map(drop)
    }

    /// Waits for the right to change a container.
    pub(crate) fn lock_container(&self, id: &ContainerId, name: &str) -> Result<Lock> {
        let paths = self.paths.container(id);
        file::make_directory(&paths.run)?;
        let lock = lock::acquire(&paths.lock())?;
        lock.filter(|_| paths.record().exists()).ok_or_else(|| Error::NoSuchContainer { name: name.to_owned() })
    }

    /// Waits until a container does not run and returns its exit code; at once when it does not run.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn wait(&self, name: &str) -> Result<i32> {
        let loaded = self.load(&self.resolve(name)?)?;
        if let Some(target) = self.target(&loaded)? {
            target.wait(None)?;
            if let Some(code) = target.exit_code() {
                return Ok(code);
            }
        } else if loaded.state.status != Status::Running {
            return Ok(loaded.state.exit_code);
        }
        // It ended between two looks: its state says how by now.
        Ok(self.load(&loaded.record.id)?.state.exit_code)
    }

    /// What to signal and wait for, if the container runs.
    pub(crate) fn target(&self, loaded: &Loaded) -> Result<Option<Target>> {
        let Some(run) = loaded.state.run.as_ref().filter(|_| loaded.state.status == Status::Running) else {
            return Ok(None);
        };
        let connection = Connection::connect(&loaded.paths.monitor_socket()).ok();
        if let Some(connection) = &connection {
            // If it is about to end it may not read this: then its end is seen by the closed connection.
            let _ = connection.request(Request::Wait, &[]);
        }
        let process = open_process(run)?;
        if process.is_none() && connection.is_none() {
            // It ended just now, and its monitor is about to: wait for that.
            drop(lock::acquire(&loaded.paths.monitor_lock())?);
            return Ok(None);
        }
        Ok(Some(Target { process, connection }))
    }
}

/// A running container as seen from outside its monitor.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its first process; `None` when that has ended and only its monitor is there.
    process: Option<OwnedFd>,
    connection: Option<Connection>,
}

impl Target {
    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        match pidfd_send_signal(process, signal) {
            // It has ended already: that is for wait() to see.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::System { action: "signal the container's process", source: errno.into() }),
        }
    }

    /// Waits until the container has ended and its monitor has cleaned up; false when the time is up before.
    fn wait(&self, patience: Option<Duration>) -> Result<bool> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        self.as_fd().map_or(Ok(true), |fd| readable(fd, deadline))
    }

    /// Becomes readable when the container has ended.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd).or(self.process.as_ref().map(AsFd::as_fd))
    }

    /// The same as a descriptor of its own.
    pub(crate) fn into_fd(self) -> Option<OwnedFd> {
        self.connection.map(Connection::into_socket).or(self.process)
    }

    /// How it ended, if the monitor said so.
    fn exit_code(&self) -> Option<i32> {
        match self.connection.as_ref()?.receive::<Reply>() {
            Ok(Some((Reply::Exited { code }, _))) => Some(code),
            _ => None,
        }
    }
}

/// Waits for a descriptor; false when the deadline passes first.
fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool> {
    loop {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::System { action: "wait for the container", source: errno.into() }),
        }
    }
}

/// A handle of the very process of this run; `None` when it has ended.
pub(crate) fn open_process(run: &Run) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(run.pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // The number is checked after the handle is taken, so that it cannot come to mean another process in between.
        Ok(process) => Ok((crate::container::start_time(run.pid) == Some(run.pid_start)).then_some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(errno) => Err(Error::System { action: "open the container's process", source: errno.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX", 64)]
        {
            assert_eq!(signal_number(text).unwrap().as_raw(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGFOO", "15x"] {
            assert_eq!(signal_number(text).unwrap_err().to_string(), format!("invalid signal: {text}"));
        }
    }
}
