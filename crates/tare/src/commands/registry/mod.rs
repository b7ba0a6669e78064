//! Commands for a registry of one's own.

pub(crate) mod garbage_collect;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod search;
pub(crate) mod serve;
