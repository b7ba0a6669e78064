//! What builds need of the engine, on the real kernel, judged by what that says.
//!
//! Without the usual test harness: this program itself must be able to take the role of the process that carries out a step,
//! and each case runs in turn in a process and network namespace of its own, which is "the host" for it. Names can be given
//! as arguments.

// The lint's exception for tests knows only those of the usual harness.
#![allow(clippy::unwrap_used)]

mod attacks;
mod checkout;
mod ends;
mod fetch;
mod host;
mod images;
mod mounts;
mod run;
mod speed;

use rustix::fd::AsFd;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::process::ExitCode;
use tare_sys::clone::{CloneOptions, namespaces, spawn};

type Case = (&'static str, fn());

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == tare_engine::BUILD_RUN_NAME) {
        return tare_engine::build_run_main();
    }
    let all = [
        run::CASES,
        mounts::CASES,
        ends::CASES,
        attacks::CASES,
        images::CASES,
        fetch::CASES,
        checkout::CASES,
        speed::CASES,
    ];
    let cases: Vec<Case> = all.concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        // For nextest, which asks for ignored tests separately.
        if !has("--ignored") {
            cases.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        let required = std::env::var_os("TARE_REQUIRE_ROOT").is_some_and(|value| value == "1");
        println!("test result: {}; needs root", if required { "FAILED" } else { "skipped" });
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
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
        let options = CloneOptions { namespaces: namespaces::NETWORK, cgroup: None };
        let child = spawn(options, || {
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
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\ntest result: FAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Names the cases of a module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use cases;
