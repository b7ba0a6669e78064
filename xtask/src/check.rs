//! What must hold before every commit.

use crate::{cargo, edges, fences, run as run_command, test};
use anyhow::{Result, bail};

/// Formatting, clippy, edges, fences and – unless `--quick` – the tests; runs all and names those that failed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let quick = match arguments {
        [] => false,
        [flag] if flag == "--quick" => true,
        _ => bail!("usage: cargo xtask check [--quick]"),
    };
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let mut steps: Vec<(&str, Result<()>)> = vec![
        ("format", run_command(&mut cargo(["fmt", "--all", "--check"]))),
        ("clippy", run_command(&mut cargo(clippy))),
        ("edges", edges::run()),
        ("fences", fences::run()),
    ];
    if !quick {
        steps.push(("tests", test::run(&[])));
    }
    let mut failed = Vec::new();
    for (name, result) in steps {
        match result {
            Ok(()) => println!("ok      {name}"),
            Err(error) => {
                println!("failed  {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} failed", failed.join(", "));
    }
    Ok(())
}
