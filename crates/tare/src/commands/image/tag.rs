//! `tag`

use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "tag",
    names: &["image tag", "tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    flags: &[],
    arity: Arity::Exactly(2),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    ui.engine()?.tag_image(&m.args[0], &m.args[1])?;
    Ok(Exit::SUCCESS)
}
