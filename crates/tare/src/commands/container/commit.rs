//! `commit`

use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use tare_engine::image::CommitRequest;

pub(crate) static VERB: Verb = Verb {
    name: "commit",
    names: &["container commit", "commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    flags: &[&[
        Flag::value("author", "string", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
        Flag::value("change", "list", "Apply Dockerfile instruction to the created image").short('c'),
        Flag::value("message", "string", "Commit message").short('m'),
        Flag::switch("no-pause", "Disable pausing container during commit"),
        // Until Docker 29 this was the name; it still works there, and is not shown either.
        Flag::switch("pause", "").short('p'),
    ]],
    arity: Arity::Between(1, 2),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let request = CommitRequest {
        container: m.args[0].clone(),
        reference: m.args.get(1).filter(|name| !name.is_empty()).cloned(),
        author: m.one("author").map(str::to_owned),
        message: m.one("message").map(str::to_owned),
        changes: m.all("change").cloned().collect(),
        pause: m.switch_or("pause", true)? && !m.switch("no-pause")?,
    };
    let committed = ui.engine()?.commit(&request)?;
    for warning in &committed.warnings {
        ui.warn(warning);
    }
    ui.line(&committed.id.to_string())?;
    Ok(Exit::SUCCESS)
}
