//! tare-sys

pub mod bpf;
pub mod clone;
pub mod directory;
pub mod exec;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod network_namespace;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod writeback;
