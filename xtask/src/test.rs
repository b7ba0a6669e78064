//! All tests, from nothing.

use crate::{cargo, packages, run as run_command};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Installs, builds, tests; names every failed test at the end.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (flags, arguments): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| *argument == "--no-install");
    if flags.is_empty() {
        packages::install()?;
    }
    // The end-to-end tests start the program itself.
    run_command(&mut cargo(["build", "--package", "tare"]))?;
    all(&arguments)
}

/// Runs the tests of all crates, each crate's whatever the others' say.
pub(crate) fn all(arguments: &[&String]) -> Result<()> {
    let mut command = cargo(["test", "--workspace", "--no-fail-fast", "--"]);
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().context("cargo test")?;
    let mut failed = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line?;
        println!("{line}");
        if let Some(name) = failed_test(&line) {
            failed.push(name.to_owned());
        }
    }
    let status = child.wait()?;
    if !failed.is_empty() {
        println!("\n{} failed:", failed.len());
        failed.iter().for_each(|name| println!("  {name}"));
    }
    if !status.success() {
        bail!("the tests failed; one by itself: cargo xtask test NAME");
    }
    Ok(())
}

/// The test that a line of the test harness calls failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    #[test]
    fn failures_are_read_from_the_harness() {
        assert_eq!(super::failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(super::failed_test("test a::b ... ok"), None);
        assert_eq!(super::failed_test("test result: FAILED. 1 passed"), None);
    }
}
