//! Dockerfiles and what is planned for them, or why not. `cargo xtask golden` writes the results anew.

use std::fs;
use std::path::Path;

#[test]
fn plans_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let rewrite = std::env::var("TARE_GOLDEN").as_deref() == Ok("1");
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 20, "only {} cases in {}", cases.len(), folder.display());
    for case in cases {
        let dockerfile = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let actual = match tare_build::plan(&dockerfile) {
            Ok(plan) => serde_json::to_string_pretty(&plan).unwrap() + "\n",
            Err(error) => format!("error: {error}\nkind: {:?}\n", error.kind()),
        };
        let path = case.join("result");
        if rewrite {
            fs::write(&path, actual).unwrap();
        } else {
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if actual != expected {
                wrong.push(format!("{}:\n--- expected\n{expected}+++ actual\n{actual}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
