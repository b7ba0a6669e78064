//! What decides what a step comes to.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_spec::Digest;

/// Names what a step comes to: the digest of all that decides it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Digest);

impl From<Digest> for Key {
    /// One that was told.
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl Key {
    /// The digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// Without the algorithm: SHA-256.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.hex()
    }
}

/// All that decides what a step comes to, each by a name that a person understands. Values are digests where they are long, or are
/// nobody's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(BTreeMap<String, String>);

/// The parts whose change explains a step before all others, in this order; then come those with other names.
const TELLING: [&str; 4] = ["instruction", "platform", "files", "time"];

/// What changes together with a variable or another part that tells more.
const CONFIGURATION: &str = "configuration";

/// What every later step has changed with.
const BASE: &str = "base";

/// Raised when builds begin to make something else of the same parts.
const GENERATION: &str = "2";

impl Parts {
    /// Adds a part by its value's digest.
    pub fn add(&mut self, name: impl Into<String>, value: &impl Serialize) {
        let bytes = serde_json::to_vec(value).expect("parts are structures of strings and numbers");
        self.0.insert(name.into(), tare_store::sha256(&bytes).to_string());
    }

    /// Adds a part that is a digest, or as short.
    pub fn add_plain(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// What the statement says, by its digest; nothing for an image.
    pub(crate) fn instruction(&self) -> &str {
        self.0.get(TELLING[0]).map_or("", String::as_str)
    }

    /// Adds the files below.
    pub fn add_base(&mut self, layers: &[tare_spec::DiffId]) {
        self.add(BASE, &layers);
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        let bytes = serde_json::to_vec(&(GENERATION, &self.0)).expect("a map of strings");
        Key(tare_store::sha256(&bytes))
    }

    /// The part that tells best why these are not the others; `None` when they are.
    #[must_use]
    pub fn difference<'a>(&'a self, before: &'a Self) -> Option<&'a str> {
        let differs = |name: &str| self.0.get(name) != before.0.get(name);
        let telling = TELLING.into_iter().find(|name| differs(name));
        let other = || {
            let names = self.0.keys().chain(before.0.keys()).map(String::as_str);
            names.filter(|name| ![BASE, CONFIGURATION].contains(name)).find(|name| differs(name))
        };
        let last = || [CONFIGURATION, BASE].into_iter().find(|name| differs(name));
        telling.or_else(other).or_else(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pairs: &[(&str, &str)]) -> Parts {
        let mut parts = Parts::default();
        pairs.iter().for_each(|(name, value)| parts.add_plain(*name, *value));
        parts
    }

    #[test]
    fn the_most_telling_difference_is_told() {
        let before = parts(&[("base", "1"), ("instruction", "1"), ("argument A", "1"), ("files", "1")]);
        for (change, expected) in [
            (&[][..], None),
            (&[("base", "2")], Some("base")),
            (&[("base", "2"), ("argument A", "2")], Some("argument A")),
            (&[("base", "2"), ("argument B", "2")], Some("argument B")),
            (&[("configuration", "2"), ("variable B", "2")], Some("variable B")),
            (&[("configuration", "2"), ("base", "2")], Some("configuration")),
            (&[("files", "2"), ("argument A", "2")], Some("files")),
            (&[("files", "2"), ("instruction", "2")], Some("instruction")),
        ] {
            let mut now = before.clone();
            change.iter().for_each(|(name, value)| now.add_plain(*name, *value));
            assert_eq!(now.difference(&before), expected, "{change:?}");
            assert_eq!(now.key() == before.key(), expected.is_none());
        }
    }
}
