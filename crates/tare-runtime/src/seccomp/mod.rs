//! System call filters: from the specification's rules to classic BPF.
//!
//! ```text
//! architecture? ── native ──► number ≥ 0x4000_0000? ──► x32's tree
//!      │                              └──────────────► native tree
//!      ├─ 32-bit ───────────────────────────────────► its tree
//!      └─ other ──► kill the process
//! ```
//!
//! Each tree is a balanced search over ranges of numbers that have the same outcome: about 7 comparisons for any call,
//! where a list needs hundreds. Numbers above the newest call that the profile names fail with ENOSYS instead of the
//! default error, so that programs fall back to older calls as they do on an older kernel.
//!
//! Of the rules that name a call, those with conditions are tried first, in their order; then the last one without.

mod compile;
mod default_profile;
mod tables;

pub(crate) use compile::compile;
pub use default_profile::default_profile;

use crate::error::Error;
use tare_spec::runtime::Seccomp;

/// Flags of seccomp(2) that a profile asks for.
pub(crate) fn flags(profile: &Seccomp) -> Result<u32, Error> {
    let mut bits = 0;
    for flag in &profile.flags {
        bits |= match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
            // The container's process has one thread when its filter is loaded.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            other => return Err(Error::unsupported(format!("linux.seccomp.flags: {other}"))),
        };
    }
    Ok(bits)
}

#[cfg(test)]
mod tests;
