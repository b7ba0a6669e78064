//! `images`

use super::tree;
use crate::cli::Verb;
use crate::duration;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, TABLE_FORMAT, bytes, image_filter};
use crate::table::{self, Column, Row};
use crate::ui::{Ui, note};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use tare_engine::image::ImageSummary;
use tare_spec::ImageId;

pub(crate) static VERB: Verb = Verb {
    name: "images",
    names: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[&[
        Flag::switch("all", "Show all images (default hides dangling images)").short('a'),
        Flag::switch("digests", "Show digests"),
        Flag::value("filter", "filter", "Filter output based on conditions provided").short('f'),
        TABLE_FORMAT,
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
        Flag::switch("tree", "List the platforms of images as a tree"),
    ]],
    arity: Arity::AtMost(1),
    stops_at_first_argument: false,
    run,
};

pub(crate) const COLUMNS: &[Column] = &[
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
];

const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// How many containers each image has.
type Users = BTreeMap<ImageId, usize>;

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let all = m.switch("all")?;
    let digests = m.switch("digests")?;
    let no_trunc = m.switch("no-trunc")?;
    let quiet = m.switch("quiet")?;
    let expanded = m.switch("tree")?;
    let format = m.one("format").filter(|format| !format.is_empty());
    let tables = [("quiet", quiet), ("no-trunc", no_trunc), ("digests", digests), ("format", format.is_some())];
    let table = tables.iter().find(|(_, given)| *given);
    if let (true, Some((flag, _))) = (expanded, table) {
        return Err(Failure::new(format!("--{flag} is not yet supported with --tree")));
    }
    let mut filter = image_filter::read(m, FILTERS)?;
    filter.references.extend(m.args.first().cloned());
    let engine = ui.engine()?;
    let mut images = engine.images(&filter)?;
    if !all && filter.dangling != Some(true) {
        images.retain(|image| !image.tags.is_empty());
    }
    // Counting them reads a record of every container.
    let counted = table.is_none() || format.is_some_and(|format| format.contains("json") || format.contains("Contain"));
    let users = if counted { engine.image_users()? } else { Users::new() };
    if table.is_none() {
        ui.out.write_all(tree::render(&images, &users, expanded, tree::Screen::of_stdout()).as_bytes())?;
        hint_at_commands(m, images.len());
        return Ok(Exit::SUCCESS);
    }
    let format = match format {
        None | Some("table") if quiet => Some("{{.ID}}"),
        Some(format) if format.starts_with("table ") && digests && !format.contains("{{.Digest}}") => {
            return show(ui, &images, &users, Some(&format!("{format}\t{{{{.Digest}}}}")), true, !no_trunc);
        }
        format => format,
    };
    show(ui, &images, &users, format, digests, !no_trunc)?;
    hint_at_commands(m, images.len());
    Ok(Exit::SUCCESS)
}

fn show(
    ui: &mut Ui,
    images: &[ImageSummary],
    users: &Users,
    format: Option<&str>,
    digests: bool,
    truncate: bool,
) -> Outcome {
    let named = digests || format.is_some_and(|format| format.contains("{{.Digest}}"));
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| {
            let containers = users.get(&image.id).copied().unwrap_or(0);
            names(image, named, digests).into_iter().map(move |name| row(image, name, containers, truncate))
        })
        .collect();
    let shown: &[&str] = if digests {
        &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
    } else {
        &["Repository", "Tag", "ID", "CreatedSince", "Size"]
    };
    ui.out.write_all(table::render(format, COLUMNS, shown, &rows)?.as_bytes())?;
    Ok(Exit::SUCCESS)
}

/// `tare images ls` looks for images of that name, which is seldom meant.
fn hint_at_commands(m: &Matches, found: usize) {
    const VERBS: [&str; 13] =
        ["build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"];
    if let Some(word) = m.args.first().filter(|word| found == 0 && VERBS.contains(&word.as_str()))
        && m.path == "tare images"
    {
        note(&format!("No images found matching {word:?}: did you mean \"tare image {word}\"?\n"));
    }
}

/// Repository, tag and digest of a row.
type Name = (String, String, String);

/// The names of an image: one row a tag, as Docker lists images, and one for each repository that only has digests.
/// With `digests` known, a tag has a row for each digest of its repository; with `all_digests` every digest has one.
fn names(image: &ImageSummary, digests: bool, all_digests: bool) -> Vec<Name> {
    let none = || "<none>".to_owned();
    let of = |repository: &str| -> Vec<String> {
        let same = image.digests.iter().filter(|reference| reference.familiar_name() == repository);
        same.filter_map(|reference| reference.digest()).map(ToString::to_string).collect()
    };
    let mut names: Vec<Name> = Vec::new();
    for tag in &image.tags {
        let repository = tag.familiar_name();
        let tag = tag.tag().map_or_else(none, str::to_owned);
        let digests = if digests { of(&repository) } else { Vec::new() };
        if digests.is_empty() {
            names.push((repository, tag, none()));
        } else {
            names.extend(digests.into_iter().map(|digest| (repository.clone(), tag.clone(), digest)));
        }
    }
    let tagged: BTreeSet<String> = image.tags.iter().map(|tag| tag.familiar_name()).collect();
    let rest: BTreeSet<String> = image.digests.iter().map(|name| name.familiar_name()).collect();
    for repository in rest.difference(&tagged) {
        if all_digests {
            names.extend(of(repository).into_iter().map(|digest| (repository.clone(), none(), digest)));
        } else {
            names.push((repository.clone(), none(), String::new()));
        }
    }
    if names.is_empty() {
        names.push((none(), none(), none()));
    }
    names
}

fn row(image: &ImageSummary, (repository, tag, digest): Name, containers: usize, truncate: bool) -> Row {
    let id = if truncate { image.id.0.short().to_owned() } else { image.id.to_string() };
    let unknown = || "N/A".to_owned();
    Row {
        fields: BTreeMap::from([
            ("Containers", containers.to_string()),
            ("CreatedAt", image.created.map_or_else(unknown, duration::show)),
            ("CreatedSince", image.created.map_or_else(unknown, |at| format!("{} ago", duration::since(at)))),
            ("Digest", digest),
            ("ID", id),
            ("Repository", repository),
            ("SharedSize", unknown()),
            ("Size", bytes::show(image.size)),
            ("Tag", tag),
            ("UniqueSize", unknown()),
        ]),
        labels: BTreeMap::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tare_spec::{Digest, Platform, Reference};

    /// An image with these names.
    pub(crate) fn image(number: u8, names: &[&str]) -> ImageSummary {
        let digest = |n| Digest::from_sha256([n; 32]);
        let (digests, tags) = names
            .iter()
            .map(|name| Reference::parse(name).unwrap().with_default_tag())
            .partition(|name: &Reference| name.digest().is_some());
        ImageSummary {
            id: ImageId(digest(number)),
            manifest: digest(number + 100),
            index: None,
            tags,
            digests,
            created: None,
            platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None },
            labels: BTreeMap::new(),
            layers: Vec::new(),
            size: 12_345_678,
            content: 4_000_000,
        }
    }

    #[test]
    fn a_row_a_tag_and_digests_where_they_are_asked_for() {
        let digest = format!("sha256:{}", "aa".repeat(32));
        let by_digest = format!("web@{digest}");
        let shown = |names: &[&str], digests, all| -> Vec<String> {
            let rows = super::names(&image(1, names), digests, all);
            rows.iter().map(|(repository, tag, digest)| format!("{repository} {tag} {digest}")).collect()
        };
        assert_eq!(shown(&["web:1", "web:2", &by_digest], false, false), ["web 1 <none>", "web 2 <none>"]);
        let with = format!("web 1 {digest}");
        assert_eq!(shown(&["web:1", "app:1", &by_digest], true, true), [with, "app 1 <none>".to_owned()]);
        assert_eq!(shown(&[&by_digest], false, false), ["web <none> "]);
        assert_eq!(shown(&[&by_digest], true, true), [format!("web <none> {digest}")]);
        assert_eq!(shown(&[], true, true), ["<none> <none> <none>"]);
    }
}
