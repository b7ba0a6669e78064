//! The store on a real disk, judged by what is on it.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod archives;
mod backends;
mod bombs;
mod erofs_utils;
mod images;
mod layers;
mod scratch;
mod transfer;
mod written;
