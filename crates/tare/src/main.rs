//! tare: containers at the weight of a process.
//!
//! The program is a thin skin: it reads flags, calls the engine, and shows what the engine says in Docker's words.

mod advice;
mod cli;
mod commands;
mod detach;
mod duration;
mod excerpt;
mod explain;
mod failure;
mod flags;
mod output;
mod printable;
mod progress;
mod pump;
mod signals;
mod table;
mod template;
mod terminal;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    // Copies of this program that own one container, or carry out one step of a build; they must not run anything of the
    // command line.
    match words.next() {
        Some(name) if name == tare_engine::MONITOR_NAME => return tare_engine::monitor_main(),
        Some(name) if name == tare_engine::BUILD_RUN_NAME => return tare_engine::build_run_main(),
        _ => {}
    }
    cli::main(words)
}
