//! Files of contexts and images, and the layers that they become.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod archives;
mod attacks;
mod fingerprints;
mod layers;
mod scratch;
mod selections;
