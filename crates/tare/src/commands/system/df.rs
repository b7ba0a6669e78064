//! `system df`

use crate::cli::Verb;
use crate::commands::container::ls as containers;
use crate::commands::image::ls as images;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, TABLE_FORMAT, bytes};
use crate::printable::printable;
use crate::table::{self, Column, Row};
use crate::template::{self, Template};
use crate::ui::Ui;
use crate::{duration, flags};
use std::collections::BTreeMap;
use std::io::Write;
use tare_engine::build::CacheRecord;
use tare_engine::image::{DiskUsage, ImageUsage, Usage};

pub(crate) static VERB: Verb = Verb {
    name: "df",
    names: &["system df"],
    usage: "[OPTIONS]",
    about: "Show disk usage of images, containers and the build cache",
    flags: &[&[TABLE_FORMAT, Flag::switch("verbose", "Show detailed information on space usage").short('v')]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

const COLUMNS: &[Column] = &[
    ("Active", "ACTIVE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("ReclaimableBytes", "RECLAIMABLE"),
    ("Size", "SIZE"),
    ("SizeBytes", "SIZE"),
    ("TotalCount", "TOTAL"),
    ("Type", "TYPE"),
];

const VOLUMES: &[Column] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

const BUILD_CACHE: &[Column] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Description", "DESCRIPTION"),
    ("InUse", "IN USE"),
    ("LastUsedAt", "LAST USED AT"),
    ("LastUsedSince", "LAST USED"),
    ("Shared", "SHARED"),
    ("Size", "SIZE"),
    ("UsageCount", "USAGE"),
];

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let verbose = m.switch("verbose")?;
    let format = m.one("format").filter(|format| !format.is_empty());
    let engine = ui.engine()?;
    let (usage, mut cache) = (engine.disk_usage()?, engine.build_cache()?);
    // As Docker's: what was not used for long comes first.
    cache.sort_by(|a, b| (a.last_used, &a.id).cmp(&(b.last_used, &b.id)));
    let text = match (verbose, format) {
        (false, format) => {
            let shown = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
            table::render(format, COLUMNS, &shown, &summary(&usage, &cache))?
        }
        (true, None | Some("table")) => sections(&usage, &cache)?,
        (true, Some(format)) => filled(&usage, &cache, format)?,
    };
    ui.out.write_all(text.as_bytes())?;
    Ok(Exit::SUCCESS)
}

/// A line a kind of objects.
fn summary(usage: &DiskUsage, cache: &[CacheRecord]) -> Vec<Row> {
    let line = |kind: &str, count: usize, active: usize, size: u64, reclaimable: u64| Row {
        fields: BTreeMap::from([
            ("Type", kind.to_owned()),
            ("TotalCount", count.to_string()),
            ("Active", active.to_string()),
            ("Size", bytes::show_sum(size)),
            ("SizeBytes", size.to_string()),
            // Docker has no share of the build cache.
            ("Reclaimable", if kind == CACHE { bytes::show_sum(reclaimable) } else { share(reclaimable, size) }),
            ("ReclaimableBytes", reclaimable.to_string()),
        ]),
        labels: BTreeMap::new(),
    };
    fn of<T>(usage: &Usage<T>) -> (usize, usize, u64, u64) {
        (usage.items.len(), usage.active, usage.size, usage.reclaimable)
    }
    let (images, containers) = (of(&usage.images), of(&usage.containers));
    let free = cache.iter().filter(|record| !record.in_use).map(|record| record.disk).sum();
    let mut lines = vec![
        line("Images", images.0, images.1, images.2, images.3),
        line("Containers", containers.0, containers.1, containers.2, containers.3),
        line("Local Volumes", 0, 0, 0, 0),
        line(CACHE, cache.len(), cache.iter().filter(|record| record.in_use).count(), usage.builds, free),
    ];
    // Docker has no such line; nor has who runs no registry.
    if usage.registry > 0 {
        lines.push(line("Registry", 1, 0, usage.registry, 0));
    }
    lines
}

/// What the summary calls the build cache.
const CACHE: &str = "Build Cache";

/// `12.3MB (45%)`
fn share(part: u64, whole: u64) -> String {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole));
    let shown = bytes::show_sum(part);
    percent.map_or_else(|| shown.clone(), |percent| format!("{shown} ({percent}%)"))
}

fn sections(usage: &DiskUsage, cache: &[CacheRecord]) -> Result<String, Failure> {
    let images = table::render(
        None,
        images::COLUMNS,
        &["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"],
        &image_rows(usage, true),
    )?;
    let containers = table::render(
        None,
        containers::COLUMNS,
        &["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
        &container_rows(usage, true),
    )?;
    let names = |columns: &[Column]| columns.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let volumes = table::render(None, VOLUMES, &names(VOLUMES), &[])?;
    let shown = ["ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"];
    let records = table::render(None, BUILD_CACHE, &shown, &cache_rows(cache, true))?;
    let size = bytes::show_sum(usage.builds);
    let partial = match usage.partial {
        0 => String::new(),
        size => format!("\nUnfinished downloads: {}\n", flags::bytes::show_sum(size)),
    };
    let registry = match usage.registry {
        0 => String::new(),
        size => format!("\nRegistry space usage: {}\n", flags::bytes::show_sum(size)),
    };
    Ok(format!(
        "Images space usage:\n\n{images}{partial}\nContainers space usage:\n\n{containers}\nLocal Volumes space usage:\n\n{volumes}\nBuild cache usage: {size}\n\n{records}{registry}"
    ))
}

/// All of it at once in one template, as Docker's `df -v` has it.
fn filled(usage: &DiskUsage, cache: &[CacheRecord], format: &str) -> Result<String, Failure> {
    let list =
        |rows: Vec<Row>| -> serde_json::Value { rows.into_iter().map(|row| serde_json::json!(row.fields)).collect() };
    let all = serde_json::json!({
        "Images": list(image_rows(usage, false)),
        "Containers": list(container_rows(usage, false)),
        "Volumes": [],
        "BuildCache": list(cache_rows(cache, false)),
    });
    if format == "json" {
        return Ok(format!("{all}\n"));
    }
    let template = Template::parse(format).map_err(|error| template::failed("parse", &error))?;
    Ok(template.render(&template::value(&all)).map_err(|error| template::failed("execute", &error))? + "\n")
}

fn image_rows(usage: &DiskUsage, truncate: bool) -> Vec<Row> {
    let row = |item: &ImageUsage| {
        let ImageUsage { image, size, shared, containers } = item;
        let none = || "<none>".to_owned();
        let name = image.tags.first();
        let created = |show: fn(jiff::Timestamp) -> String| image.created.map_or_else(|| "N/A".to_owned(), show);
        Row {
            fields: BTreeMap::from([
                ("Containers", containers.to_string()),
                ("CreatedAt", created(duration::show)),
                ("CreatedSince", created(|at| format!("{} ago", duration::since(at)))),
                ("Digest", image.digests.first().and_then(|name| name.digest()).map_or_else(none, ToString::to_string)),
                ("ID", if truncate { image.id.0.short().to_owned() } else { image.id.to_string() }),
                ("Repository", name.map_or_else(none, |name| name.familiar_name())),
                ("SharedSize", bytes::show_sum(*shared)),
                ("Size", bytes::show_sum(*size)),
                ("Tag", name.and_then(|name| name.tag()).map_or_else(none, str::to_owned)),
                ("UniqueSize", bytes::show_sum(size - shared)),
            ]),
            labels: BTreeMap::new(),
        }
    };
    usage.images.items.iter().map(row).collect()
}

fn cache_rows(cache: &[CacheRecord], truncate: bool) -> Vec<Row> {
    let row = |record: &CacheRecord| {
        let id = if truncate { record.id.chars().take(12).collect() } else { record.id.clone() };
        Row {
            fields: BTreeMap::from([
                ("ID", if record.in_use { format!("{id}*") } else { id }),
                ("CacheType", record.kind.clone()),
                ("CreatedAt", duration::show(record.created)),
                ("CreatedSince", format!("{} ago", duration::since(record.created))),
                ("Description", printable(record.description.as_bytes())),
                ("InUse", record.in_use.to_string()),
                ("LastUsedAt", duration::show(record.last_used)),
                ("LastUsedSince", format!("{} ago", duration::since(record.last_used))),
                ("Shared", record.shared.to_string()),
                ("Size", bytes::show(record.size)),
                ("UsageCount", record.used.to_string()),
            ]),
            labels: BTreeMap::new(),
        }
    };
    cache.iter().map(row).collect()
}

fn container_rows(usage: &DiskUsage, truncate: bool) -> Vec<Row> {
    let items = usage.containers.items.iter().map(|item| {
        let mut row = containers::row(&item.container, truncate);
        row.fields.insert("Size", bytes::show_sum(item.size));
        row
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::builder::du::tests::record;

    fn usage() -> DiskUsage {
        let image = images::tests::image(1, &["web:1"]);
        let item = ImageUsage { image, size: 12_345_678, shared: 2_345_678, containers: 2 };
        DiskUsage {
            images: Usage { items: vec![item], active: 1, size: 13_000_000, reclaimable: 6_500_000 },
            containers: Usage { items: Vec::new(), active: 0, size: 4096, reclaimable: 0 },
            builds: 3_000,
            registry: 0,
            partial: 0,
        }
    }

    fn cache() -> Vec<CacheRecord> {
        vec![record("0123456789abcdef", 1_000, false, false), record("fedcba9876543210", 2_000, false, true)]
    }

    #[test]
    fn a_line_a_kind() {
        let shown = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
        assert_eq!(
            table::render(None, COLUMNS, &shown, &summary(&usage(), &cache())).unwrap(),
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          1         1         13MB      6.5MB (50%)\n\
             Containers      0         0         4.096kB   0B (0%)\n\
             Local Volumes   0         0         0B        0B\n\
             Build Cache     2         1         3kB       1kB\n"
        );
        let lines = summary(&DiskUsage { registry: 8192, ..usage() }, &[]);
        assert_eq!((lines.len(), &*lines[4].fields["Type"], &*lines[4].fields["Size"]), (5, "Registry", "8.192kB"));
    }

    #[test]
    fn in_detail() {
        let text = sections(&usage(), &cache()).unwrap();
        assert!(
            text.starts_with("Images space usage:\n\nREPOSITORY   TAG       IMAGE ID       CREATED   SIZE"),
            "{text}"
        );
        assert!(
            text.contains("web          1         010101010101   N/A       12.35MB   2.346MB       10MB          2"),
            "{text}"
        );
        assert!(
            text.contains("\nBuild cache usage: 3kB\n\nCACHE ID        CACHE TYPE   SIZE      CREATED      LAST USED"),
            "{text}"
        );
        let last = "fedcba987654*   regular      2kB       2 days ago   2 minutes ago   3         false\n";
        assert!(text.ends_with(last), "{text}");
        let filled = filled(&usage(), &cache(), "{{range .Images}}{{.Repository}} {{.UniqueSize}}{{end}}").unwrap();
        assert_eq!(filled, "web 10MB\n");
    }
}
