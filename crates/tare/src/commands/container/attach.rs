//! `attach`, and what `run`, `start` and `exec` share with it: a session with the person's streams.

use crate::cli::Verb;
use crate::detach::DetachKeys;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{DETACH_KEYS, Flag};
use crate::pump::{self, Pump, PumpEnd};
use crate::signals::Signals;
use crate::terminal::{self, RawMode};
use crate::ui::Ui;
use std::io::{self, IsTerminal};
use tare_engine::Engine;
use tare_engine::container::life::AttachRequest;
use tare_engine::container::spec::Streams;
use tare_engine::session::{Session, SessionEnd};
use tare_engine::state::record::Status;

/// `--sig-proxy`, which `run` has, too.
pub(crate) const SIG_PROXY: Flag = Flag::switch("sig-proxy", "Proxy received signals to the process (default true)");

pub(crate) static VERB: Verb = Verb {
    name: "attach",
    names: &["container attach", "attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    flags: &[&[DETACH_KEYS, Flag::switch("no-stdin", "Do not attach STDIN"), SIG_PROXY]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let name = m.args[0].as_str();
    let keys = detach_keys(m)?;
    let (no_stdin, proxy) = (m.switch("no-stdin")?, m.switch_or("sig-proxy", true)?);
    let engine = ui.engine()?;
    let details = engine.inspect(name)?;
    if details.state.status != Status::Running {
        return Err(Failure::new("cannot attach to a stopped container, start it first")
            .with_hint(Some(format!("tare start -a {name}"))));
    }
    let terminal = details.record.spec.terminal;
    let stdin = !no_stdin && details.record.spec.open_stdin;
    check_terminal(stdin, terminal)?;
    let caught = Caught::before_start(terminal, stdin, proxy, keys)?;
    let streams = Streams { stdin, stdout: true, stderr: true };
    let session = engine.attach(name, AttachRequest { streams, size: terminal::size() })?;
    match caught.carry(session, &engine, Some(details.record.id.as_str()))? {
        Ended::Exited(code) => Ok(Exit(code)),
        Ended::Detached => Ok(Exit::SUCCESS),
    }
}

/// `--detach-keys`.
pub(crate) fn detach_keys(m: &Matches) -> Result<DetachKeys, Failure> {
    DetachKeys::parse(m.one("detach-keys").unwrap_or_default())
        .map_err(|error| Failure::new(format!("invalid detach keys: {error}")).with_code(125))
}

/// A container with a terminal cannot be typed into from something else.
pub(crate) fn check_terminal(stdin: bool, terminal: bool) -> Result<(), Failure> {
    if stdin && terminal && !io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a TTY")
            .with_hint(Some("without -t, standard input may be a pipe or a file".to_owned())));
    }
    Ok(())
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its process ended with this code, or a signal ended this program (128 + signal).
    Exited(u8),
    /// The person detached.
    Detached,
}

/// What must be in place before a session begins, so that no signal gets lost in between.
pub(crate) struct Caught {
    terminal: bool,
    stdin: bool,
    keys: DetachKeys,
    signals: Option<Signals>,
}

impl Caught {
    /// Catches the signals that the session needs. `proxy` passes them on to a container without a terminal.
    pub(crate) fn before_start(terminal: bool, stdin: bool, proxy: bool, keys: DetachKeys) -> Result<Self, Failure> {
        let signals = match (terminal, proxy) {
            (true, _) => Some(Signals::of_terminal()),
            (false, true) => Some(Signals::to_forward()),
            (false, false) => None,
        };
        let signals = signals
            .transpose()
            .map_err(|error| Failure::new(format!("catch signals: {}", crate::failure::errno_text(&error))))?;
        Ok(Self { terminal, stdin, keys, signals })
    }

    /// Carries the session's streams until it ends. Signals are passed on to `container`.
    pub(crate) fn carry(
        self,
        mut session: Session,
        engine: &Engine,
        container: Option<&str>,
    ) -> Result<Ended, Failure> {
        let typing = self.stdin && io::stdin().is_terminal();
        let raw = if self.terminal && typing {
            Some(RawMode::enter().map_err(|error| {
                Failure::new(format!("set the terminal to raw mode: {}", crate::failure::errno_text(&error)))
            })?)
        } else {
            None
        };
        if self.terminal {
            // The window may have changed between the start and the catching of signals.
            pump::resize(&session);
        }
        let forward = |signal: i32| {
            if let (Some(container), Some(name)) = (container, tare_spec::signal::name(signal)) {
                // The container may have ended meanwhile; its end is what gets reported.
                let _ = engine.kill(container, name);
            }
        };
        let pump = Pump {
            stdin: self.stdin,
            terminal: self.terminal,
            // Only somebody who types can mean the keys; a file's bytes are the container's.
            keys: typing.then_some(self.keys),
            signals: self.signals,
            forward: &forward,
        };
        let end = pump::run(&mut session, pump);
        drop(raw);
        match end? {
            PumpEnd::Session(SessionEnd::Exited(code)) => Ok(Ended::Exited(code as u8)),
            PumpEnd::Session(SessionEnd::Lost) => {
                Err(Failure::new("the container's monitor went away without telling how the process ended")
                    .with_code(125)
                    .with_hint(Some("tare ps -a shows what became of it".to_owned())))
            }
            PumpEnd::Signalled(signal) => Ok(Ended::Exited((128 + signal) as u8)),
            PumpEnd::Detached => Ok(Ended::Detached),
        }
    }
}
