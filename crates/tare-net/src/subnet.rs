//! IPv4 subnets, and which of them a new network gets.

use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr};

/// An IPv4 subnet such as `172.17.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: u32,
    prefix_len: u8,
}

/// Text that is no subnet with room for a gateway and a container.
#[derive(Debug, thiserror::Error)]
#[error("invalid subnet {text:?}: expected a.b.c.d/length with a length from 8 to 30")]
pub struct InvalidSubnet {
    text: String,
}

impl Subnet {
    /// The subnet that holds `address`; `prefix_len` is cut to 32.
    #[must_use]
    pub(crate) fn containing(address: Ipv4Addr, prefix_len: u8) -> Self {
        let prefix_len = prefix_len.min(32);
        let subnet = Self { base: 0, prefix_len };
        Self { base: u32::from(address) & subnet.mask_bits(), prefix_len }
    }

    fn mask_bits(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    /// The network's address: all host bits 0.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.base.into()
    }

    /// The network mask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        self.mask_bits().into()
    }

    /// How many bits name the network, 0 to 32.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The first host address, which the bridge gets.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        (self.base + 1).into()
    }

    /// The address with all host bits 1.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        (self.base | !self.mask_bits()).into()
    }

    /// The addresses containers may have, ascending: all but the network's, the gateway's and the broadcast one.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.base + 2..u32::from(self.broadcast())).map(Ipv4Addr::from)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let mask = self.mask_bits() & other.mask_bits();
        self.base & mask == other.base & mask
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.prefix_len)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = InvalidSubnet;

    fn try_from(text: String) -> Result<Self, InvalidSubnet> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let subnet = Self::containing(address.parse().ok()?, length.parse().ok()?);
            (8..=30).contains(&subnet.prefix_len).then_some(subnet)
        });
        parsed.ok_or(InvalidSubnet { text })
    }
}

/// The subnets a network is offered, in Docker's order: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20
/// to 192.168.240.0/20.
fn pool() -> impl Iterator<Item = Subnet> {
    let large = (17..=31).map(|second| Subnet::containing(Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..=15).map(|part| Subnet::containing(Ipv4Addr::new(192, 168, part * 16, 0), 20));
    large.chain(small)
}

/// The first subnet of the pool that overlaps none of `taken`.
pub(crate) fn choose(taken: &[Subnet]) -> Option<Subnet> {
    pool().find(|candidate| !taken.iter().any(|other| candidate.overlaps(*other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn addresses_of_a_subnet() {
        let s = subnet("172.17.5.6/16");
        assert_eq!(s.to_string(), "172.17.0.0/16");
        assert_eq!(s.gateway(), Ipv4Addr::new(172, 17, 0, 1));
        assert_eq!(s.broadcast(), Ipv4Addr::new(172, 17, 255, 255));
        assert_eq!(s.mask(), Ipv4Addr::new(255, 255, 0, 0));
        assert_eq!(s.hosts().count(), 65533);
        let small: Vec<String> = subnet("10.0.0.0/29").hosts().map(|a| a.to_string()).collect();
        assert_eq!(small, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    }

    #[test]
    fn the_first_free_subnet_is_chosen() {
        assert_eq!(choose(&[]), Some(subnet("172.17.0.0/16")));
        assert_eq!(choose(&[subnet("172.17.3.0/24"), subnet("172.18.0.0/15")]), Some(subnet("172.20.0.0/16")));
        assert_eq!(choose(&[subnet("172.16.0.0/12")]), Some(subnet("192.168.0.0/20")));
        assert_eq!(choose(&[subnet("172.16.0.0/12"), subnet("192.168.1.0/24")]), Some(subnet("192.168.16.0/20")));
        assert_eq!(choose(&[Subnet::containing(Ipv4Addr::UNSPECIFIED, 0)]), None);
    }

    #[test]
    fn what_is_no_subnet() {
        for wrong in ["", "172.17.0.0", "172.17.0.0/31", "172.17.0.0/7", "172.17.0/16", "x/16", "1.2.3.4/33"] {
            assert!(Subnet::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
