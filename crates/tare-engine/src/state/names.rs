//! Names of containers: one symbolic link a name, `<name> -> <id>`. symlink(2) makes it with its content in one step and
//! fails when the name exists.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::file::{self, Durability};
use crate::state::lock::{self, Lock, Taken};
use std::io::ErrorKind;
use tare_spec::ContainerId;

/// Whether a name fits Docker's grammar `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; so it is safe as a file name.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() >= 2
        && name.len() <= 250
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Claims a name for a container whose lock the caller holds.
pub(crate) fn claim(engine: &Engine, name: &str, id: &ContainerId, durability: Durability) -> Result<()> {
    let names = engine.paths.names();
    let path = names.join(name);
    loop {
        match std::os::unix::fs::symlink(id.as_str(), &path) {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::file("link", &path, source)),
        }
        if let Some(holder) = take_from_stale(engine, name)? {
            return Err(Error::NameInUse { name: name.to_owned(), holder });
        }
    }
    if durability == Durability::Durable { file::sync_directory(&names) } else { Ok(()) }
}

/// The container that has this name.
pub(crate) fn holder(engine: &Engine, name: &str) -> Result<Option<ContainerId>> {
    if !is_valid(name) {
        return Ok(None);
    }
    let path = engine.paths.names().join(name);
    match std::fs::read_link(&path) {
        Ok(target) => Ok(target.to_str().and_then(|id| ContainerId::parse(id).ok())),
        // Invalid: it is no link, and so nobody's name.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
        Err(source) => Err(Error::file("read", &path, source)),
    }
}

/// Takes a name away from a container that is left half made, or from none; returns the holder that keeps it.
fn take_from_stale(engine: &Engine, name: &str) -> Result<Option<ContainerId>> {
    let _lock = lock_names(engine)?;
    match holder(engine, name)? {
        Some(holder) if !is_stale(engine, &holder)? => Ok(Some(holder)),
        _ => remove(engine, name).map(|()| None),
    }
}

/// Gives a name back, if this container has it.
pub(crate) fn release(engine: &Engine, name: &str, id: &ContainerId) -> Result<()> {
    let _lock = lock_names(engine)?;
    if holder(engine, name)?.as_ref() == Some(id) { remove(engine, name) } else { Ok(()) }
}

/// Gives back whatever names a container has that left no record of them.
pub(crate) fn release_all(engine: &Engine, id: &ContainerId) -> Result<()> {
    let folder = engine.paths.names();
    let entries = std::fs::read_dir(&folder).map_err(|source| Error::file("list", &folder, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::file("list", &folder, source))?;
        if let Some(name) = entry.file_name().to_str() {
            release(engine, name, id)?;
        }
    }
    Ok(())
}

/// Between looking who has a name and removing it nobody else may do the same: the second would remove the name of who
/// claimed it in between.
fn lock_names(engine: &Engine) -> Result<Option<Lock>> {
    lock::acquire(&engine.paths.run_root.join("names.lock"))
}

fn remove(engine: &Engine, name: &str) -> Result<()> {
    let path = engine.paths.names().join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", &path, error)),
        _ => Ok(()),
    }
}

/// Whether the container was left half made, or half removed, by a process that is gone.
fn is_stale(engine: &Engine, id: &ContainerId) -> Result<bool> {
    let paths = engine.paths.container(id);
    if paths.record().exists() {
        return Ok(false);
    }
    Ok(!matches!(lock::attempt(&paths.lock())?, Taken::Busy))
}

/// A name nobody gave: an adjective and a person who weighed, measured, counted or packed things. From the second
/// attempt on with a number, so that many containers do not run out of names.
pub(crate) fn generate(random: u64, attempt: u32) -> String {
    const ADJECTIVES: [&str; 48] = [
        "able", "agile", "airy", "ample", "apt", "bold", "brave", "bright", "brisk", "calm", "clear", "crisp", "deft",
        "eager", "early", "easy", "exact", "fair", "fine", "firm", "fleet", "frank", "fresh", "gentle", "glad", "keen",
        "kind", "light", "lively", "lucid", "mellow", "merry", "mild", "neat", "nimble", "noble", "plain", "prime",
        "proud", "quick", "quiet", "rapid", "ready", "sharp", "smooth", "steady", "swift", "warm",
    ];
    const PEOPLE: [&str; 48] = [
        "ampere",
        "archimedes",
        "avogadro",
        "babbage",
        "bernoulli",
        "blackwell",
        "bohr",
        "boole",
        "brahe",
        "cavendish",
        "celsius",
        "coulomb",
        "curie",
        "dalton",
        "dijkstra",
        "euler",
        "faraday",
        "fermi",
        "galileo",
        "gauss",
        "hamilton",
        "henry",
        "hertz",
        "hooke",
        "hopper",
        "hypatia",
        "joule",
        "kelvin",
        "kepler",
        "lavoisier",
        "liskov",
        "lovelace",
        "maxwell",
        "mclean",
        "meitner",
        "mendeleev",
        "newton",
        "noether",
        "ohm",
        "pascal",
        "planck",
        "ritchie",
        "roberval",
        "shannon",
        "siemens",
        "thompson",
        "turing",
        "volta",
    ];
    let adjective = ADJECTIVES[(random % 48) as usize];
    let person = PEOPLE[(random / 48 % 48) as usize];
    match attempt {
        0 => format!("{adjective}_{person}"),
        _ => format!("{adjective}_{person}{}", random / (48 * 48) % 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_grammar() {
        for name in ["web", "a1", "My_app.v2-x", "0x"] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", "a", "-web", ".web", "we b", "web/x", "../web", "wéb", "web\n", &"a".repeat(251)] {
            assert!(!is_valid(name), "{name}");
        }
    }

    #[test]
    fn generated_names_are_valid() {
        for random in [0, 1, 47, 48, 2303, 2304, u64::MAX] {
            assert!(is_valid(&generate(random, 0)) && is_valid(&generate(random, 1)), "{random}");
        }
    }
}
