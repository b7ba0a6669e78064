//! Platforms that images are made for.
//!
//! Names and their normal forms: image specification, `image-index.md`, "platform", and containerd's
//! `platforms` package, whose choice among an index's images users of Docker know.

use crate::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fmt;

const OPERATING_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: [&str; 21] = [
    "386", "amd64", "arm", "arm64", "armbe", "arm64be", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc",
    "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
];

/// A string that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// A component is empty or has other characters than letters, digits, `_` and `-`.
    #[error("{component:?} is an invalid component of {platform:?}: expected os[/architecture[/variant]]")]
    Component {
        /// The wrong part.
        component: String,
        /// What was given.
        platform: String,
    },
    /// A single word that is neither.
    #[error("{platform:?}: unknown operating system or architecture")]
    Unknown {
        /// What was given.
        platform: String,
    },
}

impl InvalidPlatform {
    /// Always [`ErrorKind::InvalidParameter`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// An operating system, an architecture and its variant, in Go's names.
///
/// Values read from documents are as written there; comparisons normalise.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, ….
    #[serde(default)]
    pub architecture: String,
    /// `linux`, ….
    #[serde(default)]
    pub os: String,
    /// `v7` of `arm/v7`; the normal form leaves out an architecture's only or first variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "loongarch64" => "loong64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }.normalised()
    }

    /// Parses `os/architecture[/variant]`, or an operating system or architecture alone, completed from the host's.
    ///
    /// # Errors
    /// [`InvalidPlatform`].
    pub fn parse(platform: &str) -> Result<Self, InvalidPlatform> {
        let cut = |text: &str| text.chars().take(160).collect::<String>();
        let parts: Vec<&str> = platform.split('/').collect();
        for part in parts.iter().take(4) {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                return Err(InvalidPlatform::Component { component: cut(part), platform: cut(platform) });
            }
        }
        let made = |os: &str, architecture: &str, variant: Option<&str>| {
            Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
                .normalised()
        };
        match parts[..] {
            [word] => {
                let host = Self::host();
                let as_os = made(word, &host.architecture, host.variant.as_deref());
                let as_architecture = made(&host.os, word, None);
                if OPERATING_SYSTEMS.contains(&as_os.os.as_str()) {
                    Ok(as_os)
                } else if ARCHITECTURES.contains(&as_architecture.architecture.as_str()) {
                    Ok(as_architecture)
                } else {
                    Err(InvalidPlatform::Unknown { platform: cut(platform) })
                }
            }
            [os, architecture] => Ok(made(os, architecture, None)),
            [os, architecture, variant] => Ok(made(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform::Component {
                component: cut(parts.get(3).copied().unwrap_or_default()),
                platform: cut(platform),
            }),
        }
    }

    /// The normal form: lower case, `x86_64` as `amd64`, `arm64/v8` as `arm64`, `arm` as `arm/v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let os = self.os.to_ascii_lowercase();
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Self { os, architecture: architecture.to_owned(), variant: (!variant.is_empty()).then(|| variant.to_owned()) }
    }

    /// How well an image made for `offered` serves this platform: 0 is exact, higher is worse, `None` not at all.
    ///
    /// A processor also runs its older variants, and `amd64` runs `386`, `arm64` runs `arm`.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<usize> {
        let offered = offered.normalised();
        self.served_by().iter().position(|platform| *platform == offered)
    }

    /// Whether an image made for `offered` runs on this platform.
    #[must_use]
    pub fn matches(&self, offered: &Self) -> bool {
        self.rank(offered).is_some()
    }

    /// All platforms that this one can run, best first.
    fn served_by(&self) -> Vec<Self> {
        let own = self.normalised();
        let with = |architecture: &str, version: u32| {
            let variant = Some(format!("v{version}"));
            Self { os: own.os.clone(), architecture: architecture.to_owned(), variant }.normalised()
        };
        let version = own.variant.as_deref().and_then(|v| v.strip_prefix('v')?.parse::<u32>().ok());
        let mut served = vec![own.clone()];
        match own.architecture.as_str() {
            // The variants are micro-architecture levels 2 to 4; none stands for 1.
            "amd64" => {
                served.extend((1..version.unwrap_or(1).min(5)).rev().map(|version| with("amd64", version)));
                served.push(with("386", 1));
            }
            "arm" => served.extend((5..version.unwrap_or(7).min(9)).rev().map(|version| with("arm", version))),
            "arm64" => {
                if own.variant.is_some() {
                    served.push(with("arm64", 8));
                }
                served.extend((5..=8).rev().map(|version| with("arm", version)));
            }
            _ => {}
        }
        served
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn names_are_normalised() {
        for (typed, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
            ("s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(typed).to_string(), normal, "{typed}");
        }
        assert_eq!(platform("linux"), Platform::host());
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for wrong in ["", "/", "linux/", "linux//v8", "a/b/c/d", "linux/am d64", "toaster", "linux/../x"] {
            assert!(Platform::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn older_variants_serve_newer_processors_and_not_the_reverse() {
        for (wanted, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/386", Some(1)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "windows/amd64", None),
            ("linux/386", "linux/amd64", None),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64", "linux/arm/v7", Some(2)),
            ("linux/riscv64", "linux/amd64", None),
        ] {
            assert_eq!(platform(wanted).rank(&platform(offered)), rank, "{offered} on {wanted}");
        }
    }
}
