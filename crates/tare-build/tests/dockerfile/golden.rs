//! Dockerfiles and what they say, or what is wrong and where. `cargo xtask golden` writes the results anew.

use std::fs;
use std::path::Path;
use tare_build::dockerfile::{excerpt, parse};

#[test]
fn golden_dockerfiles_are_read_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-dockerfile");
    let rewrite = std::env::var("TARE_GOLDEN").as_deref() == Ok("1");
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 80, "only {} cases in {}", cases.len(), folder.display());
    for case in cases {
        let text = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let actual = match parse(&text) {
            Ok(dockerfile) => serde_json::to_string_pretty(&dockerfile).unwrap() + "\n",
            Err(error) => format!("{}error: {error}\n", excerpt(&text, "Dockerfile", error.lines)),
        };
        let path = case.join("result");
        if rewrite {
            fs::write(&path, actual).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if actual != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}+++ actual\n{actual}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
