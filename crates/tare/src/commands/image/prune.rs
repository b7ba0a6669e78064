//! `image prune`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, bytes, image_filter};
use crate::table::{self, Column, Row};
use crate::ui::Ui;
use std::collections::BTreeMap;
use std::io::Write;
use tare_engine::image::{ContentKind, ImagePrune, ImagePrunePlan, ImageRemoval, ImagesPruned};

pub(crate) static VERB: Verb = Verb {
    name: "prune",
    names: &["image prune"],
    usage: "[OPTIONS]",
    about: "Remove unused images",
    flags: &[&[
        Flag::switch("all", "Remove all unused images, not just dangling ones").short('a'),
        DRY_RUN,
        Flag::value("filter", "filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
        FORCE,
    ]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

/// Flags of everything that prunes.
pub(crate) const FORCE: Flag = Flag::switch("force", "Do not prompt for confirmation").short('f');
pub(crate) const DRY_RUN: Flag =
    Flag::switch("dry-run", "Show what would be removed and how large it is, and remove nothing");

/// Filters of everything that prunes.
pub(crate) const FILTERS: &[&str] = &["label", "label!", "until"];

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let all = m.switch("all")?;
    let known = [FILTERS, &["dangling"]].concat();
    let mut filter = image_filter::read(m, &known)?;
    // As with Docker, `dangling=false` says what --all says.
    let all = all || filter.dangling.take() == Some(false);
    let prune = ImagePrune { all, filter, ..ImagePrune::default() };
    let engine = ui.engine()?;
    if m.switch("dry-run")? {
        let plan = engine.plan_image_prune(&prune)?;
        show_plan(ui, &planned(&plan), plan.disk())?;
        return Ok(Exit::SUCCESS);
    }
    let what = if all { "all images without at least one container associated to them" } else { "all dangling images" };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !m.switch("force")? && !ui.confirm(&question)? {
        return Ok(Exit::SUCCESS);
    }
    let pruned = engine.prune_images(&prune)?;
    report(ui, &pruned)?;
    writeln!(ui.out, "Total reclaimed space: {}", bytes::show_sum(pruned.disk))?;
    Ok(Exit::SUCCESS)
}

/// What was removed, in Docker's words.
pub(crate) fn report(ui: &mut Ui, pruned: &ImagesPruned) -> Result<(), Failure> {
    if !pruned.removals.is_empty() {
        writeln!(ui.out, "Deleted Images:")?;
        for removal in &pruned.removals {
            match removal {
                ImageRemoval::Untagged(name) => writeln!(ui.out, "untagged: {name}")?,
                ImageRemoval::Deleted(digest) => writeln!(ui.out, "deleted: {digest}")?,
            }
        }
        writeln!(ui.out)?;
    }
    if pruned.deferred {
        ui.warn("an image is being pulled or a container started right now: content that nothing uses stays until the next prune");
    }
    Ok(())
}

const COLUMNS: &[Column] = &[("Type", "TYPE"), ("Name", "NAME"), ("Size", "SIZE")];

/// A line of what would be removed.
pub(crate) fn line(kind: &str, name: String, disk: Option<u64>) -> Row {
    Row {
        fields: BTreeMap::from([
            ("Type", kind.to_owned()),
            ("Name", name),
            ("Size", disk.map_or_else(String::new, bytes::show_sum)),
        ]),
        labels: BTreeMap::new(),
    }
}

/// The lines of a plan: names and images, then their content, whose sizes are what would be free again.
pub(crate) fn planned(plan: &ImagePrunePlan) -> Vec<Row> {
    let mut rows = Vec::new();
    for image in &plan.images {
        let names = image.tags.iter().chain(&image.digests);
        rows.extend(names.map(|name| line("tag", name.familiar(), None)));
        rows.push(line("image", image.id.to_string(), None));
    }
    rows.extend(plan.content.iter().map(|content| {
        let kind = match content.kind {
            ContentKind::Layer => "layer",
            ContentKind::Blob => "blob",
            ContentKind::Partial => "unfinished download",
        };
        line(kind, content.digest.to_string(), Some(content.disk))
    }));
    rows
}

/// Shows what would be removed.
pub(crate) fn show_plan(ui: &mut Ui, rows: &[Row], disk: u64) -> Result<(), Failure> {
    if !rows.is_empty() {
        let table = table::render(None, COLUMNS, &["Type", "Name", "Size"], rows)?;
        write!(ui.out, "Would be removed:\n\n{table}\n")?;
    }
    writeln!(ui.out, "Total space that would be reclaimed: {}", bytes::show_sum(disk))?;
    Ok(())
}
