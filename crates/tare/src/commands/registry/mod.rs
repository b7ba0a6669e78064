//! Commands for a registry of one's own.

pub(crate) mod garbage_collect;
pub(crate) mod serve;
