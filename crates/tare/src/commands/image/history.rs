//! `history`

use crate::cli::Verb;
use crate::duration;
use crate::failure::{Exit, Outcome};
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, TABLE_FORMAT, bytes};
use crate::table::{self, Column, Row, ellipsis};
use crate::ui::Ui;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::io::Write;
use tare_engine::image::HistoryStep;

pub(crate) static VERB: Verb = Verb {
    name: "history",
    names: &["image history", "history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    flags: &[&[
        TABLE_FORMAT,
        Flag::switch("human", "Print sizes and dates in human readable format (default true)").short('H'),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::value("platform", "string", "Show history for the given platform, \"os[/arch[/variant]]\""),
        Flag::switch("quiet", "Only show image IDs").short('q'),
    ]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

const COLUMNS: &[Column] = &[
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];

/// Columns of what a step did, where it is cut.
const CREATED_BY: usize = 45;

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let human = m.switch_or("human", true)?;
    let truncate = !m.switch("no-trunc")?;
    let quiet = m.switch("quiet")?;
    let steps = ui.engine()?.image_history(&m.args[0], platform(m)?.as_ref())?;
    let rows: Vec<Row> = steps.iter().map(|step| row(step, human, truncate)).collect();
    let format = match m.one("format") {
        None | Some("" | "table") if quiet => Some("{{.ID}}"),
        format => format,
    };
    let created = if human { "CreatedSince" } else { "CreatedAt" };
    let shown = ["ID", created, "CreatedBy", "Size", "Comment"];
    ui.out.write_all(table::render(format, COLUMNS, &shown, &rows)?.as_bytes())?;
    Ok(Exit::SUCCESS)
}

fn row(step: &HistoryStep, human: bool, truncate: bool) -> Row {
    let id = match &step.id {
        None => "<missing>".to_owned(),
        Some(id) if truncate => id.0.short().to_owned(),
        Some(id) => id.to_string(),
    };
    // What an image says of itself must not move the cursor.
    let plain = |text: &str| text.replace(char::is_control, " ");
    let created_by = plain(&step.created_by);
    let zoned = step.created.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned_datetime(TimeZone::system());
    let offset = if zoned.offset().is_zero() { "Z" } else { "%:z" };
    let created_at = zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S{offset}")).to_string();
    let created_since = match step.created.filter(|&at| at > year_2000()) {
        _ if !human => created_at.clone(),
        None => "N/A".to_owned(),
        Some(at) => format!("{} ago", duration::since(at)),
    };
    Row {
        fields: BTreeMap::from([
            ("Comment", plain(&step.comment)),
            ("CreatedAt", created_at),
            ("CreatedBy", if truncate { ellipsis(&created_by, CREATED_BY) } else { created_by }),
            ("CreatedSince", created_since),
            ("ID", id),
            ("Size", if human { bytes::show(step.size) } else { step.size.to_string() }),
        ]),
        labels: BTreeMap::new(),
    }
}

/// Reproducible builds date their steps before this, which no span in words would explain.
fn year_2000() -> Timestamp {
    Timestamp::from_second(946_684_800).expect("it is a second of this era")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_in_dockers_words() {
        let step = HistoryStep {
            id: None,
            tags: Vec::new(),
            created: Some(Timestamp::UNIX_EPOCH),
            created_by: format!("RUN /bin/sh -c\techo \x1b[2J {}", "x".repeat(40)),
            size: 12_345_678,
            comment: "buildkit".to_owned(),
        };
        let human = row(&step, true, true).fields;
        assert_eq!((human["ID"].as_str(), human["CreatedSince"].as_str()), ("<missing>", "N/A"));
        assert_eq!(human["CreatedBy"], format!("RUN /bin/sh -c echo  [2J {}…", "x".repeat(19)));
        assert_eq!(human["CreatedBy"].chars().count(), CREATED_BY);
        assert_eq!(human["Size"], "12.3MB");
        assert_eq!(row(&step, false, true).fields["Size"], "12345678");
    }
}
