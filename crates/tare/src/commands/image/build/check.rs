//! `--check` and `--call`: what a Dockerfile is, without building it.

use crate::excerpt;
use crate::failure::{Exit, Outcome};
use crate::printable::printable;
use crate::ui::Ui;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::io::Write;
use tare_engine::build::{Checked, Lines, Source, StageView, Warning};

/// Shows the warnings; there being some is a failure, unless that is not asked for.
pub(super) fn show(ui: &mut Ui, checked: &Checked, json: bool, ignore_status: bool) -> Outcome {
    let text = if json { warnings_json(checked) } else { warnings(checked) };
    ui.out.write_all(text.as_bytes())?;
    Ok(if checked.warnings.is_empty() || ignore_status { Exit::SUCCESS } else { Exit::FAILURE })
}

fn warnings(checked: &Checked) -> String {
    let mut text = match checked.warnings.len() {
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for Warning { check, lines, message, about } in &checked.warnings {
        let message = printable(message.as_bytes());
        text.push_str(&format!("\nWARNING: {check} - {about}\n{message}\n{}", excerpt::show(&checked.source, *lines)));
    }
    text
}

/// The form of BuildKit's `frontend.lint`.
fn warnings_json(checked: &Checked) -> String {
    let warning = |Warning { check, lines, message, about }: &Warning| json!({ "ruleName": check, "description": about, "detail": message, "location": location(*lines) });
    let all: Vec<Value> = checked.warnings.iter().map(warning).collect();
    let status = json!({ "warnings": all, "sources": [source(&checked.source)] });
    format!("{status:#}\n")
}

fn location(lines: Lines) -> Value {
    json!({ "ranges": [{ "start": { "line": lines.first }, "end": { "line": lines.last } }] })
}

fn source(source: &Source) -> Value {
    json!({ "filename": source.name, "language": "Dockerfile", "data": BASE64_STANDARD.encode(&source.text) })
}

/// The stages that can be built.
pub(super) fn targets(checked: &Checked, json: bool) -> String {
    if json {
        let stage = |stage: &StageView| {
            let mut target = json!({ "base": stage.base, "location": location(stage.lines) });
            if let Some(name) = &stage.name {
                target["name"] = name.as_str().into();
            }
            if let Some(platform) = &stage.platform {
                target["platform"] = platform.as_str().into();
            }
            if stage.default {
                target["default"] = true.into();
            }
            target
        };
        let all: Vec<Value> = checked.stages.iter().map(stage).collect();
        let sources = [BASE64_STANDARD.encode(&checked.source.text)];
        return format!("{:#}\n", json!({ "targets": all, "sources": sources }));
    }
    let name = |stage: &StageView| match (&stage.name, stage.default) {
        (Some(name), true) => Some(format!("{name} (default)")),
        (Some(name), false) => Some(name.clone()),
        (None, true) => Some("(default)".to_owned()),
        // One without a name can be asked for by nothing that lasts.
        (None, false) => None,
    };
    let rows = checked.stages.iter().filter_map(|stage| Some((name(stage)?, &stage.base)));
    let rows: Vec<(String, &String)> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("TARGET".len());
    let mut text = format!("{:width$} BASE\n", "TARGET");
    for (name, base) in rows {
        text.push_str(&format!("{:width$} {}\n", printable(name.as_bytes()), printable(base.as_bytes())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked() -> Checked {
        let stage = |name: Option<&str>, base: &str, line, default| StageView {
            name: name.map(str::to_owned),
            base: base.to_owned(),
            platform: None,
            lines: Lines { first: line, last: line },
            default,
        };
        Checked {
            source: Source { name: "Dockerfile".to_owned(), text: "FROM debian AS Build\nFROM scratch\n".to_owned() },
            warnings: vec![Warning {
                check: "StageNameCasing",
                lines: Lines { first: 1, last: 1 },
                message: "Stage name 'Build' should be lowercase".to_owned(),
                about: "Stage names should be lowercase",
            }],
            stages: vec![stage(Some("build"), "debian", 1, false), stage(None, "scratch", 2, true)],
        }
    }

    #[test]
    fn warnings_as_text_and_as_json() {
        assert_eq!(
            warnings(&checked()),
            "Check complete, 1 warning has been found!\n\
             \n\
             WARNING: StageNameCasing - Stage names should be lowercase\n\
             Stage name 'Build' should be lowercase\n\
             Dockerfile:1\n\
             --------------------\n   \
                1 | >>> FROM debian AS Build\n   \
                2 |     FROM scratch\n\
             --------------------\n"
        );
        assert_eq!(warnings(&Checked::default()), "Check complete, no warnings found.\n");
        let json: Value = serde_json::from_str(&warnings_json(&checked())).unwrap();
        assert_eq!(json["warnings"][0]["ruleName"], "StageNameCasing");
        assert_eq!(json["warnings"][0]["location"]["ranges"][0]["start"]["line"], 1);
        assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    }

    #[test]
    fn targets_by_name() {
        assert_eq!(targets(&checked(), false), "TARGET    BASE\nbuild     debian\n(default) scratch\n");
        let json: Value = serde_json::from_str(&targets(&checked(), true)).unwrap();
        assert_eq!(
            json["targets"][0],
            json!({"name": "build", "base": "debian", "location": location(Lines { first: 1, last: 1 })})
        );
        assert_eq!(json["targets"][1]["default"], true);
    }
}
