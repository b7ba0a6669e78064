//! `kill`

use crate::cli::Verb;
use crate::failure::Outcome;
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "kill",
    names: &["container kill", "kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    flags: &[&[Flag::value("signal", "string", "Signal to send to the container").short('s')]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let signal = m.one("signal").unwrap_or("KILL");
    let engine = ui.engine()?;
    ui.each(&m.args, |_, name| {
        engine.kill(name, signal)?;
        Ok(Some(name.to_owned()))
    })
}
