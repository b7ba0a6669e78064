#![no_main]
//! Headers of registries (`WWW-Authenticate`, `Link`, `Location`, `Retry-After`, `Range`) lead nowhere unforeseen.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| tare_registry::fuzzing::header(text));
