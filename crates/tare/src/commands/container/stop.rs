//! `stop`

use crate::cli::Verb;
use crate::failure::Outcome;
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, numbers};
use crate::ui::Ui;

/// How a container is stopped: shared with `restart`.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("signal", "string", "Signal to send to the container").short('s'),
    Flag::value("timeout", "int", "Seconds to wait before killing the container").short('t'),
    // The name of --timeout before Docker 28.
    Flag::value("time", "int", ""),
];

pub(crate) static VERB: Verb = Verb {
    name: "stop",
    names: &["container stop", "stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop one or more running containers",
    flags: &[FLAGS],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let (signal, timeout) = (m.one("signal"), timeout(m)?);
    let engine = ui.engine()?;
    ui.each(&m.args, |_, name| {
        engine.stop(name, signal, timeout)?;
        Ok(Some(name.to_owned()))
    })
}

/// Seconds between the signal and the kill.
pub(crate) fn timeout(m: &Matches) -> Result<Option<i64>, crate::failure::Failure> {
    Ok(m.read("timeout", numbers::integer)?.or(m.read("time", numbers::integer)?))
}
