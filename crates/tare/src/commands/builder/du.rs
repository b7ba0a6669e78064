//! `builder du`

use crate::cli::Verb;
use crate::duration;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, bytes, cache_filter};
use crate::printable::printable;
use crate::table::{Column, Row, render};
use crate::ui::Ui;
use std::collections::BTreeMap;
use std::io::Write;
use tare_engine::build::CacheRecord;

pub(crate) static VERB: Verb = Verb {
    name: "du",
    names: &["builder du", "buildx du"],
    usage: "[OPTIONS]",
    about: "Show the disk usage of the build cache",
    flags: &[&[
        Flag::value("filter", "filter", "Provide filter values"),
        Flag::value("format", "string", "Format the output"),
        Flag::switch("verbose", "Shorthand for \"--format=pretty\""),
        Flag::no_value("builder"),
        Flag::no_value("timeout"),
    ]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

const COLUMNS: &[Column] = &[
    ("ID", "ID"),
    ("CreatedAt", "CREATED AT"),
    ("Description", "DESCRIPTION"),
    ("LastUsedAt", "LAST ACCESSED"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Shared", "SHARED"),
    ("Size", "SIZE"),
    ("Type", "TYPE"),
    ("UsageCount", "USAGE COUNT"),
];

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let format = m.one("format").filter(|format| !format.is_empty());
    let verbose = m.switch("verbose")?;
    if verbose && format.is_some() {
        return Err(Failure::new("--format and --verbose cannot be used together"));
    }
    let filter = cache_filter::read(m)?;
    let all = ui.engine()?.build_cache()?;
    let records: Vec<&CacheRecord> = all.iter().filter(|record| filter.matches(record)).collect();
    let text = if verbose || format == Some("pretty") { pretty(&records) } else { listed(&all, &records, format)? };
    ui.out.write_all(text.as_bytes())?;
    // As Docker's: sums below the whole of it only.
    if format.is_none_or(|format| matches!(format, "table" | "pretty")) && !m.has("filter") {
        ui.out.write_all(sums(&records).as_bytes())?;
    }
    Ok(Exit::SUCCESS)
}

fn listed(all: &[CacheRecord], records: &[&CacheRecord], format: Option<&str>) -> Result<String, Failure> {
    let tabular = format.is_none_or(|format| format.starts_with("table"));
    let rows: Vec<Row> = records.iter().map(|record| row(record, tabular.then_some(all))).collect();
    render(format, COLUMNS, &["ID", "Reclaimable", "Size", "LastUsedAt"], &rows)
}

/// For a table, in which there are these records, or else for programs.
fn row(record: &CacheRecord, table: Option<&[CacheRecord]>) -> Row {
    let star = if table.is_some() && record.shared { "*" } else { "" };
    Row {
        fields: BTreeMap::from([
            ("ID", table.map_or(record.id.as_str(), |all| short(&record.id, all)).to_owned()),
            ("CreatedAt", duration::show(record.created)),
            ("Description", printable(record.description.as_bytes())),
            ("LastUsedAt", format!("{} ago", duration::since(record.last_used))),
            ("Reclaimable", (!record.in_use).to_string()),
            ("Shared", record.shared.to_string()),
            ("Size", format!("{}{star}", bytes::show_sum(record.size))),
            ("Type", record.kind.clone()),
            ("UsageCount", record.used.to_string()),
        ]),
        labels: BTreeMap::new(),
    }
}

/// The beginning of an id, as long as Docker's ids, unless another one begins so, too.
pub(super) fn short<'i>(id: &'i str, all: &[CacheRecord]) -> &'i str {
    const LENGTH: usize = 25;
    let short = id.get(..LENGTH).unwrap_or(id);
    if all.iter().any(|other| other.id != id && other.id.starts_with(short)) { id } else { short }
}

fn pretty(records: &[&CacheRecord]) -> String {
    let one = |record: &&CacheRecord| {
        let fields = row(record, None).fields;
        let lines = [
            ("ID:", "ID"),
            ("Created at:", "CreatedAt"),
            ("Reclaimable:", "Reclaimable"),
            ("Shared:", "Shared"),
            ("Size:", "Size"),
            ("Description:", "Description"),
            ("Usage count:", "UsageCount"),
            ("Last used:", "LastUsedAt"),
            ("Type:", "Type"),
        ];
        let text = |(label, name): (&str, &str)| format!("{label:13} {}\n", fields[name]);
        lines.into_iter().map(text).collect::<String>() + "\n"
    };
    records.iter().map(one).collect()
}

fn sums(records: &[&CacheRecord]) -> String {
    // What is free without them, as `builder prune` counts: what images have, too, stays.
    let disk = |of: &dyn Fn(&CacheRecord) -> bool| -> u64 {
        records.iter().filter(|record| of(record)).map(|record| record.disk).sum()
    };
    let shared: u64 = records.iter().filter(|record| record.shared).map(|record| record.size).sum();
    let private = disk(&|record| !record.shared);
    let mut lines = Vec::new();
    if records.iter().any(|record| record.shared) {
        lines.extend([("Shared:", shared), ("Private:", private)]);
    }
    lines.extend([("Reclaimable:", disk(&|record| !record.in_use)), ("Total:", shared + private)]);
    lines.into_iter().map(|(label, size)| format!("{label:15} {}\n", bytes::show_sum(size))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record that was used a while ago.
    pub(crate) fn record(id: &str, size: u64, shared: bool, in_use: bool) -> CacheRecord {
        let now = jiff::Timestamp::now();
        CacheRecord {
            id: id.to_owned(),
            kind: "regular".to_owned(),
            description: "[2/3] RUN make".to_owned(),
            size,
            disk: if shared { 0 } else { size },
            created: now - jiff::SignedDuration::from_hours(50),
            last_used: now - jiff::SignedDuration::from_secs(150),
            used: 3,
            in_use,
            shared,
        }
    }

    #[test]
    fn records_and_their_sums() {
        let all = [record("0123", 5_000_000, true, false), record("4567", 1_000, false, true)];
        let records: Vec<&CacheRecord> = all.iter().collect();
        assert_eq!(
            listed(&all, &records, None).unwrap() + &sums(&records),
            "ID        RECLAIMABLE   SIZE      LAST ACCESSED\n\
             0123      true          5MB*      2 minutes ago\n\
             4567      false         1kB       2 minutes ago\n\
             Shared:         5MB\n\
             Private:        1kB\n\
             Reclaimable:    0B\n\
             Total:          5.001MB\n"
        );
        assert_eq!(
            listed(&all, &records, Some("{{.ID}} {{.Size}} {{.Description}}")).unwrap().lines().next().unwrap(),
            "0123 5MB [2/3] RUN make"
        );
        assert!(pretty(&records[..1]).starts_with("ID:           0123\nCreated at:   2"), "{}", pretty(&records));
        assert_eq!(sums(&[]), "Reclaimable:    0B\nTotal:          0B\n");
    }

    #[test]
    fn ids_are_short_where_they_are_not_ambiguous() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let all = [&one, &two, &format!("{two}-1")].map(|id| record(id, 1, false, false));
        assert_eq!(all.each_ref().map(|record| short(&record.id, &all).len()), [25, 64, 66]);
        let line = listed(&all[..1], &[&all[0]], None).unwrap();
        assert!(line.lines().all(|line| line.len() <= 80), "{line}");
        // Programs get all of it.
        assert_eq!(listed(&all, &[&all[0]], Some("{{.ID}}")).unwrap().trim(), one);
    }
}
