#![no_main]
//! A Dockerfile, and the plan made of it.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = tare_build::plan(text);
});
