//! What must hold before every commit.

use crate::{cargo, edges, fences, run as run_command, test};
use anyhow::{Result, bail};

/// Formatting, clippy, the fuzz targets, edges, fences and – unless `--quick` – the tests; runs all and names those that failed.
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
        ("fuzz targets", fuzz_targets()),
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

/// Whether the fuzz targets compile: they are a workspace of their own, so that nothing else looks at them.
fn fuzz_targets() -> Result<()> {
    let mut check = cargo(["check", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    check.args(["--target-dir", "target/fuzz"]);
    // Nothing is linked: any path saves compiling the fuzzer's runtime, which is C++.
    run_command(check.env("CUSTOM_LIBFUZZER_PATH", "target/libfuzzer.a"))
}
