//! `logout`

use super::login::registry;
use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;

pub(crate) static VERB: Verb = Verb {
    name: "logout",
    names: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry.\nDefaults to Docker Hub if no server is specified.",
    flags: &[],
    arity: Arity::AtMost(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let server = registry(m.args.first().map_or("", String::as_str));
    let shown = if m.args.is_empty() { "https://index.docker.io/v1/" } else { server.as_str() };
    ui.line(&format!("Removing login credentials for {shown}"))?;
    // Docker says nothing of a registry that nobody was logged in to.
    tare_engine::login::logout(&server)?;
    Ok(Exit::SUCCESS)
}
