//! `builder prune`

use super::du::short;
use crate::cli::Verb;
use crate::commands::image::prune::{DRY_RUN, FORCE, line, show_plan};
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, bytes, cache_filter};
use crate::table::Row;
use crate::ui::Ui;
use std::io::Write;
use tare_engine::build::{BuildsPruned, CacheRecord, PruneBuilds};

pub(crate) static VERB: Verb = Verb {
    name: "prune",
    names: &["builder prune", "buildx prune"],
    usage: "[OPTIONS]",
    about: "Remove build cache",
    flags: &[&[
        Flag::switch("all", "Remove all unused build cache, not just dangling ones").short('a'),
        DRY_RUN,
        Flag::value("filter", "filter", "Provide filter values (e.g. \"until=24h\")"),
        FORCE,
        Flag::value("keep-storage", "bytes", "Amount of disk space to keep for cache"),
        Flag::value("max-used-space", "bytes", "Maximum amount of disk space allowed to keep for cache"),
        Flag::value("reserved-space", "bytes", "Amount of disk space always allowed to keep for cache"),
        Flag::no_value("builder"),
        Flag::no_value("min-free-space"),
        Flag::no_value("timeout"),
        Flag::no_switch("verbose"),
    ]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let wish = wish(m)?;
    if wish.dry_run {
        let pruned = ui.engine()?.prune_builds(&wish)?;
        show_plan(ui, &planned(&pruned), pruned.reclaimed)?;
        return Ok(Exit::SUCCESS);
    }
    let what = if wish.all { "all build cache" } else { "all dangling build cache" };
    let question = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !m.switch("force")? && !ui.confirm(&question)? {
        return Ok(Exit::SUCCESS);
    }
    let pruned = ui.engine()?.prune_builds(&wish)?;
    report(ui, &pruned)?;
    writeln!(ui.out, "Total reclaimed space: {}", bytes::show_sum(pruned.reclaimed))?;
    Ok(Exit::SUCCESS)
}

fn wish(m: &Matches) -> Result<PruneBuilds, Failure> {
    let mut keep_storage = None;
    // Three names of one limit: what may stay although nothing uses it.
    for name in ["keep-storage", "reserved-space", "max-used-space"] {
        keep_storage = keep_storage.max(m.read(name, bytes::parse)?);
    }
    Ok(PruneBuilds {
        all: m.switch("all")?,
        filter: cache_filter::read(m)?,
        keep_storage,
        dry_run: m.switch("dry-run")?,
        ..PruneBuilds::default()
    })
}

/// The lines of what would be removed.
pub(crate) fn planned(pruned: &BuildsPruned) -> Vec<Row> {
    let row = |CacheRecord { id, description, disk, .. }: &CacheRecord| {
        let id = short(id, &pruned.removed);
        let name = if description.is_empty() { id.to_owned() } else { format!("{id} ({description})") };
        line("build cache", crate::printable::printable(name.as_bytes()), Some(*disk))
    };
    pruned.removed.iter().map(row).collect()
}

/// What was removed, in Docker's words.
pub(crate) fn report(ui: &mut Ui, pruned: &BuildsPruned) -> Result<(), Failure> {
    if !pruned.removed.is_empty() {
        writeln!(ui.out, "Deleted build cache objects:")?;
        for record in &pruned.removed {
            writeln!(ui.out, "{}", record.id)?;
        }
        writeln!(ui.out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::build::CacheFilter;

    fn read(words: &[&str]) -> Result<PruneBuilds, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let matches = Matches::parse(&VERB, "tare builder prune".to_owned(), &words).map_err(|f| f.message())?;
        wish(&matches).map_err(|failure| failure.message())
    }

    #[test]
    fn what_stays_is_the_largest_of_what_is_said() {
        let kept = |words: &[&str]| read(words).unwrap().keep_storage;
        assert_eq!(kept(&[]), None);
        assert_eq!(kept(&["--keep-storage", "1g"]), Some(1 << 30));
        assert_eq!(kept(&["--reserved-space=1m", "--max-used-space", "2m"]), Some(2 << 20));
    }

    #[test]
    fn filters() {
        let filter =
            read(&["-a", "--filter", "type=regular", "--filter", "type!=x", "--filter", "private=true"]).unwrap();
        assert!(filter.all);
        let expected = CacheFilter {
            kinds: vec!["regular".to_owned()],
            other_kinds: vec!["x".to_owned()],
            shared: Some(false),
            ..CacheFilter::default()
        };
        assert_eq!(filter.filter, expected);
        assert!(read(&["--filter", "until=24h"]).unwrap().filter.unused_since.is_some());
        for (words, expected) in [
            (&["--filter", "label=x"][..], "Error: invalid filter 'label'\n"),
            (&["--filter", "until=soon"], "Error: \"until\" filter expects a duration (e.g., '24h')\n"),
            (
                &["--filter", "until=1h", "--filter", "unused-for=2h"],
                "Error: \"unused-for\" filter expects only one value\n",
            ),
            (&["--filter", "shared=maybe"], "Error: invalid filter 'shared=[maybe]'\n"),
        ] {
            assert_eq!(read(words).unwrap_err(), expected);
        }
    }
}
