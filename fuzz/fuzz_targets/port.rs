#![no_main]
//! The grammar of published ports: bounded in time and memory.

use libfuzzer_sys::fuzz_target;
use tare_spec::{ExposedPort, PortMapping};

fuzz_target!(|text: &str| {
    let _ = PortMapping::parse(text);
    let _ = ExposedPort::parse(text);
});
