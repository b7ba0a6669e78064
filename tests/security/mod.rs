//! Defaults, and attacks that must fail; judged by `/proc`.

mod attacks;
mod defaults;
