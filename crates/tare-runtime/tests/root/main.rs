//! Containers on the real kernel, judged by what it says.
//!
//! Without the usual test harness: that runs each test in a thread of its own, and the runtime must be called from a
//! process with one thread. Each case runs in turn in a process of its own; names can be given as arguments.

// The lint's exception for tests knows only those of the usual harness.
#![allow(clippy::unwrap_used)]

mod attacks;
mod bundle;
mod isolation;
mod limits;
mod speed;
mod start;

use rustix::fd::AsFd;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tare_sys::clone::{CloneOptions, spawn};

type Case = (&'static str, fn());

fn main() {
    let cases: Vec<Case> = [isolation::CASES, limits::CASES, start::CASES, attacks::CASES, speed::CASES].concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        // For nextest, which asks for ignored tests separately.
        if !has("--ignored") {
            cases.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return;
    }
    if !rustix::process::geteuid().is_root() {
        let required = std::env::var_os("TARE_REQUIRE_ROOT").is_some_and(|value| value == "1");
        println!("test result: {}; needs root", if required { "FAILED" } else { "skipped" });
        std::process::exit(if required { 101 } else { 0 });
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| if has("--exact") { name == *filter } else { name.contains(filter.as_str()) })
    };
    let mut failed = Vec::new();
    for (name, case) in cases.into_iter().filter(|(name, _)| wanted(name)) {
        let child = spawn(CloneOptions::default(), || {
            case();
            0
        })
        .unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        let passed = status.exit_status() == Some(0);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        println!("\ntest result: FAILED: {}", failed.join(", "));
        std::process::exit(101);
    }
}

/// Names the cases of a module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use cases;
