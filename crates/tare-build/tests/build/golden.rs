//! Dockerfiles and what is planned for them, or why not. `cargo xtask golden` writes the results anew.
//!
//! A case may have a file `options`, a line each: `target NAME`, `arg NAME=VALUE`, `label NAME=VALUE`, `allow ENTITLEMENT`, `platform PLATFORM`,
//! `context NAME=image:NAME` or `NAME=folder:PATH`, `epoch SECONDS`.

use jiff::Timestamp;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tare_build::dockerfile::parse;
use tare_build::executor::ExecutorError;
use tare_build::plan::{KnownImage, PlanOptions, plan};
use tare_build::request::{Entitlement, NamedContext, Times};
use tare_build::{Error, Result};
use tare_spec::image::{Config, History, ImageConfig};
use tare_spec::{ErrorKind, Platform};

#[test]
fn plans_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let rewrite = std::env::var("TARE_GOLDEN").as_deref() == Ok("1");
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 60, "only {} cases in {}", cases.len(), folder.display());
    for case in cases {
        let dockerfile = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let options = fs::read_to_string(case.join("options")).unwrap_or_default();
        let actual = match planned(&dockerfile, &options) {
            Ok(plan) => serde_json::to_string_pretty(&plan).unwrap() + "\n",
            Err(error) => {
                let lines = error.lines().map(|lines| format!("{}-{}", lines.first, lines.last));
                format!("error: {error}\nkind: {:?}\nlines: {}\n", error.kind(), lines.unwrap_or_default())
            }
        };
        let path = case.join("result");
        if rewrite {
            fs::write(&path, actual).unwrap();
        } else {
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if actual != expected {
                wrong.push(format!("{}:\n--- expected\n{expected}+++ actual\n{actual}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The plan with all warnings, without what is empty, and without the configurations that RUN repeats.
fn planned(text: &str, options: &str) -> Result<Value> {
    let dockerfile = parse(text)?;
    let labels: Vec<_> = of(options, "label").filter_map(pair).collect();
    let platform = Platform::parse(of(options, "platform").next().unwrap_or("linux/amd64")).unwrap();
    let epoch = of(options, "epoch").next().map(|text| Timestamp::from_second(text.parse().unwrap()).unwrap());
    let context = |(name, value): (String, String)| {
        let context = match value.split_once(':').unwrap() {
            ("image", image) => NamedContext::Image(image.to_owned()),
            (_, path) => NamedContext::Folder(path.into()),
        };
        (name, context)
    };
    let entitlement = |name: &str| match name {
        "network.host" => Entitlement::HostNetwork,
        "security.insecure" => Entitlement::Insecure,
        other => panic!("{other}"),
    };
    let options = PlanOptions {
        target: of(options, "target").next(),
        arguments: of(options, "arg").filter_map(pair).collect(),
        labels: &labels,
        platform,
        contexts: of(options, "context").filter_map(pair).map(context).collect(),
        allow: of(options, "allow").map(entitlement).collect(),
        times: epoch.map_or(Times::OfBase, Times::At),
        ..PlanOptions::default()
    };
    let mut plan = plan(&dockerfile, &options, &image)?;
    plan.warnings.splice(0..0, dockerfile.warnings);
    let mut value = serde_json::to_value(&plan).unwrap();
    for step in value["steps"].as_array_mut().unwrap() {
        if let Some(run) = step["action"].get_mut("run") {
            run["config"].take();
        }
    }
    strip(&mut value);
    Ok(value)
}

fn of<'o>(options: &'o str, name: &'o str) -> impl Iterator<Item = &'o str> {
    options.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn pair(text: &str) -> Option<(String, String)> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Takes away what says nothing, so that a result shows what is decided.
fn strip(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(fields) => {
            fields.values_mut().for_each(strip);
            fields.retain(|_, value| !is_empty(value));
        }
        _ => {}
    }
}

/// `base` has a bit of everything, `trigger` has ONBUILD, `bad-trigger` has one that is none, `missing` is not there; others are plain.
fn image(name: &str, platform: &Platform) -> Result<KnownImage> {
    if name == "missing" {
        return Err(Error::Executor(ExecutorError::new(ErrorKind::NotFound, "missing: not found")));
    }
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut config = Config { env: strings(&["PATH=/bin"]), ..Config::default() };
    let mut image = ImageConfig { created: Some("2024-05-06T07:08:09Z".to_owned()), ..ImageConfig::default() };
    match name {
        "base" => {
            config.env = strings(&["PATH=/bin", "LANG=C", "OF_BASE=yes"]);
            config.working_dir = "/base".to_owned();
            config.user = "app".to_owned();
            config.cmd = Some(strings(&["serve"]));
            config.labels = [("of".to_owned(), "base".to_owned())].into();
            image.created = Some("2025-01-02T03:04:05Z".to_owned());
            image.author = Some("somebody".to_owned());
            let created_by = Some("ADD rootfs /".to_owned());
            image.history = vec![History { created: image.created.clone(), created_by, ..History::default() }];
        }
        "trigger" => config.on_build = Some(strings(&["COPY package.json /app/", "ENV BUILT=1", "RUN install $BUILT"])),
        "bad-trigger" => config.on_build = Some(strings(&["COPPY a b"])),
        _ => {}
    }
    image.config = Some(config);
    Ok(KnownImage { resolved: format!("docker.io/library/{name}:latest for {platform}"), config: image })
}
