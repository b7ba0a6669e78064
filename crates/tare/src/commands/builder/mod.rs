//! Commands for the build cache.

pub(crate) mod du;
pub(crate) mod prune;
