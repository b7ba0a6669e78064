//! Identifiers of containers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// 64 lower-case hexadecimal digits that name a container for its whole life, as Docker's do.
///
/// Because of its fixed grammar an id is safe as a file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A string that is no container id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid container id {id:?}: expected 64 lower-case hexadecimal digits")]
pub struct InvalidContainerId {
    /// What was given.
    pub id: String,
}

impl ContainerId {
    /// Makes an id of 32 random bytes, which the caller draws from the kernel.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        let mut id = String::with_capacity(64);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                id.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a hexadecimal digit"));
            }
        }
        Self(id)
    }

    /// Parses a full id.
    ///
    /// # Errors
    /// [`InvalidContainerId`] unless it is 64 lower-case hexadecimal digits.
    pub fn parse(id: &str) -> Result<Self, InvalidContainerId> {
        if id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(id.to_owned()))
        } else {
            Err(InvalidContainerId { id: id.chars().take(80).collect() })
        }
    }

    /// The full 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as tables show it.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({})", self.short())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidContainerId;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::parse(&id)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_hexadecimal_digits() {
        let mut bytes = [0; 32];
        bytes[0] = 0xa7;
        bytes[31] = 0x0f;
        let id = ContainerId::from_random(bytes);
        assert_eq!(id.short(), "a70000000000");
        assert!(id.as_str().ends_with("000f"));
        assert_eq!(ContainerId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn only_64_lower_case_digits_are_an_id() {
        for wrong in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), &format!("../{}", "a".repeat(61))] {
            assert!(ContainerId::parse(wrong).is_err(), "{wrong}");
        }
    }
}
