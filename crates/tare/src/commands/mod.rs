//! The commands: one file a verb, with its flags and what it does.

pub(crate) mod builder;
pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod registry;
pub(crate) mod system;
