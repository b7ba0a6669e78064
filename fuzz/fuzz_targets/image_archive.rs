#![no_main]
//! An archive of images: its members, and every document that they lead to.

use libfuzzer_sys::fuzz_target;
use tare_fuzz::with_checksums;
use tare_store::Archive;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(archive) = Archive::open(&*with_checksums(bytes), 0) {
        let _ = archive.check(None);
    }
});
