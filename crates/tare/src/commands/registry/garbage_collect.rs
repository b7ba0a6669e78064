//! `registry garbage-collect`

use super::serve::{ROOT, root};
use crate::cli::Verb;
use crate::failure::{Exit, Outcome, chain};
use crate::flags::Flag;
use crate::flags::bytes::show;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use std::io::Write;
use std::time::Duration;
use tare_engine::registry::{self, CollectOptions};

pub(crate) static VERB: Verb = Verb {
    name: "garbage-collect",
    names: &["registry garbage-collect"],
    usage: "[OPTIONS]",
    about: "Remove what no manifest of a registry refers to, also while it runs",
    flags: &[&[
        Flag::switch("dry-run", "Show what would be removed"),
        Flag::value(
            "grace",
            "duration",
            "Keep what was pushed or asked for within this time, for its manifest may be on its way (default 1h)",
        ),
        ROOT,
        Flag::switch("untagged", "Also remove manifests that no tag leads to"),
    ]],
    arity: Arity::Exactly(0),
    stops_at_first_argument: false,
    run,
};

/// A push may take its time between its first blob and its manifest.
const GRACE: Duration = Duration::from_secs(3600);

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let options = CollectOptions {
        dry_run: m.switch("dry-run")?,
        untagged: m.switch("untagged")?,
        grace: m.read("grace", crate::duration::span)?.unwrap_or(GRACE),
    };
    let collected = registry::collect(&root(m, ui), &options)?;
    for (repository, digest) in &collected.manifests {
        writeln!(ui.out, "manifest {repository}@{digest}")?;
    }
    for (repository, digest) in &collected.blobs {
        writeln!(ui.out, "blob {repository}@{digest}")?;
    }
    for (digest, disk) in &collected.content {
        writeln!(ui.out, "content {digest} {}", show(*disk))?;
    }
    let disk = collected.content.iter().map(|(_, disk)| disk).sum();
    let total = if options.dry_run { "Would reclaim space" } else { "Total reclaimed space" };
    writeln!(ui.out, "{total}: {}", show(disk))?;
    for problem in &collected.problems {
        ui.warn(&format!("left alone: {}", chain(problem)));
    }
    Ok(if collected.problems.is_empty() { Exit::SUCCESS } else { Exit::FAILURE })
}
