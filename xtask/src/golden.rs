//! Golden tests: `case/{input,result}` folders, compared by tests that have `golden` in their name and that rewrite the results when
//! `TARE_GOLDEN=1`.

use crate::{cargo, run as run_command};
use anyhow::Result;

/// Rewrites the results.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut command = cargo(["test", "--workspace", "--exclude", "tare-tests", "--", "golden"]);
    run_command(command.args(arguments).env("TARE_GOLDEN", "1"))
}
