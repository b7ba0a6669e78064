#![no_main]
//! A digest that was taken prints as it was written.

use libfuzzer_sys::fuzz_target;
use tare_spec::Digest;

fuzz_target!(|text: &str| {
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
    }
});
