//! `save`

use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::Flag;
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::output::Output;
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "save",
    names: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    flags: &[&[
        Flag::value("output", "string", "Write to a file, instead of STDOUT").short('o'),
        Flag::value(
            "platform",
            "string",
            "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
    ]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let platform = platform(m)?;
    let output = Output::open(m.one("output"))?;
    ui.engine()?.save_images(&m.args, platform.as_ref(), output.file())?;
    output.keep()?;
    Ok(Exit::SUCCESS)
}
