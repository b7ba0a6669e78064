//! tare-sys

pub mod directory;
