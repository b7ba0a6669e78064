//! tare: containers at the weight of a process.
//!
//! The program is a thin skin: it reads flags, calls the engine, and shows what the engine says in Docker's words.

mod advice;
mod cli;
mod commands;
mod detach;
mod duration;
mod explain;
mod failure;
mod flags;
mod output;
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
    // A monitor is a copy of this program that owns one container; it must not run anything of the command line.
    if words.next().is_some_and(|name| name == tare_engine::MONITOR_NAME) {
        return tare_engine::monitor_main();
    }
    cli::main(words)
}
