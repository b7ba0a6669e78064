//! What a registry is asked for by name: repositories and tags (distribution specification, "Pulling manifests").

use crate::reference::{REPOSITORY_LIMIT, is_path_component, is_tag};
use std::fmt;

/// The path of a repository within a registry: `library/nginx`. Its components are safe as file names: none is empty,
/// begins with `.`, `_` or `-`, or is longer than a file name may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

/// A tag: `latest`. Safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Repository {
    /// The repository of this name; `None` when it breaks the grammar or is longer than 255 bytes.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let good = name.len() <= REPOSITORY_LIMIT && name.split('/').all(is_path_component);
        good.then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The tag of this name; `None` when it breaks the grammar.
    #[must_use]
    pub fn parse(tag: &str) -> Option<Self> {
        is_tag(tag).then(|| Self(tag.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_safe_paths_are_refused() {
        for name in ["a", "library/nginx", "a.b/c__d/e---f", &"a".repeat(255)] {
            assert_eq!(Repository::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "/", "a/", "/a", "a//b", "..", "a/../b", "_a", "a/_repository", "A", "a b", &"a".repeat(256)] {
            assert_eq!(Repository::parse(name), None, "{name}");
        }
        for tag in ["latest", "v1.0-rc_2", "_x", &"t".repeat(128)] {
            assert_eq!(Tag::parse(tag).unwrap().as_str(), tag);
        }
        for tag in ["", ".", "..", "-a", "a/b", "a:b", &"t".repeat(129)] {
            assert_eq!(Tag::parse(tag), None, "{tag}");
        }
    }
}
