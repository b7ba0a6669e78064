//! What is measured: one row a kind of work, with the budget it has now.

use super::engines::{Bench, Engine};
use super::measure::{self, Samples};
use crate::{output, run as run_command, top};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A limit in milliseconds of wall time, and of CPU time where there is one.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    /// Median wall time.
    pub(super) wall: f64,
    /// Median CPU time of the whole machine.
    pub(super) cpu: Option<f64>,
}

/// One row.
pub(super) struct Row {
    /// What is done.
    pub(super) name: &'static str,
    /// What ours may take.
    pub(super) budget: Budget,
    /// Before each go; `BENCH` is the container's name.
    before: &'static [&'static str],
    /// What is measured.
    work: &'static [&'static str],
    /// After each go.
    after: &'static [&'static str],
    /// Whether the program that starts processes without an engine, and the bare runtimes, stand beside it.
    pub(super) has_limit: bool,
}

const SLEEP: &[&str] = &["run", "-d", "--name", "bench", "IMAGE", "sleep", "1000"];
const REMOVE: &[&str] = &["rm", "-f", "bench"];

/// All rows; budgets are those of `SPEC.md`.
pub(super) const ROWS: [Row; 8] = [
    Row {
        name: "run --rm, bridge",
        budget: Budget { wall: 15.0, cpu: Some(15.0) },
        before: &[],
        work: &["run", "--rm", "IMAGE", "true"],
        after: &[],
        has_limit: false,
    },
    Row {
        name: "run --rm, no network",
        budget: Budget { wall: 20.0, cpu: Some(20.0) },
        before: &[],
        work: &["run", "--rm", "--network", "none", "IMAGE", "true"],
        after: &[],
        has_limit: true,
    },
    Row {
        name: "run -d until the id",
        budget: Budget { wall: 15.0, cpu: None },
        before: &[],
        work: SLEEP,
        after: REMOVE,
        has_limit: false,
    },
    Row {
        name: "exec true",
        budget: Budget { wall: 15.0, cpu: None },
        before: SLEEP,
        work: &["exec", "bench", "true"],
        after: REMOVE,
        has_limit: false,
    },
    Row {
        name: "rm -f of a running one",
        budget: Budget { wall: 15.0, cpu: None },
        before: SLEEP,
        work: REMOVE,
        after: &[],
        has_limit: false,
    },
    Row {
        name: "version",
        budget: Budget { wall: 3.0, cpu: None },
        before: &[],
        work: &["version"],
        after: &[],
        has_limit: false,
    },
    Row {
        name: "build, no cache",
        budget: Budget { wall: 300.0, cpu: None },
        before: &[],
        work: &["build", "-q", "--no-cache", "-t", "built", "CONTEXT"],
        after: &[],
        has_limit: false,
    },
    Row {
        name: "build, all cached",
        budget: Budget { wall: 20.0, cpu: None },
        before: &["build", "-q", "-t", "built", "CONTEXT"],
        work: &["build", "-q", "-t", "built", "CONTEXT"],
        after: &[],
        has_limit: false,
    },
];

/// One contender's figures in a row.
pub(super) struct Figures {
    /// Whose.
    pub(super) name: String,
    /// Its times.
    pub(super) samples: Samples,
}

impl Row {
    /// All contenders in turn, so that what else the machine does hits them alike.
    pub(super) fn measure(&self, bench: &Bench, rounds: usize) -> Result<Vec<Figures>> {
        let fill = |engine: &Engine, words: &[&'static str]| {
            let word = |word: &&'static str| match *word {
                "IMAGE" => bench.image.as_str(),
                "CONTEXT" => bench.context.as_str(),
                other => other,
            };
            let words: Vec<&str> = words.iter().map(word).collect();
            engine.command(&words)
        };
        let figures = |name: &str| Figures { name: name.to_owned(), samples: Samples::default() };
        let mut all: Vec<Figures> = bench.engines.iter().map(|engine| figures(engine.name)).collect();
        let bare = if self.has_limit { bare_contenders(bench) } else { Vec::new() };
        all.extend(bare.iter().map(|(name, _)| figures(name)));
        for _ in 0..rounds {
            for (engine, figures) in bench.engines.iter().zip(&mut all) {
                if !self.before.is_empty() {
                    measure::run(&fill(engine, self.before))?;
                }
                figures.samples.take(&fill(engine, self.work))?;
                if !self.after.is_empty() {
                    measure::run(&fill(engine, self.after))?;
                }
            }
            for ((_, command), figures) in bare.iter().zip(&mut all[bench.engines.len()..]) {
                figures.samples.take(command)?;
            }
        }
        Ok(all)
    }
}

/// The limit, and the runtimes that other engines call; those that cannot be had are told.
fn bare_contenders(bench: &Bench) -> Vec<(&'static str, Vec<String>)> {
    let mut found = Vec::new();
    for (name, command) in [("crun", runtime(bench, "crun")), ("runc", runtime(bench, "runc")), ("limit", limit(bench))]
    {
        match command.and_then(|command| measure::run(&command).map(|()| command)) {
            Ok(command) => found.push((name, command)),
            Err(error) => println!("{name} is missing: {error:#}"),
        }
    }
    found
}

fn limit(bench: &Bench) -> Result<Vec<String>> {
    let (program, work) = (bench.folder.join("limit"), bench.folder.join("limit-work"));
    run_command(
        Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(top().join("xtask/src/bench/limit.c")),
    )?;
    for name in ["upper", "work", "merged"] {
        fs::create_dir_all(work.join(name))?;
    }
    let text = |path: &Path| path.display().to_string();
    Ok(vec![text(&program), text(&bench.rootfs), text(&work), "/bin/true".into()])
}

/// A runtime on a bundle of its own: the configuration that it writes itself, without a terminal, with `true`.
fn runtime(bench: &Bench, name: &'static str) -> Result<Vec<String>> {
    let bundle = bench.folder.join(name);
    fs::create_dir_all(&bundle)?;
    output(Command::new(name).args(["spec", "--bundle"]).arg(&bundle)).context(name)?;
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["true"]);
    config["process"]["env"] = serde_json::json!(["PATH=/bin"]);
    // A root without CAP_SYS_RESOURCE cannot raise them.
    config["process"]["rlimits"] = serde_json::json!([]);
    // A name under one parent, whose account outlives each go.
    config["linux"]["cgroupsPath"] = format!("/libpod_parent/{name}").into();
    config["root"]["path"] = bench.rootfs.display().to_string().into();
    fs::write(&path, config.to_string())?;
    let root = bench.folder.join(format!("{name}-run"));
    let text = |path: &Path| path.display().to_string();
    Ok([name, "--root", &text(&root), "run", "--bundle", &text(&bundle), "bench"].map(str::to_owned).to_vec())
}

/// Resident and private memory in KiB of what looks after an idle container – the parent of its first process – where several run: pages
/// of the program itself are private to a monitor only as long as it is the only one.
pub(super) fn monitor(engine: &Engine, image: &str) -> Result<(u64, u64)> {
    let names = ["bench1", "bench2", "bench3", "bench4", "bench5"];
    for name in names {
        measure::run(&engine.command(&["run", "-d", "--name", name, image, "sleep", "1000"]))?;
    }
    let figures = names.map(|name| {
        let pid = engine.ask(&["inspect", "--format", "{{.State.Pid}}", name])?;
        measure::memory(measure::parent(pid.parse().context("a process id")?)?)
    });
    for name in names {
        measure::run(&engine.command(&["rm", "-f", name]))?;
    }
    let mut figures = figures.into_iter().collect::<Result<Vec<_>>>()?;
    figures.sort_by_key(|(_, private)| *private);
    Ok(figures[figures.len() / 2])
}
