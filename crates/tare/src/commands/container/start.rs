//! `start`

use super::attach::{Caught, Ended, check_terminal, detach_keys};
use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{DETACH_KEYS, Flag};
use crate::terminal;
use crate::ui::Ui;
use tare_engine::Engine;
use tare_engine::container::life::AttachRequest;
use tare_engine::container::spec::Streams;
use tare_engine::state::record::Status;
use tare_spec::ErrorKind;

pub(crate) static VERB: Verb = Verb {
    name: "start",
    names: &["container start", "start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    flags: &[&[
        Flag::switch("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
        DETACH_KEYS,
        Flag::switch("interactive", "Attach container's STDIN").short('i'),
        Flag::no_value("checkpoint"),
        Flag::no_value("checkpoint-dir"),
    ]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let (attach, interactive) = (m.switch("attach")?, m.switch("interactive")?);
    if !attach && !interactive {
        let engine = ui.engine()?;
        return ui.each(&m.args, |_, name| {
            engine.start(name, None)?;
            Ok(Some(name.to_owned()))
        });
    }
    let [name] = m.args.as_slice() else {
        return Err(Failure::new("you cannot start and attach multiple containers at once"));
    };
    let engine = ui.engine()?;
    start_attached(m, &engine, name, interactive)
}

fn start_attached(m: &Matches, engine: &Engine, name: &str, interactive: bool) -> Outcome {
    let details = engine.inspect(name)?;
    if details.state.status == Status::Running {
        return Err(Failure::new("you cannot attach to a running container with start")
            .with_hint(Some(format!("tare attach {name}"))));
    }
    let terminal = details.record.spec.terminal;
    let stdin = interactive && details.record.spec.open_stdin;
    check_terminal(stdin, terminal)?;
    let caught = Caught::before_start(terminal, stdin, true, detach_keys(m)?)?;
    let size = if terminal { terminal::size() } else { None };
    let streams = Streams { stdin, stdout: true, stderr: true };
    let id = details.record.id.as_str();
    let session = engine.start(id, Some(AttachRequest { streams, size })).map_err(|error| {
        let code = error.start_exit_code().and_then(|code| u8::try_from(code).ok());
        let failure = Failure::from(error);
        let code = code.unwrap_or(failure.code);
        failure.with_code(code)
    })?;
    let Some(session) = session else { return Ok(Exit::SUCCESS) };
    match caught.carry(session, engine, Some(id))? {
        Ended::Detached => Ok(Exit::SUCCESS),
        Ended::Exited(code) => {
            if details.record.spec.auto_remove
                && let Err(error) = engine.remove(id, true)
                && error.kind() != ErrorKind::NotFound
            {
                return Err(error.into());
            }
            Ok(Exit(code))
        }
    }
}
