//! What is told after a build.

use crate::excerpt;
use crate::failure::Failure;
use crate::flags::bytes;
use crate::printable::printable;
use crate::table::{self, Column, Row, ellipsis};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use tare_engine::build::{Built, ContextEntry, Source, StepDifference, StepReport, Warning};

/// What is probably not meant in the Dockerfile, each with its place; nothing when there is nothing.
pub(super) fn warnings(warnings: &[Warning], source: Option<&Source>) -> String {
    let count = match warnings.len() {
        0 => return String::new(),
        1 => "1 warning found".to_owned(),
        count => format!("{count} warnings found"),
    };
    let mut text = format!("\n {count} (`# check=skip=NAME` in the Dockerfile silences one):\n");
    for Warning { check, lines, message, .. } in warnings {
        text.push_str(&format!(" - {check}: {} (line {})\n", printable(message.as_bytes()), lines.first));
        text.push_str(&source.map(|source| excerpt::show(source, *lines)).unwrap_or_default());
    }
    text
}

/// What `-q` and `--iidfile` tell: an image's id, or the digest of several platforms' index.
pub(super) fn id(built: &Built) -> String {
    match built.images.as_slice() {
        [(_, id)] => id.to_string(),
        _ => built.digest.to_string(),
    }
}

/// `--metadata-file`, with the keys of buildx. Where there is no image there is nothing to tell of it.
pub(super) fn metadata(built: &Built, have_image: bool) -> String {
    let mut fields = BTreeMap::new();
    if have_image {
        fields.insert("containerimage.digest", built.digest.to_string());
        if let [(_, id)] = built.images.as_slice() {
            fields.insert("containerimage.config.digest", id.to_string());
        }
        if !built.names.is_empty() {
            let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
            fields.insert("image.name", names.join(","));
        }
    }
    // A map of strings always is JSON.
    serde_json::to_string_pretty(&fields).unwrap_or_default()
}

const EXPLAIN: &[Column] = &[("Step", "STEP"), ("Cached", "CACHED"), ("Why", "WHY")];

/// Titles are cut to this on terminals, so that the reason stands beside them.
const LONGEST_TITLE: usize = 60;

/// `--explain`
pub(super) fn explain(steps: &[StepReport]) -> Result<String, Failure> {
    let longest = if std::io::stdout().is_terminal() { LONGEST_TITLE } else { usize::MAX };
    let row = |StepReport { title, cached, why, .. }: &StepReport| Row {
        fields: BTreeMap::from([
            ("Step", ellipsis(&printable(title.replace('\n', " ").as_bytes()), longest)),
            ("Cached", if *cached { "yes" } else { "no" }.to_owned()),
            ("Why", printable(why.as_bytes())),
        ]),
        labels: BTreeMap::new(),
    };
    let rows: Vec<Row> = steps.iter().map(row).collect();
    table::render(None, EXPLAIN, &["Step", "Cached", "Why"], &rows)
}

const CONTEXT: &[Column] = &[("Size", "SIZE"), ("Path", "PATH"), ("Rule", "LEFT OUT BY")];

/// `--explain-context`: the sums, then the files by size, those that are left out last.
pub(super) fn context(entries: &[ContextEntry]) -> Result<String, Failure> {
    let mut sorted: Vec<&ContextEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |entry: &ContextEntry| (entry.ignored_by.is_some(), std::cmp::Reverse(entry.size));
        key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
    });
    let sum = |left_out: bool| {
        let of = entries.iter().filter(move |entry| entry.ignored_by.is_some() == left_out);
        let count = of.clone().count();
        let plural = if count == 1 { "" } else { "s" };
        format!("{} in {count} file{plural}", bytes::show_sum(of.map(|entry| entry.size).sum()))
    };
    let row = |entry: &&ContextEntry| Row {
        fields: BTreeMap::from([
            ("Size", bytes::show_sum(entry.size)),
            ("Path", printable(entry.path.as_bytes())),
            (
                "Rule",
                entry
                    .ignored_by
                    .as_ref()
                    .map_or_else(String::new, |(line, rule)| format!("line {line}: {}", printable(rule.as_bytes()))),
            ),
        ]),
        labels: BTreeMap::new(),
    };
    let rows: Vec<Row> = sorted.iter().map(row).collect();
    let table = table::render(None, CONTEXT, &["Size", "Path", "Rule"], &rows)?;
    Ok(format!("Sent:     {}\nLeft out: {}\n\n{table}", sum(false), sum(true)))
}

const DIFFERENCES: &[Column] = &[("Path", "PATH"), ("How", "DIFFERS IN")];

/// What differs between two builds, step by step.
pub(super) fn differences(steps: &[StepDifference]) -> Result<String, Failure> {
    let mut text = String::new();
    for StepDifference { step, files } in steps {
        let row = |file: &tare_engine::build::FileDifference| Row {
            fields: BTreeMap::from([("Path", printable(file.path.as_bytes())), ("How", file.how.clone())]),
            labels: BTreeMap::new(),
        };
        let rows: Vec<Row> = files.iter().map(row).collect();
        let table = table::render(None, DIFFERENCES, &["Path", "How"], &rows)?;
        text.push_str(&format!("{}\n\n{table}\n", printable(step.replace('\n', " ").as_bytes())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::build::{FileDifference, Lines};
    use tare_spec::{Digest, ImageId, Platform, Reference};

    fn built(platforms: &[&str]) -> Built {
        let image = |(index, name): (usize, &&str)| {
            let number = u8::try_from(index).unwrap();
            (Platform::parse(name).unwrap(), ImageId(Digest::from_sha256([number; 32])))
        };
        Built {
            images: platforms.iter().enumerate().map(image).collect(),
            digest: Digest::from_sha256([9; 32]),
            names: ["web", "127.0.0.1:5000/web:2"]
                .map(|name| Reference::parse(name).unwrap().with_default_tag())
                .to_vec(),
            steps: Vec::new(),
            warnings: Vec::new(),
            source: Source::default(),
        }
    }

    #[test]
    fn metadata_has_the_keys_of_buildx() {
        let (zero, nine) = ("00".repeat(32), "09".repeat(32));
        assert_eq!(
            metadata(&built(&["linux/amd64"]), true),
            format!(
                "{{\n  \"containerimage.config.digest\": \"sha256:{zero}\",\n  \"containerimage.digest\": \"sha256:{nine}\",\n  \
                 \"image.name\": \"docker.io/library/web:latest,127.0.0.1:5000/web:2\"\n}}"
            )
        );
        let two = metadata(&built(&["linux/amd64", "linux/arm64"]), true);
        assert!(!two.contains("config.digest") && two.contains("containerimage.digest"), "{two}");
        assert_eq!(metadata(&built(&["linux/amd64"]), false), "{}");
        assert_eq!(id(&built(&["linux/amd64"])), format!("sha256:{zero}"));
        assert_eq!(id(&built(&["linux/amd64", "linux/arm64"])), format!("sha256:{nine}"));
    }

    #[test]
    fn warnings_come_with_their_places() {
        let source = Source { name: "Dockerfile".to_owned(), text: "FROM busybox AS Base\nRUN true\n".to_owned() };
        let warning = Warning {
            check: "StageNameCasing",
            lines: Lines { first: 1, last: 1 },
            message: "Stage name 'Base' should be lowercase".to_owned(),
            about: "",
        };
        assert_eq!(
            warnings(&[warning], Some(&source)),
            "\n 1 warning found (`# check=skip=NAME` in the Dockerfile silences one):\n \
             - StageNameCasing: Stage name 'Base' should be lowercase (line 1)\n\
             Dockerfile:1\n\
             --------------------\n   \
                1 | >>> FROM busybox AS Base\n   \
                2 |     RUN true\n\
             --------------------\n"
        );
        assert_eq!(warnings(&[], Some(&source)), "");
    }

    #[test]
    fn steps_say_why_they_ran() {
        let step = |title: &str, cached, why: &str| StepReport {
            title: title.to_owned(),
            lines: None,
            cached,
            why: why.to_owned(),
        };
        assert_eq!(
            explain(&[
                step("[1/2] FROM busybox", true, "cached"),
                step("[2/2] COPY . .", false, "package.json changed")
            ])
            .unwrap(),
            "STEP                 CACHED    WHY\n\
             [1/2] FROM busybox   yes       cached\n\
             [2/2] COPY . .       no        package.json changed\n"
        );
    }

    #[test]
    fn the_context_by_size() {
        let entry = |path: &str, size, rule: Option<(usize, &str)>| ContextEntry {
            path: path.to_owned(),
            size,
            ignored_by: rule.map(|(line, rule)| (line, rule.to_owned())),
        };
        assert_eq!(
            context(&[entry("a", 5, None), entry("b.log", 7000, Some((2, "*.log"))), entry("big", 1_500_000, None)])
                .unwrap(),
            "Sent:     1.5MB in 2 files\n\
             Left out: 7kB in 1 file\n\
             \n\
             SIZE      PATH      LEFT OUT BY\n\
             1.5MB     big       \n\
             5B        a         \n\
             7kB       b.log     line 2: *.log\n"
        );
    }

    #[test]
    fn differences_by_step() {
        let file = |path: &str, how: &str| FileDifference { path: path.to_owned(), how: how.to_owned() };
        let step = StepDifference {
            step: "RUN date > /now".to_owned(),
            files: vec![file("/now", "contents"), file("/tmp", "time")],
        };
        assert_eq!(
            differences(&[step]).unwrap(),
            "RUN date > /now\n\nPATH      DIFFERS IN\n/now      contents\n/tmp      time\n\n"
        );
    }
}
