//! `images`

use crate::cli::Verb;
use crate::duration;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, TABLE_FORMAT, bytes, filter, words};
use crate::table::{self, Column, Row};
use crate::ui::Ui;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Write;
use tare_engine::Engine;
use tare_engine::image::Image;
use tare_spec::reference::Reference;

pub(crate) static VERB: Verb = Verb {
    name: "images",
    names: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[&[
        Flag::switch("all", "Show all images (default hides intermediate images)").short('a'),
        Flag::switch("digests", "Show digests"),
        Flag::value("filter", "filter", "Filter output based on conditions provided").short('f'),
        TABLE_FORMAT,
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
        Flag::no_switch("tree"),
    ]],
    arity: Arity::AtMost(1),
    stops_at_first_argument: false,
    run,
};

const COLUMNS: &[Column] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
];

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    // There are no intermediate images that could be hidden.
    m.switch("all")?;
    let digests = m.switch("digests")?;
    let truncate = !m.switch("no-trunc")?;
    let quiet = m.switch("quiet")?;
    let engine = ui.engine()?;
    let mut filters = Filters::read(m, &engine)?;
    filters.references.extend(m.args.first().cloned());
    let images: Vec<Image> = engine.images()?.into_iter().filter(|image| filters.match_image(image)).collect();
    if quiet && m.one("format").is_none() {
        for image in &images {
            writeln!(ui.out, "{}", id(image, truncate))?;
        }
        return Ok(Exit::SUCCESS);
    }
    let rows: Vec<Row> = images.iter().flat_map(|image| rows(image, &filters, digests, truncate)).collect();
    let shown: &[&str] = if digests {
        &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
    } else {
        &["Repository", "Tag", "ID", "CreatedSince", "Size"]
    };
    ui.out.write_all(table::render(m.one("format"), COLUMNS, shown, &rows)?.as_bytes())?;
    Ok(Exit::SUCCESS)
}

fn id(image: &Image, truncate: bool) -> String {
    if truncate { image.id.0.short().to_owned() } else { image.id.to_string() }
}

/// When an image was made, as it says itself; images may leave that out.
fn created(image: &Image) -> Option<Timestamp> {
    image.config.created.as_deref().and_then(|text| text.parse().ok())
}

/// One row a name, as Docker lists images; an image without names has one row, too.
fn rows(image: &Image, filters: &Filters, digests: bool, truncate: bool) -> Vec<Row> {
    let digest_of = |repository: &str| {
        let same = image.digests.iter().find(|reference| reference.familiar_name() == repository);
        same.and_then(|reference| reference.digest()).map_or_else(|| "<none>".to_owned(), ToString::to_string)
    };
    let mut names: Vec<(String, String, String)> = Vec::new();
    for tag in image.tags.iter().filter(|tag| filters.match_name(tag)) {
        let repository = tag.familiar_name();
        let digest = digest_of(&repository);
        names.push((repository, tag.tag().unwrap_or("<none>").to_owned(), digest));
    }
    for reference in image.digests.iter().filter(|reference| filters.match_name(reference)) {
        let repository = reference.familiar_name();
        // A repository that is listed by a tag shows its digest there.
        if !names.iter().any(|(listed, ..)| *listed == repository) && (digests || image.tags.is_empty()) {
            let digest = digest_of(&repository);
            names.push((repository, "<none>".to_owned(), digest));
        }
    }
    if names.is_empty() && image.tags.is_empty() {
        names.push(("<none>".to_owned(), "<none>".to_owned(), "<none>".to_owned()));
    }
    let created = created(image);
    let size = bytes::show(image.size);
    names
        .into_iter()
        .map(|(repository, tag, digest)| Row {
            fields: BTreeMap::from([
                ("Containers", "N/A".to_owned()),
                ("CreatedAt", created.map_or_else(|| "N/A".to_owned(), duration::show)),
                ("CreatedSince", created.map_or_else(|| "N/A".to_owned(), |at| format!("{} ago", duration::since(at)))),
                ("Digest", digest),
                ("ID", id(image, truncate)),
                ("Repository", repository),
                ("SharedSize", "N/A".to_owned()),
                ("Size", size.clone()),
                ("Tag", tag),
                ("UniqueSize", "N/A".to_owned()),
                ("VirtualSize", size.clone()),
            ]),
            labels: BTreeMap::new(),
        })
        .collect()
}

#[derive(Default)]
struct Filters {
    references: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filters {
    fn read(m: &Matches, engine: &Engine) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for (name, value) in m.read_all("filter", filter::parse)? {
            match name.as_str() {
                "reference" => filters.references.push(value),
                "dangling" => {
                    let dangling = words::boolean(&value)
                        .map_err(|_| Failure::new(format!("invalid filter 'dangling={value}'")))?;
                    filters.dangling = Some(dangling);
                }
                "label" => filters.labels.push(value),
                "before" => filters.before = created(&engine.image(&value)?),
                "since" => filters.since = created(&engine.image(&value)?),
                "until" => return Err(Failure::new("--filter until is not supported yet")),
                _ => return Err(Failure::new(format!("invalid filter '{name}'"))),
            }
        }
        Ok(filters)
    }

    fn match_image(&self, image: &Image) -> bool {
        let config = image.config.config.as_ref();
        let label = |wanted: &String| {
            let (name, value) = wanted.split_once('=').map_or((wanted.as_str(), None), |(n, v)| (n, Some(v)));
            let label = config.and_then(|config| config.labels.get(name));
            label.is_some_and(|label| value.is_none_or(|value| value == label))
        };
        let made = created(image);
        self.dangling.is_none_or(|dangling| dangling == image.tags.is_empty())
            && self.labels.iter().all(label)
            && self.before.is_none_or(|before| made.is_some_and(|made| made < before))
            && self.since.is_none_or(|since| made.is_some_and(|made| made > since))
            && (self.references.is_empty() || image.tags.iter().chain(&image.digests).any(|name| self.match_name(name)))
    }

    /// Whether a name is one of those asked for: the familiar or the full one, with or without its tag.
    fn match_name(&self, name: &Reference) -> bool {
        let forms = [name.familiar(), name.familiar_name(), name.to_string(), name.without_version().to_string()];
        self.references.is_empty()
            || self.references.iter().any(|pattern| forms.iter().any(|form| matches(pattern, form)))
    }
}

/// Shell patterns: `*` and `?` do not match a slash, as in Go's `path.Match`.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern_rest, mut text_rest) = (pattern.chars(), text.chars());
    match (pattern_rest.next(), text_rest.next()) {
        (None, None) => true,
        (Some('*'), next) => {
            matches(pattern_rest.as_str(), text)
                || next.is_some_and(|letter| letter != '/') && matches(pattern, text_rest.as_str())
        }
        (Some('?'), Some(letter)) => letter != '/' && matches(pattern_rest.as_str(), text_rest.as_str()),
        (Some(wanted), Some(letter)) => wanted == letter && matches(pattern_rest.as_str(), text_rest.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_a_part_of_the_path() {
        for (pattern, text, expected) in [
            ("nginx", "nginx", true),
            ("ngin?", "nginx", true),
            ("n*:lat*", "nginx:latest", true),
            ("*", "library/nginx", false),
            ("*/*", "library/nginx", true),
            ("nginx", "nginx:latest", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
