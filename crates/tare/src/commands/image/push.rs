//! `push`

use crate::advice;
use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::Flag;
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::progress::{Progress, Silent};
use crate::ui::Ui;
use std::io::{self, IsTerminal};
use tare_engine::Engine;
use tare_engine::image::PushRequest;
use tare_spec::reference::{DEFAULT_REGISTRY, Reference};

pub(crate) static VERB: Verb = Verb {
    name: "push",
    names: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    flags: &[&[
        Flag::switch("all-tags", "Push all tags of an image to the repository").short('a'),
        Flag::value("platform", "string", "Refuse an image that is for another platform, \"os[/arch[/variant]]\""),
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
    let name = m.args[0].as_str();
    let engine = ui.engine()?;
    let parsed = Reference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
    let references = if all {
        engine.local_tags(name)?
    } else {
        if parsed.tag().is_none() && parsed.digest().is_none() && !quiet {
            ui.line("Using default tag: latest")?;
        }
        vec![parsed.clone().with_default_tag()]
    };
    if platform.is_some() {
        for reference in &references {
            engine.inspect_image(&reference.to_string(), platform.as_ref())?;
        }
    }
    let progress = Progress::new(Box::new(io::stdout()), io::stdout().is_terminal());
    for (index, reference) in references.iter().enumerate() {
        let request = PushRequest { reference: reference.to_string() };
        let pushed = if quiet {
            engine.push(&request, &Silent)
        } else {
            // Docker says once where a push of several tags goes.
            engine.push(&request, &progress.pushing(index == 0))
        };
        let pushed = pushed.map_err(|error| explained(&engine, reference, error))?;
        if !quiet {
            let tag = pushed.reference.tag().unwrap_or_default();
            progress.say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
        }
    }
    if quiet {
        let reference = if all { parsed } else { parsed.with_default_tag() };
        ui.line(&reference.to_string())?;
    }
    Ok(Exit::SUCCESS)
}

/// What a person most likely meant by a name that cannot be pushed.
pub(crate) fn explained(engine: &Engine, reference: &Reference, error: tare_engine::Error) -> Failure {
    use tare_engine::Error;
    let missing = matches!(error, Error::NotLocal { .. });
    let refused = matches!(error.kind(), tare_spec::ErrorKind::Unauthorized | tare_spec::ErrorKind::Forbidden);
    let failure = Failure::from(error);
    let familiar = reference.familiar();
    if missing {
        let tags = engine.local_tags(&reference.without_version().to_string()).unwrap_or_default();
        let tag_it = || format!("`tare tag IMAGE {familiar}` gives an image that name first");
        return failure.with_hint(Some(advice::here(&tags).unwrap_or_else(tag_it)));
    }
    // `library` belongs to Docker: a name without a slash was meant for somewhere else.
    if refused && reference.registry() == DEFAULT_REGISTRY && reference.repository().starts_with("library/") {
        return failure.with_hint(Some(format!(
            "{familiar} names an official image of {DEFAULT_REGISTRY}: `tare tag {familiar} USER/{familiar}` and push that, or name your registry before it (HOST:PORT/{familiar})"
        )));
    }
    failure
}
