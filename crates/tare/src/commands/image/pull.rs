//! `pull`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::Flag;
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::progress::{Progress, Silent};
use crate::ui::Ui;
use std::io::{self, IsTerminal, Write};
use tare_engine::Engine;
use tare_engine::image::{PullRequest, Pulled};
use tare_spec::reference::Reference;

pub(crate) static VERB: Verb = Verb {
    name: "pull",
    names: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    flags: &[&[
        Flag::value("platform", "string", "Set platform if server is multi-platform capable"),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
        Flag::no_switch("all-tags").short('a'),
        Flag::no_switch("disable-content-trust"),
    ]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let request = PullRequest { reference: m.args[0].clone(), platform: platform(m)? };
    let quiet = m.switch("quiet")?;
    let engine = ui.engine()?;
    if !quiet && Reference::parse(&request.reference).is_ok_and(|r| r.tag().is_none() && r.digest().is_none()) {
        ui.line("Using default tag: latest")?;
    }
    let pulled = pull(&engine, &request, quiet, Box::new(io::stdout()), io::stdout().is_terminal())?;
    ui.line(&pulled.reference.to_string())?;
    Ok(Exit::SUCCESS)
}

/// Pulls and shows how it goes on `out`.
pub(crate) fn pull(
    engine: &Engine,
    request: &PullRequest,
    quiet: bool,
    out: Box<dyn Write + Send>,
    terminal: bool,
) -> Result<Pulled, Failure> {
    if quiet {
        return Ok(engine.pull(request, &Silent)?);
    }
    let progress = Progress::new(out, terminal);
    let pulled = engine.pull(request, &progress)?;
    progress.pulled(&pulled);
    progress.status(pulled.up_to_date, &pulled.reference.familiar());
    Ok(pulled)
}
