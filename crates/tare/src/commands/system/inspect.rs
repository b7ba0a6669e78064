//! `inspect`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::container::platform;
use crate::flags::parse::{Arity, Matches};
use crate::flags::{FORMAT, Flag};
use crate::template::{self, Template};
use crate::ui::{Ui, note};
use serde::Serialize;
use std::io::Write;
use tare_engine::Engine;
use tare_spec::{ErrorKind, Platform};

pub(crate) static VERB: Verb = Verb {
    name: "inspect",
    names: &["inspect"],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on containers and images",
    flags: &[&[
        FORMAT,
        Flag::value("type", "string", "Only inspect objects of the given type (container, image)"),
        Flag::no_switch("size").short('s'),
    ]],
    arity: Arity::AtLeast(1),
    stops_at_first_argument: false,
    run,
};

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
}

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let kind = match m.one("type").unwrap_or_default() {
        "" => None,
        "container" => Some(Kind::Container),
        "image" => Some(Kind::Image),
        other => return Err(Failure::new(format!("\"{other}\" is not a valid value for --type"))),
    };
    inspect(m, ui, kind)
}

/// Exit code for a template that cannot be read, as Docker's.
const BAD_TEMPLATE: u8 = 64;

/// Shows the objects that the arguments name.
pub(crate) fn inspect(m: &Matches, ui: &mut Ui, kind: Option<Kind>) -> Outcome {
    let format = m.one("format").filter(|format| !format.is_empty());
    let template = match format {
        None | Some("json") => None,
        Some(text) => Some(
            Template::parse(text)
                .map_err(|error| Failure::new(format!("template parsing error: {error}")).with_code(BAD_TEMPLATE))?,
        ),
    };
    let platform = if kind == Some(Kind::Image) { platform(m)? } else { None };
    let engine = ui.engine()?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &m.args {
        match find(&engine, name, kind, platform.as_ref()) {
            Ok(object) => found.push(object),
            Err(failure) => failures.push(failure),
        }
    }
    match (&template, format) {
        (None, None) => writeln!(ui.out, "{}", indented(&found)?)?,
        (None, Some(_)) => writeln!(ui.out, "{}", serde_json::to_string(&found).map_err(no_json)?)?,
        (Some(template), _) => {
            for object in &found {
                let mut json = serde_json::to_value(object).map_err(no_json)?;
                complete(&mut json);
                let text = template
                    .render(&template::value(&json))
                    .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
                writeln!(ui.out, "{text}")?;
            }
        }
    }
    ui.out.flush()?;
    failures.iter().for_each(|failure| note(&failure.message()));
    Ok(if failures.is_empty() { Exit::SUCCESS } else { Exit::FAILURE })
}

/// What was found. Its fields come in Docker's order.
#[derive(Serialize)]
#[serde(untagged)]
enum Object {
    Container(Box<tare_api::container::Container>),
    Image(Box<tare_api::image::Image>),
}

/// Containers come before images of the same name, as for Docker.
fn find(engine: &Engine, name: &str, kind: Option<Kind>, platform: Option<&Platform>) -> Result<Object, Failure> {
    if kind != Some(Kind::Image) {
        match engine.inspect(name) {
            Ok(details) => return Ok(Object::Container(Box::new((&details).into()))),
            Err(error) if kind.is_none() && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    match engine.inspect_image(name, platform) {
        Ok(image) => Ok(Object::Image(Box::new((&image).into()))),
        // A name that no image can have names no other object either.
        Err(error) if kind.is_none() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidParameter) => {
            Err(Failure::new(format!("No such object: {name}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Fields that Docker's JSON leaves out where they say nothing; in templates they are there, as text or as nothing.
const OPTIONAL: &[(&str, &[&str], &[&str])] = &[
    ("", &["Created", "OsVersion", "Variant"], &[]),
    ("/Config", &["StopSignal"], &["ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopTimeout"]),
    ("/State", &[], &["Health"]),
];

fn complete(object: &mut serde_json::Value) {
    for (part, texts, values) in OPTIONAL {
        let Some(part) = object.pointer_mut(part).and_then(serde_json::Value::as_object_mut) else { continue };
        for field in *texts {
            part.entry(*field).or_insert("".into());
        }
        for field in *values {
            part.entry(*field).or_insert(serde_json::Value::Null);
        }
    }
}

fn no_json(error: serde_json::Error) -> Failure {
    Failure::new(format!("write JSON: {error}"))
}

/// JSON with Docker's indentation of four spaces.
fn indented<T: Serialize>(objects: &[T]) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    objects.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(no_json)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_know_fields_that_say_nothing() {
        let mut image = serde_json::json!({"Id": "a", "Variant": "v7", "Config": {"Cmd": null}});
        complete(&mut image);
        assert_eq!((&image["Variant"], &image["OsVersion"]), (&"v7".into(), &"".into()));
        let config = image["Config"].as_object().unwrap();
        assert!(config.contains_key("Healthcheck") && !image.as_object().unwrap().contains_key("State"));
    }

    #[test]
    fn no_object_is_an_empty_list() {
        assert_eq!(indented::<()>(&[]).unwrap(), "[]");
        assert_eq!(indented(&[serde_json::json!({"Id": "a"})]).unwrap(), "[\n    {\n        \"Id\": \"a\"\n    }\n]");
    }
}
