//! `wait`

use crate::cli::Verb;
use crate::failure::Outcome;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "wait",
    names: &["container wait", "wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    flags: &[],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let engine = ui.engine()?;
    ui.each(&m.args, |_, name| Ok(Some(engine.wait(name)?.to_string())))
}
