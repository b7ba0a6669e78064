#![no_main]
//! A word that stands for a git repository: nothing of it is an option, whatever it is.

use libfuzzer_sys::fuzz_target;
use tare_build::executor::GitSource;

fuzz_target!(|word: &str| {
    let Some(Ok(source)) = GitSource::parse(word) else { return };
    source.check().expect("what was parsed is sound");
    assert!(!source.remote.starts_with('-') && !source.remote.contains(char::is_whitespace));
    assert!(!source.reference.as_deref().is_some_and(|name| name.starts_with(['-', '+']) || name.contains(':')));
    assert!(!source.folder.split('/').any(|part| part == ".."));
    // What is said of it says nothing of a password.
    let authority = source.shown().split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or("").to_owned());
    assert!(!authority.is_some_and(|authority| authority.contains('@')));
});
