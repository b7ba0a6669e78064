//! The crash tests at full length.

use crate::{cargo, run as run_command};
use anyhow::Result;

/// Every call goes wrong, and the processes that work side by side do so for hundreds of rounds. What the tests take from
/// the environment (`tests/crash`) wins.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    run_command(&mut cargo(["build", "--package", "tare"]))?;
    let mut command = cargo(["test", "--package", "tare-tests", "--", "crash::", "--show-output"]);
    command.args(arguments).env("TARE_REQUIRE_ROOT", "1");
    for (name, value) in [("TARE_CRASH_STRIDE", "1"), ("TARE_CRASH_ROUNDS", "200")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    run_command(&mut command)
}
