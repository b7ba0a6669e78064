#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_build::files::Ignore;

// An ignore file, a path and a folder above it: nothing below a folder that cannot contain anything is there.
fuzz_target!(|input: (&str, &[u8])| {
    let (text, path) = input;
    let Ok(ignore) = Ignore::parse(text) else { return };
    if path.len() > 4096 || path.starts_with(b"/") || path.ends_with(b"/") || path.windows(2).any(|pair| pair == b"//") {
        return;
    }
    let verdict = ignore.verdict(path);
    assert_eq!(verdict.ignored, verdict.rule.is_some_and(|rule| !rule.exception));
    for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let folder = &path[..end];
        if !ignore.may_contain(folder) {
            assert!(verdict.ignored);
        }
        if verdict.rule.is_none() {
            assert!(ignore.verdict(folder).rule.is_none());
        }
    }
});
