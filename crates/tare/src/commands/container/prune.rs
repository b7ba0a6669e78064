//! `container prune`

use crate::cli::Verb;
use crate::commands::image::prune::{DRY_RUN, FILTERS, FORCE, line, show_plan};
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, bytes, image_filter};
use crate::table::Row;
use crate::ui::Ui;
use std::io::Write;
use tare_engine::container::prune::{ContainerPrune, PrunedContainer};
use tare_engine::image::ImageFilter;
use tare_spec::ContainerId;

pub(crate) static VERB: Verb = Verb {
    name: "prune",
    names: &["container prune"],
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: &[&[DRY_RUN, Flag::value("filter", "filter", "Provide filter values (e.g. \"until=<timestamp>\")"), FORCE]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let prune = selected(&image_filter::read(m, FILTERS)?);
    let engine = ui.engine()?;
    if m.switch("dry-run")? {
        let plan = engine.plan_container_prune(&prune)?;
        show_plan(ui, &planned(&plan), plan.iter().map(|container| container.disk).sum())?;
        return Ok(Exit::SUCCESS);
    }
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !m.switch("force")? && !ui.confirm(question)? {
        return Ok(Exit::SUCCESS);
    }
    let disk = report(ui, &engine.prune_containers(&prune)?)?;
    writeln!(ui.out, "Total reclaimed space: {}", bytes::show_sum(disk))?;
    Ok(Exit::SUCCESS)
}

/// The filters that containers and images share.
pub(crate) fn selected(filter: &ImageFilter) -> ContainerPrune {
    let ImageFilter { labels, without_labels, until, .. } = filter.clone();
    ContainerPrune { labels, without_labels, until }
}

/// The lines of what would be removed.
pub(crate) fn planned(plan: &[PrunedContainer]) -> Vec<Row> {
    plan.iter()
        .map(|PrunedContainer { container, disk }| {
            line("container", format!("{} ({})", container.id.short(), container.name), Some(*disk))
        })
        .collect()
}

/// What was removed, in Docker's words; the bytes that are free again.
pub(crate) fn report(ui: &mut Ui, removed: &[(ContainerId, u64)]) -> Result<u64, Failure> {
    if !removed.is_empty() {
        writeln!(ui.out, "Deleted Containers:")?;
        for (id, _) in removed {
            writeln!(ui.out, "{id}")?;
        }
        writeln!(ui.out)?;
    }
    Ok(removed.iter().map(|(_, disk)| disk).sum())
}
