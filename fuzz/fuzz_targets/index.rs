#![no_main]
//! An index: never a manifest at once (CVE-2021-41190), what it chooses is one of its entries, and what was taken says
//! the same when it is written again.

use libfuzzer_sys::fuzz_target;
use tare_spec::Platform;
use tare_spec::image::{Index, Manifest, media_type};

fuzz_target!(|bytes: &[u8]| {
    for content_type in [Some(media_type::OCI_INDEX), Some(media_type::DOCKER_MANIFEST_LIST), None] {
        let Ok(index) = Index::parse(bytes, content_type) else { continue };
        assert!(Manifest::parse(bytes, content_type).is_err());
        for platform in ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"] {
            let platform = Platform::parse(platform).expect("a constant platform");
            if let Some(chosen) = index.select(&platform) {
                assert!(index.manifests.contains(chosen));
                assert!(chosen.platform.as_ref().is_none_or(|offered| platform.matches(offered)));
            }
        }
        assert!(index.platforms().count() <= index.manifests.len());
        let written = serde_json::to_vec(&index).expect("an index can be written");
        assert_eq!(Index::parse(&written, content_type).ok(), Some(index));
    }
});
