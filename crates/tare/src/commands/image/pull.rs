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
use tare_spec::Platform;
use tare_spec::reference::Reference;

pub(crate) static VERB: Verb = Verb {
    name: "pull",
    names: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    flags: &[&[
        Flag::switch("all-tags", "Download all tagged images in the repository").short('a'),
        Flag::value("platform", "string", "Set platform if server is multi-platform capable"),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
        Flag::no_switch("disable-content-trust"),
    ]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let platform = platform(m)?;
    let quiet = m.switch("quiet")?;
    let all = m.switch("all-tags")?;
    let engine = ui.engine()?;
    if all {
        return pull_all(&engine, ui, &m.args[0], platform, quiet);
    }
    let request = PullRequest { reference: m.args[0].clone(), platform };
    if !quiet && Reference::parse(&request.reference).is_ok_and(|r| r.tag().is_none() && r.digest().is_none()) {
        ui.line("Using default tag: latest")?;
    }
    let pulled = pull(&engine, &request, quiet, Box::new(io::stdout()), io::stdout().is_terminal())?;
    ui.line(&pulled.reference.to_string())?;
    Ok(Exit::SUCCESS)
}

/// Pulls every tag of a repository, one after the other: their layers are mostly the same.
fn pull_all(engine: &Engine, ui: &mut Ui, repository: &str, platform: Option<Platform>, quiet: bool) -> Outcome {
    let tags = engine.remote_tags(repository)?;
    let progress = Progress::new(Box::new(io::stdout()), io::stdout().is_terminal());
    let mut up_to_date = true;
    for tag in &tags {
        let request = PullRequest { reference: tag.to_string(), platform: platform.clone() };
        let pulled = if quiet { engine.pull(&request, &Silent)? } else { engine.pull(&request, &progress)? };
        up_to_date &= pulled.up_to_date;
        if !quiet {
            progress.pulled(&pulled);
        }
    }
    let repository = Reference::parse(repository).map_err(|error| Failure::new(error.to_string()))?;
    if !quiet {
        progress.status(up_to_date, &repository.familiar());
    }
    ui.line(&repository.to_string())?;
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
