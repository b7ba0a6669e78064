//! Tasks of the project. `cargo xtask` without arguments lists them.

mod bench;
mod check;
mod conformance;
mod crash;
mod edges;
mod fences;
mod golden;
mod packages;
mod test;
mod vm;

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask TASK

  test [--no-install] [ARGUMENTS]  install what the tests need (Debian packages; needs root), build, run all tests;
                                   ARGUMENTS go to the tests: a part of a test's name, --nocapture …
  check [--quick]                  formatting, clippy, fuzz targets, edges, fences, tests (--quick: no tests)
  crash [ARGUMENTS]                commands about images killed, and out of disk, at every system call that writes; many of them at once
  edges                            which crate may use which
  golden [ARGUMENTS]               rewrite the expected results of the golden tests; look at the difference before committing it
  conformance PROGRAM              run the conformance suite of the OCI distribution specification against `tare registry serve`
  bench [--quick] [WORD]           measure beside podman, crun, runc and docker where they are installed; WORD selects rows
  vm power-cut [--rounds N]        take the power from a virtual machine that pulls images, boot it again, and look (Debian packages:
                                   qemu-system-x86 mmdebstrap umoci skopeo e2fsprogs xz-utils)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("help", &[][..]), |(task, rest)| (task.as_str(), rest));
    let result = match task {
        "test" => test::run(rest),
        "check" => check::run(rest),
        "crash" => crash::run(rest),
        "edges" => edges::run(),
        "golden" => golden::run(rest),
        "bench" => bench::run(rest),
        "conformance" => conformance::run(rest),
        "vm" => vm::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("no task is called {other:?}\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The project's top folder.
fn top() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask is a folder of the project").to_owned()
}

/// Cargo in the project's top folder.
fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(top()).args(arguments);
    command
}

/// Runs a command whose output the person sees.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a command and gives back its standard output.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this process may do what only root may.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
