//! `container inspect`

use crate::cli::Verb;
use crate::commands::system::inspect::{Kind, inspect};
use crate::failure::Outcome;
use crate::flags::parse::{Arity, Matches};
use crate::flags::{FORMAT, Flag};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "inspect",
    names: &["container inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    flags: &[&[FORMAT, Flag::no_switch("size").short('s')]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    inspect(m, ui, Some(Kind::Container))
}
