//! `export`

use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::output::Output;
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "export",
    names: &["container export", "export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    flags: &[&[Flag::value("output", "string", "Write to a file, instead of STDOUT").short('o')]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let output = Output::open(m.one("output"))?;
    ui.engine()?.export(&m.args[0], output.file())?;
    output.keep()?;
    Ok(Exit::SUCCESS)
}
