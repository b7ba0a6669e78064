#![no_main]
//! A manifest, as it is and as what it is said to be: never an index at once (CVE-2021-41190), and what was taken
//! says the same when it is written again.

use libfuzzer_sys::fuzz_target;
use tare_spec::image::{Document, Index, Manifest, media_type};

fuzz_target!(|bytes: &[u8]| {
    let types = [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST, media_type::OCI_INDEX, "application/json"];
    for content_type in types.map(Some).into_iter().chain([None]) {
        let Ok(manifest) = Manifest::parse(bytes, content_type) else { continue };
        assert!(Index::parse(bytes, content_type).is_err());
        assert!(matches!(Document::parse(bytes, content_type), Ok(Document::Manifest(_))));
        assert!(media_type::is_manifest(&manifest.media_type));
        let _ = manifest.image_config();
        let written = serde_json::to_vec(&manifest).expect("a manifest can be written");
        assert_eq!(Manifest::parse(&written, content_type).ok(), Some(manifest));
    }
});
