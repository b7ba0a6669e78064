//! `build`

mod check;
mod context;
mod hints;
mod report;
mod verify;

use crate::cli::Verb;
use crate::commands::image::push::explained;
use crate::failure::{Exit, Failure, Outcome, errno_text};
use crate::flags::build::outputs::Opened;
use crate::flags::build::{Action, FLAGS, Wish, read};
use crate::flags::parse::{Arity, Matches};
use crate::progress::build::{BuildProgress, Mode};
use crate::progress::{Progress, Silent};
use crate::ui::{Ui, note, person_reads_errors};
use std::fs;
use std::io::{self, Write};
use tare_engine::Engine;
use tare_engine::build::{BuildRequest, Built, ContextSource, OutputRequest};
use tare_engine::image::PushRequest;

pub(crate) static VERB: Verb = Verb {
    name: "build",
    names: &["image build", "build", "builder build", "buildx build", "buildx b"],
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    flags: &[FLAGS],
    // Exactly one: see `run`.
    arity: Arity::AtLeast(0),
    stops_at_first_argument: false,
    run,
};

/// What comes before errors of the build itself, as Docker has it.
const FAILED: &str = "failed to build: ";

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    m.require(Arity::Exactly(1)).map_err(|failure| {
        // The one thing that everybody forgets.
        let hint = m.args.is_empty().then(|| format!("`{} .` builds from what is in this folder", m.path));
        failure.with_hint(hint)
    })?;
    act(m, ui).map_err(|failure| failure.labelled("ERROR"))
}

fn act(m: &Matches, ui: &mut Ui) -> Outcome {
    let mut wish = read(m, |name| std::env::var(name).ok())?;
    for text in &wish.notes {
        ui.warn(text);
    }
    let inputs = context::read(&m.args[0], wish.file.as_deref(), Box::new(io::stdin()));
    (wish.request.context, wish.request.dockerfile) = inputs.map_err(|failure| failure.prefixed(FAILED))?;
    if let ContextSource::Git(git) = &mut wish.request.context {
        git.keep_git_dir |= wish.keep_git_dir;
    }
    match wish.action {
        Action::Build if wish.verify => verify::run(ui, wish),
        Action::Build => build(ui, wish),
        Action::Check { json, ignore_status } => {
            let checked = ui.engine()?.check_build(&wish.request).map_err(|error| hints::failed(error, &[], false))?;
            check::show(ui, &checked, json, ignore_status)
        }
        Action::Targets { json } => {
            let checked = ui.engine()?.check_build(&wish.request).map_err(|error| hints::failed(error, &[], false))?;
            ui.out.write_all(check::targets(&checked, json).as_bytes())?;
            Ok(Exit::SUCCESS)
        }
        Action::ExplainContext => {
            let entries = ui.engine()?.explain_context(&wish.request);
            let entries = entries.map_err(|error| hints::failed(error, &[], false))?;
            ui.out.write_all(report::context(&entries)?.as_bytes())?;
            Ok(Exit::SUCCESS)
        }
    }
}

/// Builds, and hands the result on.
fn build(ui: &mut Ui, wish: Wish) -> Outcome {
    if let Some(path) = &wish.iidfile {
        // A build that fails must not leave the id of another one.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let why = errno_text(&error);
                return Err(Failure::new(format!("removing image ID file: remove {path}: {why}")));
            }
            _ => {}
        }
    }
    let engine = ui.engine()?;
    let mut opened = wish.outputs.open()?;
    let output = OutputRequest { outputs: std::mem::take(&mut opened.outputs), cache_to: wish.cache_to.clone() };
    let built = show_build(&engine, &wish.request, &output, wish.mode)?;
    if tells(wish.mode) {
        note(&report::warnings(&built.warnings, Some(&built.source)));
    }
    deliver(ui, &engine, &wish, &built, opened)
}

/// Builds and shows how it goes.
fn show_build(engine: &Engine, request: &BuildRequest, output: &OutputRequest, mode: Mode) -> Result<Built, Failure> {
    let progress = BuildProgress::new(mode).map_err(Failure::new)?;
    let built = engine.build(request, output, &progress);
    let warnings = progress.finish(built.is_err());
    match built {
        Ok(built) => Ok(built),
        Err(error) if error.is_closed_output() => Err(error.into()),
        Err(error) => Err(hints::failed(error, &warnings, tells(mode))),
    }
}

/// Whether a person reads what is shown.
fn tells(mode: Mode) -> bool {
    matches!(mode, Mode::Auto | Mode::Plain | Mode::Tty)
}

fn deliver(ui: &mut Ui, engine: &Engine, wish: &Wish, built: &Built, opened: Opened) -> Outcome {
    opened.keep()?;
    if wish.outputs.push {
        push(engine, built, wish)?;
    }
    let id = report::id(built);
    if let Some(path) = &wish.iidfile {
        write_file(path, &id, "image ID file")?;
    }
    if let Some(path) = &wish.metadata_file {
        let metadata = report::metadata(built, wish.outputs.have_image());
        write_file(path, &metadata, "metadata file")?;
    }
    if wish.explain {
        ui.out.write_all(report::explain(&built.steps)?.as_bytes())?;
    }
    if wish.quiet && wish.outputs.have_image() && !wish.outputs.use_stdout() {
        ui.line(&id)?;
    }
    Ok(Exit::SUCCESS)
}

fn push(engine: &Engine, built: &Built, wish: &Wish) -> Result<(), Failure> {
    let silent = !tells(wish.mode);
    let progress = Progress::new(Box::new(io::stderr()), person_reads_errors());
    for (index, reference) in built.names.iter().enumerate() {
        let request = PushRequest { reference: reference.to_string() };
        let pushed =
            if silent { engine.push(&request, &Silent) } else { engine.push(&request, &progress.pushing(index == 0)) };
        let pushed = pushed.map_err(|error| explained(engine, reference, error).prefixed("failed to push: "))?;
        if !silent {
            let tag = pushed.reference.tag().unwrap_or_default();
            progress.say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
        }
    }
    Ok(())
}

fn write_file(path: &str, text: &str, what: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::new(format!("writing {what}: open {path}: {}", errno_text(&error))))
}
