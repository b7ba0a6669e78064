#![no_main]
//! The archive of a layer: every entry and its bytes, to the end or the first error.

use libfuzzer_sys::fuzz_target;
use tare_fuzz::with_checksums;
use tare_store::tar::Reader;

fuzz_target!(|bytes: &[u8]| {
    let bytes = with_checksums(bytes);
    let mut reader = Reader::new(&*bytes);
    let mut buffer = [0; 512];
    while let Ok(Some(_)) = reader.next_entry() {
        while reader.read(&mut buffer).is_ok_and(|length| length > 0) {}
    }
});
