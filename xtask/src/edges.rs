//! Which crate may use which: the table of `ARCHITECTURE.md`, compared with what cargo knows.

use crate::{cargo, output};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A crate and those of ours that it may use.
const EDGES: [(&str, &[&str]); 13] = [
    ("tare-sys", &[]),
    ("tare-spec", &[]),
    ("tare-store", &["tare-spec", "tare-sys"]),
    ("tare-registry", &["tare-spec"]),
    ("tare-runtime", &["tare-spec", "tare-sys"]),
    ("tare-net", &["tare-spec", "tare-sys"]),
    ("tare-build", &["tare-spec", "tare-store", "tare-sys"]),
    (
        "tare-engine",
        &["tare-build", "tare-net", "tare-registry", "tare-runtime", "tare-spec", "tare-store", "tare-sys"],
    ),
    ("tare-api", &["tare-engine", "tare-spec"]),
    ("tare", &["tare-api", "tare-engine", "tare-spec"]),
    ("hello-server", &[]),
    ("tare-tests", &[]),
    ("xtask", &[]),
];

/// Crates of others that are heavy, or whose use is one crate's job, and who may use them.
const ENTRANCES: [(&str, &[&str]); 11] = [
    ("bcrypt", &["tare-registry"]),
    ("bzip2", &["tare-store"]),
    ("clap", &["tare"]),
    ("flate2", &["tare-store", "tare-engine"]),
    ("hyper", &["tare-registry"]),
    ("libc", &["tare-sys"]),
    ("lzma-rust2", &["tare-store"]),
    ("tokio", &["tare-registry"]),
    ("tokio-rustls", &["tare-registry"]),
    ("ureq", &["tare-registry"]),
    ("zstd", &["tare-store"]),
];

/// Compares; names every edge that may not be.
pub(crate) fn run() -> Result<()> {
    let text = output(&mut cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata = serde_json::from_str(&text).context("cargo metadata")?;
    let wrong = compare(&metadata)?;
    if !wrong.is_empty() {
        bail!("\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn compare(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut wrong = Vec::new();
    for package in packages {
        let (name, manifest) = (text(package, "name")?, text(package, "manifest_path")?);
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{manifest}: {name} is not in the table of edges"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("a package without dependencies")? {
            let used = text(dependency, "name")?;
            let ours = EDGES.iter().any(|(known, _)| *known == used);
            if ours && !allowed.contains(&used) {
                wrong.push(format!("{manifest}: {name} -> {used} is not an edge; {name} may use {allowed:?}"));
            }
            // What only tests use does not make a crate heavy.
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if let Some((_, users)) = ENTRANCES.iter().find(|(known, _)| *known == used)
                && !users.contains(&name)
                && !for_tests
            {
                wrong.push(format!("{manifest}: {name} -> {used} is not an edge; only {users:?} may use {used}"));
            }
        }
    }
    Ok(wrong)
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("cargo metadata without {field}"))
}

#[cfg(test)]
mod tests {
    use super::compare;
    use serde_json::{Value, json};

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "packages": [{ "name": name, "manifest_path": format!("crates/{name}/Cargo.toml"), "dependencies": dependencies }] })
    }

    #[test]
    fn the_tables_own_edges_pass() {
        let good = package("tare", &[("tare-engine", None), ("clap", None), ("serde", None)]);
        assert!(compare(&good).unwrap().is_empty());
    }

    #[test]
    fn a_bad_edge_is_found_and_its_path_named() {
        let wrong = compare(&package("tare", &[("tare-store", None)])).unwrap();
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("crates/tare/Cargo.toml: tare -> tare-store"), "{wrong:?}");
        // For tests neither: the way under the engine would be open.
        assert_eq!(compare(&package("tare", &[("tare-store", Some("dev"))])).unwrap().len(), 1);
    }

    #[test]
    fn a_heavy_crate_has_one_entrance() {
        assert_eq!(compare(&package("tare-store", &[("ureq", None)])).unwrap().len(), 1);
        assert!(compare(&package("tare-store", &[("libc", Some("dev"))])).unwrap().is_empty());
    }

    #[test]
    fn a_crate_that_nobody_placed_is_found() {
        assert_eq!(compare(&package("tare-utils", &[])).unwrap().len(), 1);
    }
}
