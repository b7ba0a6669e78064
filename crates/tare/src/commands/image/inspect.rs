//! `image inspect`

use crate::cli::Verb;
use crate::commands::system::inspect::{Kind, inspect};
use crate::failure::Outcome;
use crate::flags::parse::{Arity, Matches};
use crate::flags::{FORMAT, Flag};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "inspect",
    names: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    flags: &[&[
        FORMAT,
        Flag::value("platform", "string", "Inspect a specific platform of the image, \"os[/arch[/variant]]\""),
    ]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    inspect(m, ui, Some(Kind::Image))
}
