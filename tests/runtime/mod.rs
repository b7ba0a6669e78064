//! Containers as the kernel sees them: mounts, limits' files, and who looks after whom.

mod monitor;
mod mounts;
