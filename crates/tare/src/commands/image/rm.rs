//! `rmi`

use crate::cli::Verb;
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::ui::{Ui, note};
use tare_engine::image::ImageRemoval;
use tare_spec::ErrorKind;

pub(crate) static VERB: Verb = Verb {
    name: "rmi",
    names: &["image rm", "image remove", "rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    flags: &[&[
        Flag::switch("force", "Force removal of the image").short('f'),
        Flag::switch("no-prune", "Do not delete untagged parents"),
        Flag::no_value("platform"),
    ]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let force = m.switch("force")?;
    // Images have no parents that could be deleted.
    m.switch("no-prune")?;
    let engine = ui.engine()?;
    ui.each(&m.args, |ui, name| match engine.remove_image(name, force) {
        Ok(removals) => {
            for removal in removals {
                match removal {
                    ImageRemoval::Untagged(name) => ui.line(&format!("Untagged: {name}"))?,
                    ImageRemoval::Deleted(digest) => ui.line(&format!("Deleted: {digest}"))?,
                }
            }
            Ok(None)
        }
        Err(error) if force && error.kind() == ErrorKind::NotFound => {
            note(&Failure::from(error).message());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    })
}
