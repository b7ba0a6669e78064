//! Measures ours beside the peers, in turn, in one run. Never a test: a busy machine must not make one fail.

mod engines;
mod images;
mod measure;
mod rows;

use crate::{cargo, is_root, output, run as run_command};
use anyhow::{Context, Result, bail};
use engines::Bench;
use rows::{Budget, Figures, ROWS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set inside the namespaces; holds the program to measure.
const INSIDE: &str = "TARE_BENCH_PROGRAM";

/// Builds a release and measures it in network, mount and process namespaces of its own: bridges, mounts and daemons go with them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(program) = std::env::var_os(INSIDE) {
        return inside(Path::new(&program), arguments);
    }
    if !is_root() {
        bail!("engines are measured as root");
    }
    run_command(&mut cargo(["build", "--release", "--package", "tare"]))?;
    let program = release_program()?;
    let before = cgroups();
    let account = measure::Account::enter()?;
    let result = run_command(
        Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(std::env::current_exe()?)
            .arg("bench")
            .args(arguments)
            .env(INSIDE, program),
    );
    drop(account);
    // Daemons that were ended with their namespace leave empty cgroups; the deepest come last in order.
    let peers = ["docker", "libpod_parent", "bench", "hugetlb"];
    let new: Vec<PathBuf> = cgroups().difference(&before).cloned().collect();
    for folder in new.iter().rev().filter(|folder| folder.iter().any(|part| peers.iter().any(|peer| part == *peer))) {
        // One that somebody else uses meanwhile stays.
        let _ = std::fs::remove_dir(folder);
    }
    result
}

fn inside(program: &Path, arguments: &[String]) -> Result<()> {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let words: Vec<&String> = arguments.iter().filter(|argument| *argument != "--quick").collect();
    let folder = PathBuf::from(output(Command::new("mktemp").arg("-d"))?.trim());
    std::env::set_current_dir(&folder)?;
    let result = measure_all(program, &folder, quick, &words);
    // Mounts below it are only in our namespace; a plain removal would go into them.
    let _ = Command::new("sh")
        .args(["-c", "grep -o ' '\"$0\"'/[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l"])
        .arg(&folder)
        .status();
    std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    result
}

fn measure_all(program: &Path, folder: &Path, quick: bool, words: &[&String]) -> Result<()> {
    let bench = Bench::set_up(folder, program)?;
    let rounds = if quick { 7 } else { 31 };
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("{rounds} rounds; CPU of {} until 40 ms after the answer", measure::Account::covers());
    println!("load of the machine before: {}; where it is busy, look at the minima", load.trim());
    println!("\n{:24}{:10}{:>10}{:>10}{:>10}{:>9}  budget", "work", "who", "median ms", "min ms", "CPU ms", "x ours");
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    for row in ROWS.iter().filter(|row| chosen(row.name)) {
        let figures = row.measure(&bench, rounds).with_context(|| row.name)?;
        print(row.name, row.budget, figures);
    }
    measure_images(&bench, quick, &chosen)?;
    if chosen("monitor memory") {
        println!(
            "\n{:24}{:10}{:>14}{:>14}{:>22}",
            "monitor memory, 5 idle", "who", "private KiB", "resident KiB", "budget"
        );
        for engine in &bench.engines {
            let (resident, private) = rows::monitor(engine, &bench.image)?;
            let budget = (engine.name == "tare").then(|| format!("307 KiB: {}", verdict(private <= 307)));
            println!("{:24}{:10}{private:>14}{resident:>14}{:>22}", "", engine.name, budget.unwrap_or_default());
        }
    }
    Ok(())
}

fn measure_images(bench: &Bench, quick: bool, chosen: &dyn Fn(&str) -> bool) -> Result<()> {
    let memory = "pull big, memory";
    if !images::ROWS.iter().map(|row| row.name).chain([memory]).any(chosen) {
        return Ok(());
    }
    let set_up = images::Images::set_up(bench)?;
    for row in images::ROWS.iter().filter(|row| chosen(row.name)) {
        let figures = row.measure(bench, &set_up, if quick { 2 } else { 5 }).with_context(|| row.name)?;
        print(row.name, row.budget, figures);
    }
    if chosen(memory) {
        let peak = set_up.pull_memory(&bench.engines[0])?;
        println!("{memory:24}{:10}{peak:>14} KiB resident  65536 KiB: {}", "tare", verdict(peak <= 65536));
    }
    Ok(())
}

fn print(row: &str, budget: Budget, figures: Vec<Figures>) {
    let mut ours = None;
    for Figures { name, mut samples } in figures {
        let (wall, least, cpu) = (samples.wall(), samples.least(), samples.cpu());
        let ratio = wall / *ours.get_or_insert(wall);
        let budget = if name == "tare" {
            let met = wall <= budget.wall && budget.cpu.is_none_or(|limit| cpu <= limit);
            let limits = budget.cpu.map_or(format!("{}", budget.wall), |cpu| format!("{} / {cpu}", budget.wall));
            format!("{limits}: {}", verdict(met))
        } else {
            String::new()
        };
        println!("{row:24}{name:10}{wall:>10.2}{least:>10.2}{cpu:>10.2}{ratio:>9.2}  {budget}");
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}

/// The program in cargo's folder for releases, next to this one's.
fn release_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("cargo's folder")?;
    let program = folder.join("release/tare");
    if !program.exists() {
        bail!("{} is not there after a release build", program.display());
    }
    Ok(program)
}

/// All cgroups of all hierarchies.
fn cgroups() -> BTreeSet<PathBuf> {
    fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), found);
                found.insert(entry.path());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), &mut found);
    found
}
