//! Two fences: unsafe code in few places, and no file that has become two things.

use crate::{output, top};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// The longest a source file may be, in lines with its tests.
const LINES: usize = 800;

/// What may hold unsafe code: the crate of system calls, and the program of the built-in image, which is none of tare's
/// own and has two functions of libc instead of a dependency.
const UNSAFE: [&str; 2] = ["crates/tare-sys/", "images/hello/"];

/// Looks at every source file and manifest of the project.
pub(crate) fn run() -> Result<()> {
    let listed = output(Command::new("git").current_dir(top()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        "*.rs",
        "*Cargo.toml",
    ]))?;
    let mut wrong = Vec::new();
    for path in listed.lines() {
        // A file that is deleted but not yet committed is still listed.
        let Ok(text) = std::fs::read_to_string(top().join(path)) else { continue };
        wrong.extend(look_at(path, &text));
    }
    if !wrong.is_empty() {
        bail!("\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn look_at(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if Path::new(path).extension().is_some_and(|extension| extension == "rs") {
        let lines = text.lines().count();
        if lines > LINES {
            wrong.push(format!("{path}: {lines} lines, at most {LINES}"));
        }
        if !UNSAFE.iter().any(|place| path.starts_with(place)) {
            let uses = text.lines().enumerate().filter(|(_, line)| holds_unsafe(line));
            wrong.extend(uses.map(|(number, _)| format!("{path}:{}: unsafe code outside {}", number + 1, UNSAFE[0])));
        }
    } else if text.contains("[package]")
        && !UNSAFE.iter().any(|place| path.starts_with(place))
        && !path.starts_with("fuzz/")
    {
        let inherits =
            text.split("[lints]").nth(1).is_some_and(|section| section.trim_start().starts_with("workspace = true"));
        if !inherits {
            wrong.push(format!("{path}: does not inherit the workspace's lints, which forbid unsafe code"));
        }
    }
    wrong
}

/// Whether a line has the keyword, comments and strings aside.
fn holds_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let outside_strings: String = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    outside_strings.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[cfg(test)]
mod tests {
    use super::look_at;

    #[test]
    fn unsafe_code_is_found_where_it_may_not_be() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(look_at("crates/tare/src/a.rs", text).len(), 1);
        assert!(look_at("crates/tare/src/a.rs", text)[0].contains("a.rs:2"));
        assert!(look_at("crates/tare-sys/src/a.rs", text).is_empty());
        assert!(look_at("crates/tare/src/a.rs", "// unsafe\nlet x = \"unsafe\"; let unsafe_code = 1;").is_empty());
    }

    #[test]
    fn long_files_and_missing_lints_are_found() {
        assert_eq!(look_at("crates/tare/src/a.rs", &"\n".repeat(801)).len(), 1);
        assert!(look_at("crates/tare/src/a.rs", &"\n".repeat(800)).is_empty());
        assert_eq!(look_at("crates/tare/Cargo.toml", "[package]\n").len(), 1);
        assert!(look_at("crates/tare/Cargo.toml", "[package]\n[lints]\nworkspace = true\n").is_empty());
    }
}
