#![no_main]
//! A reference that was taken prints to one that means the same.

use libfuzzer_sys::fuzz_target;
use tare_spec::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).ok(), Some(reference));
    }
});
