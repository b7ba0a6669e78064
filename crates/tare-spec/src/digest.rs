//! Digests, and the ids that are digests.
//!
//! Grammar: OCI image specification, `descriptor.md`, "Digests"; only the two registered algorithms are taken,
//! so a digest is always safe as a pair of file names.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The registered digest algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: 64 hexadecimal digits.
    Sha256,
    /// SHA-512: 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The algorithm's registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits its digests have.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A string that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {digest:?}: expected sha256:<64 hexadecimal digits> or sha512:<128 hexadecimal digits>")]
pub struct InvalidDigest {
    /// What was given, cut to 160 characters.
    pub digest: String,
}

/// The digest of a blob's bytes as they are stored and transferred: `sha256:<hex>` or `sha512:<hex>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// Parses `algorithm:hex`.
    ///
    /// # Errors
    /// [`InvalidDigest`] for unknown algorithms, wrong lengths and anything but lower-case hexadecimal digits.
    pub fn parse(digest: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest { digest: digest.chars().take(160).collect() };
        let (name, hex) = digest.split_once(':').ok_or_else(invalid)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(invalid()),
        };
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid());
        }
        Ok(Self { algorithm, text: digest.to_owned() })
    }

    /// The SHA-256 digest with these 32 bytes.
    #[must_use]
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        let id = crate::ContainerId::from_random(bytes);
        Self { algorithm: Algorithm::Sha256, text: format!("sha256:{id}") }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The first 12 hexadecimal digits, as tables show it.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// `algorithm:hex`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(digest: String) -> Result<Self, Self::Error> {
        Self::parse(&digest)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

digest_newtype! {
    /// The digest of a layer's uncompressed tar stream (image specification, `config.md`, "Layer DiffID").
    DiffId
}
digest_newtype! {
    /// The digest that names a stack of layers (image specification, `config.md`, "Layer ChainID").
    ChainId
}
digest_newtype! {
    /// The digest of an image's configuration (image specification, `config.md`, "ImageID").
    ImageId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip() {
        let text = format!("sha256:{}", "0a".repeat(32));
        let digest = Digest::parse(&text).unwrap();
        assert_eq!((digest.as_str(), digest.hex().len(), digest.short()), (text.as_str(), 64, "0a0a0a0a0a0a"));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert_eq!(Digest::from_sha256([10; 32]).as_str(), text);
    }

    /// CVE-2024-3727: a digest that is used as a path before its grammar was checked.
    #[test]
    fn paths_and_unknown_algorithms_are_no_digests() {
        for wrong in [
            "",
            "sha256:",
            "sha256",
            "sha256:../../../../etc/passwd",
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha256:{}", "a".repeat(63)),
            &format!("sha512:{}", "a".repeat(64)),
            &format!("md5:{}", "a".repeat(32)),
            &format!("../sha256:{}", "a".repeat(64)),
        ] {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
    }
}
