#![no_main]
//! Manifest, index and configuration; no document is manifest and index at once (CVE-2021-41190).

use libfuzzer_sys::fuzz_target;
use tare_spec::image::{ImageConfig, Index, Manifest};

fuzz_target!(|bytes: &[u8]| {
    let manifest = Manifest::parse(bytes, None);
    let index = Index::parse(bytes, None);
    assert!(manifest.is_err() || index.is_err());
    let _ = ImageConfig::parse(bytes);
});
