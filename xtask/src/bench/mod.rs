//! x
use anyhow::Result;
/// x
pub(crate) fn run(_: &[String]) -> Result<()> {
    Ok(())
}
