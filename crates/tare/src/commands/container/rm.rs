//! `rm`

use crate::cli::Verb;
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::ui::{Ui, note};
use tare_spec::ErrorKind;

pub(crate) static VERB: Verb = Verb {
    name: "rm",
    names: &["container rm", "container remove", "rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    flags: &[&[
        Flag::switch("force", "Force the removal of a running container (uses SIGKILL)").short('f'),
        // No container has anonymous volumes yet, so all of them are removed either way.
        Flag::switch("volumes", "Remove anonymous volumes associated with the container").short('v'),
        Flag::no_switch("link").short('l'),
    ]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let force = m.switch("force")?;
    m.switch("volumes")?;
    let engine = ui.engine()?;
    ui.each(&m.args, |_, name| match engine.remove(name, force) {
        Ok(()) => Ok(Some(name.to_owned())),
        // With -f a container that is gone is what was asked for, but a slip of the pen shows.
        Err(error) if force && error.kind() == ErrorKind::NotFound => {
            note(&Failure::from(error).message());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    })
}
