#![no_main]
//! The configuration of an image: what was taken says the same when it is written again.

use libfuzzer_sys::fuzz_target;
use tare_spec::image::ImageConfig;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = ImageConfig::parse(bytes) {
        let platform = config.platform();
        assert_eq!(platform.normalised(), platform);
        let written = serde_json::to_vec(&config).expect("a configuration can be written");
        assert_eq!(ImageConfig::parse(&written).ok(), Some(config));
    }
});
