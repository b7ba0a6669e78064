//! `run`

use super::attach::{Caught, Ended, SIG_PROXY, check_terminal, detach_keys};
use super::create::create;
use crate::cli::Verb;
use crate::explain;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::container;
use crate::flags::parse::{Arity, Matches};
use crate::flags::{DETACH_KEYS, Flag};
use crate::terminal;
use crate::ui::{Ui, note, person_reads_errors};
use tare_engine::Engine;
use tare_engine::container::life::AttachRequest;
use tare_spec::{ContainerId, ErrorKind};

pub(crate) static VERB: Verb = Verb {
    name: "run",
    names: &["container run", "run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    flags: &[
        container::FLAGS,
        &[
            Flag::switch("detach", "Run container in background and print container ID").short('d'),
            DETACH_KEYS,
            SIG_PROXY,
        ],
    ],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: true,
    run,
};

/// Exit code when the engine could not do what was asked; the container's own codes stay below.
const ENGINE_FAILED: u8 = 125;

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let detached = m.switch("detach")?;
    let mut wish = container::read(m, detached)?;
    if detached {
        let engine = ui.engine().map_err(engine_failed)?;
        let id = create(&engine, ui, &wish).map_err(engine_failed)?;
        engine.start(id.as_str(), None).map_err(|error| not_started(&engine, &id, error))?;
        ui.line(id.as_str())?;
        return Ok(Exit::SUCCESS);
    }
    let keys = detach_keys(m)?;
    let proxy = m.switch_or("sig-proxy", true)?;
    let (streams, terminal) = (wish.spec.attach, wish.spec.terminal);
    check_terminal(streams.stdin, terminal)?;
    let size = if terminal { terminal::size() } else { None };
    wish.spec.console_size = size;
    let engine = ui.engine().map_err(engine_failed)?;
    let id = create(&engine, ui, &wish).map_err(engine_failed)?;
    let caught = Caught::before_start(terminal, streams.stdin, proxy, keys).map_err(engine_failed)?;
    let session = engine
        .start(id.as_str(), Some(AttachRequest { streams, size }))
        .map_err(|error| not_started(&engine, &id, error))?
        .ok_or_else(|| Failure::new("the container started without a session").with_code(ENGINE_FAILED))?;
    match caught.carry(session, &engine, Some(id.as_str()))? {
        Ended::Detached => Ok(Exit::SUCCESS),
        Ended::Exited(code) => {
            if person_reads_errors()
                && let Some(text) = explain::exit(&engine, &id, code, wish.spec.auto_remove)
            {
                note(&format!("hint: {text}\n"));
            }
            if wish.spec.auto_remove {
                remove(&engine, &id)?;
            }
            Ok(Exit(code))
        }
    }
}

fn engine_failed(failure: Failure) -> Failure {
    failure.with_code(ENGINE_FAILED)
}

/// The failure of a start. The container that never ran is removed: nothing is in it, and its name is wanted for the
/// next attempt. (Docker leaves it unless `--rm` is given.)
fn not_started(engine: &Engine, id: &ContainerId, error: tare_engine::Error) -> Failure {
    let code = error.start_exit_code().and_then(|code| u8::try_from(code).ok()).unwrap_or(ENGINE_FAILED);
    if let Err(second) = remove(engine, id) {
        note(&second.message());
    }
    Failure::from(error).with_code(code)
}

/// Removes the container of `--rm`. Its monitor does so, too: whoever comes second finds nothing, and when this
/// returns it is gone.
fn remove(engine: &Engine, id: &ContainerId) -> Result<(), Failure> {
    match engine.remove(id.as_str(), true) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
