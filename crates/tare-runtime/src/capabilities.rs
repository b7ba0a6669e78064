//! Capability sets by name and by bit.

use crate::error::{Errno, Error, Step};
use rustix::io::Errno as Os;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};
use tare_spec::runtime::Capabilities;

/// Names by number (linux/capability.h), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities that a container has by default, as with Docker.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The capabilities that this process can hand on: those in its bounding set that it has a name for.
#[must_use]
pub fn available() -> Vec<String> {
    let numbers = 0..NAMES.len();
    numbers
        .filter(|number| in_bounding_set(*number) == Ok(true))
        .map(|number| format!("CAP_{}", NAMES[number]))
        .collect()
}

/// All names, with the prefix `CAP_`, by number.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

/// Capability sets as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapabilityPlan {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

impl CapabilityPlan {
    pub(crate) fn new(capabilities: Option<&Capabilities>) -> Result<Self, Error> {
        let Some(sets) = capabilities else { return Ok(Self::default()) };
        let plan = Self {
            bounding: bits("bounding", &sets.bounding)?,
            effective: bits("effective", &sets.effective)?,
            inheritable: bits("inheritable", &sets.inheritable)?,
            permitted: bits("permitted", &sets.permitted)?,
            ambient: bits("ambient", &sets.ambient)?,
        };
        if plan.effective & !plan.permitted != 0 {
            return Err(Error::invalid(
                "process.capabilities.effective",
                "has capabilities that permitted does not have",
            ));
        }
        if plan.ambient & !(plan.permitted & plan.inheritable) != 0 {
            let reason = "has capabilities that permitted or inheritable do not have";
            return Err(Error::invalid("process.capabilities.ambient", reason));
        }
        Ok(plan)
    }

    /// What is left to a user other than root: only what the ambient set keeps.
    pub(crate) fn without_root(self) -> Self {
        Self { effective: self.ambient, permitted: self.ambient, ..self }
    }

    /// Drops everything else from the bounding set. Needs CAP_SETPCAP, so it comes first.
    pub(crate) fn limit_bounding(&self) -> Result<(), Error> {
        for number in 0..64 {
            if self.bounding & 1 << number != 0 {
                continue;
            }
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
                Ok(()) => {}
                // The first number that the kernel does not know ends the list.
                Err(Os::INVAL) if number > 0 => break,
                Err(error) => return Err(failed("the bounding set")(error.into())),
            }
        }
        Ok(())
    }

    /// Sets the other four sets of the calling thread.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        set_capabilities(None, sets).map_err(|error| failed("the process")(error.into()))?;
        clear_ambient_capability_set().map_err(|error| failed("the ambient set")(error.into()))?;
        for number in (0..64).filter(|number| self.ambient & 1 << number != 0) {
            configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
                .map_err(|error| failed("the ambient set")(error.into()))?;
        }
        Ok(())
    }
}

fn failed(set: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::step(Step::SetCapabilities, set)
}

fn in_bounding_set(number: usize) -> Result<bool, Os> {
    capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number))
}

fn bits(set: &str, names: &[String]) -> Result<u64, Error> {
    let mut bits = 0;
    for name in names {
        let number = name.strip_prefix("CAP_").and_then(|name| NAMES.iter().position(|known| *known == name));
        let Some(number) = number else {
            return Err(Error::invalid(&format!("process.capabilities.{set}"), format!("{name:?} is no capability")));
        };
        bits |= 1 << number;
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_defaults_are_these_bits() {
        let names: Vec<String> = DEFAULT.map(str::to_owned).into();
        assert_eq!(bits("bounding", &names), Ok(0xa804_25fb));
        assert!(bits("bounding", &["CAP_FLY".into()]).unwrap_err().to_string().contains("CAP_FLY"));
    }

    #[test]
    fn ambient_needs_inheritable() {
        let sets = Capabilities {
            ambient: vec!["CAP_KILL".into()],
            permitted: vec!["CAP_KILL".into()],
            ..Capabilities::default()
        };
        assert!(CapabilityPlan::new(Some(&sets)).is_err());
    }
}
