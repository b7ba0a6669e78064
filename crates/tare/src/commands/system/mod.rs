//! Commands for everything.

pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod version;
