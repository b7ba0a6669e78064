//! What a person sees: commands, tables, exit codes, messages.

mod archives;
mod attach;
mod bad_input;
mod exec;
mod hello;
mod images;
mod lifecycle;
mod logs;
mod messages;
mod prune;
mod registry;
mod run;
mod session;
mod tables;
