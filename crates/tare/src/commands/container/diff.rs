//! `diff`

use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use std::io::Write;
use tare_engine::container::changes::ChangeKind;

pub(crate) static VERB: Verb = Verb {
    name: "diff",
    names: &["container diff", "diff"],
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    flags: &[],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    for change in ui.engine()?.changes(&m.args[0])? {
        let kind: &[u8] = match change.kind {
            ChangeKind::Added => b"A /",
            ChangeKind::Modified => b"C /",
            ChangeKind::Deleted => b"D /",
        };
        // Names are any bytes: they go out as they are.
        ui.out.write_all(&[kind, &change.path, b"\n"].concat())?;
    }
    Ok(Exit::SUCCESS)
}
