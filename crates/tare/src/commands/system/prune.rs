//! `system prune`

use crate::cli::Verb;
use crate::commands::builder::prune as builds;
use crate::commands::container::prune as containers;
use crate::commands::image::prune as images;
use crate::commands::image::prune::{DRY_RUN, FILTERS, FORCE};
use crate::failure::{Exit, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, bytes, image_filter};
use crate::ui::Ui;
use std::io::Write;
use tare_engine::build::{CacheFilter, PruneBuilds};
use tare_engine::image::{ImageFilter, ImagePrune};

pub(crate) static VERB: Verb = Verb {
    name: "prune",
    names: &["system prune"],
    usage: "[OPTIONS]",
    about: "Remove unused data",
    flags: &[&[
        Flag::switch("all", "Remove all unused images not just dangling ones").short('a'),
        DRY_RUN,
        Flag::value("filter", "filter", "Provide filter values (e.g. \"label=<key>=<value>\")"),
        FORCE,
        Flag::no_switch("volumes"),
    ]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let all = m.switch("all")?;
    let filter = image_filter::read(m, FILTERS)?;
    let of_containers = containers::selected(&filter);
    let mut of_builds = of_builds(&filter, all);
    let mut of_images = ImagePrune { all, filter, ..ImagePrune::default() };
    let engine = ui.engine()?;
    if m.switch("dry-run")? {
        let planned = engine.plan_container_prune(&of_containers)?;
        // Their images are used no more then.
        of_images.without.containers = planned.iter().map(|container| container.container.id.clone()).collect();
        let plan = engine.plan_image_prune(&of_images)?;
        let mut disk = plan.disk() + planned.iter().map(|container| container.disk).sum::<u64>();
        let mut rows = containers::planned(&planned);
        rows.extend(images::planned(&plan));
        if let Some(of_builds) = &mut of_builds {
            of_builds.dry_run = true;
            of_builds.without_images = plan.images.iter().map(|image| image.id.clone()).collect();
            let pruned = engine.prune_builds(of_builds)?;
            rows.extend(builds::planned(&pruned));
            disk += pruned.reclaimed;
        }
        images::show_plan(ui, &rows, disk)?;
        return Ok(Exit::SUCCESS);
    }
    if !m.switch("force")? && !ui.confirm(&question(all, m.all("filter")))? {
        return Ok(Exit::SUCCESS);
    }
    let mut disk = containers::report(ui, &engine.prune_containers(&of_containers)?)?;
    let pruned = engine.prune_images(&of_images)?;
    images::report(ui, &pruned)?;
    disk += pruned.disk;
    if let Some(of_builds) = of_builds {
        let pruned = engine.prune_builds(&of_builds)?;
        builds::report(ui, &pruned)?;
        disk += pruned.reclaimed;
    }
    writeln!(ui.out, "Total reclaimed space: {}", bytes::show_sum(disk))?;
    Ok(Exit::SUCCESS)
}

/// What of the build cache goes with the rest. It has no labels, so that none of it is meant where labels are asked for.
fn of_builds(filter: &ImageFilter, all: bool) -> Option<PruneBuilds> {
    let by_label = !filter.labels.is_empty() || !filter.without_labels.is_empty();
    let filter = CacheFilter { unused_since: filter.until, ..CacheFilter::default() };
    (!by_label).then_some(PruneBuilds { all, filter, ..PruneBuilds::default() })
}

fn question<'a>(all: bool, filters: impl Iterator<Item = &'a String>) -> String {
    let images =
        if all { "all images without at least one container associated to them" } else { "all dangling images" };
    let cache = if all { "all build cache" } else { "unused build cache" };
    let mut text = format!("WARNING! This will remove:\n  - all stopped containers\n  - {images}\n  - {cache}\n");
    let mut filters: Vec<&String> = filters.collect();
    filters.sort();
    if !filters.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        filters.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
    }
    text + "\nAre you sure you want to continue?"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_not_of_the_build_cache() {
        let until = Some(jiff::Timestamp::UNIX_EPOCH);
        let filter = ImageFilter { until, ..ImageFilter::default() };
        let prune = of_builds(&filter, true).unwrap();
        assert_eq!((prune.all, prune.filter.unused_since), (true, until));
        assert_eq!(of_builds(&ImageFilter { labels: vec!["a".to_owned()], ..filter }, true), None);
    }

    #[test]
    fn the_question_says_what_goes() {
        assert_eq!(
            question(false, [].iter()),
            "WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n  - unused build cache\n\nAre you sure you want to continue?"
        );
        assert!(question(true, [].iter()).contains("  - all build cache\n"));
        let filters = ["until=24h".to_owned(), "label=a".to_owned()];
        assert!(question(true, filters.iter()).contains("filtered with:\n  - label=a\n  - until=24h\n\nAre you"));
    }
}
