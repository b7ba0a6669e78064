//! `restart`

use super::stop;
use crate::cli::Verb;
use crate::failure::Outcome;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "restart",
    names: &["container restart", "restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    flags: &[stop::FLAGS],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let (signal, timeout) = (m.one("signal"), stop::timeout(m)?);
    let engine = ui.engine()?;
    ui.each(&m.args, |_, name| {
        engine.restart(name, signal, timeout)?;
        Ok(Some(name.to_owned()))
    })
}
