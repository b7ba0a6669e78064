//! tare-sys

pub mod bpf;
pub mod clone;
pub mod directory;
pub mod exec;
pub mod mount;
pub mod seccomp;
pub mod netlink;
pub mod network_namespace;
