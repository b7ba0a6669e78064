//! Ports that a container publishes, in the grammar of `docker run -p`:
//! `[[ip:][hostPort[-hostPort]]:]containerPort[-containerPort][/protocol]`.
//!
//! Source: Docker's documentation of `docker container run --publish`; the error texts are those its
//! command prints, because scripts compare them.

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The lower-case name, as after the slash of `80/tcp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = InvalidPort;

    fn from_str(name: &str) -> Result<Self, InvalidPort> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| name.eq_ignore_ascii_case(protocol.name()))
            .ok_or_else(|| InvalidPort::Protocol { protocol: excerpt(name) })
    }
}

/// Text that is no port, no port range or no mapping of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPort {
    /// Nothing stands where the container's port belongs.
    #[error("no port specified: {mapping}<empty>")]
    Missing {
        /// The whole mapping.
        mapping: String,
    },
    /// The container's side is no port from 1 to 65535 and no ascending range of such.
    #[error("invalid containerPort: {port}")]
    ContainerPort {
        /// The part that was refused.
        port: String,
    },
    /// The host's side is no port from 0 to 65535 and no ascending range of such.
    #[error("invalid hostPort: {port}")]
    HostPort {
        /// The part that was refused.
        port: String,
    },
    /// The host's side names no IP address.
    #[error("invalid IP address: {address}")]
    Address {
        /// The part that was refused.
        address: String,
    },
    /// Neither tcp, udp nor sctp.
    #[error("invalid proto: {protocol}")]
    Protocol {
        /// The part that was refused.
        protocol: String,
    },
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's range.
        container: String,
        /// The host's range.
        host: String,
    },
}

/// One port of a container that is to be reachable from the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address to listen on; none means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The host's port; none lets the kernel choose a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// The last port of the range that starts at [`host_port`](Self::host_port) and of which any free one
    /// will do (`-p 8000-8010:80`); none means that exactly `host_port` is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port_end: Option<u16>,
    /// The port inside of the container, 1 to 65535.
    pub container_port: u16,
    /// The protocol of both sides.
    pub protocol: Protocol,
}

impl PortMapping {
    /// Parses one argument of `-p`. Ranges become one mapping a port, in ascending order.
    ///
    /// # Errors
    /// [`InvalidPort`], in Docker's words.
    pub fn parse(text: &str) -> Result<Vec<Self>, InvalidPort> {
        // The address may hold colons of its own, so the ports are taken from the right.
        let mut parts = text.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let host_range = parts.next().unwrap_or_default();
        let address = parts.next().unwrap_or_default();

        let host_ip = match address {
            "" => None,
            address => Some(parse_address(address)?),
        };
        let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
        if container.is_empty() {
            return Err(InvalidPort::Missing { mapping: excerpt(text) });
        }
        let (first, last) = parse_container_range(container)?;
        let host = match host_range {
            "" => None,
            range => Some(parse_range(range).ok_or_else(|| InvalidPort::HostPort { port: excerpt(range) })?),
        };
        // `-p 80/` means tcp for Docker, too.
        let protocol = if protocol.is_empty() { Protocol::Tcp } else { protocol.parse()? };
        let mapping = |container_port, host_port: Option<u16>, host_port_end| Self {
            host_ip,
            host_port: host_port.filter(|&port| port != 0),
            host_port_end,
            container_port,
            protocol,
        };
        match host {
            Some((host_first, host_last)) if host_last - host_first == last - first => {
                Ok((first..=last).zip(host_first..=host_last).map(|(c, h)| mapping(c, Some(h), None)).collect())
            }
            // Port 0 in a range would mean "any" for its first element only.
            Some((host_first, host_last)) if first == last && host_first != 0 => {
                Ok(vec![mapping(first, Some(host_first), Some(host_last))])
            }
            Some(_) => Err(InvalidPort::Ranges { container: excerpt(container), host: excerpt(host_range) }),
            None => Ok((first..=last).map(|port| mapping(port, None, None)).collect()),
        }
    }
}

/// The shortest `-p` argument that means the same.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        if let Some(port) = self.host_port {
            write!(f, "{port}")?;
        }
        if let Some(end) = self.host_port_end {
            write!(f, "-{end}")?;
        }
        if self.host_ip.is_some() || self.host_port.is_some() {
            f.write_str(":")?;
        }
        write!(f, "{}/{}", self.container_port, self.protocol)
    }
}

/// A port that an image or a container declares (`EXPOSE`, `--expose`): `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPort {
    /// 1 to 65535.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl ExposedPort {
    /// Parses `port[-port][/protocol]`.
    ///
    /// # Errors
    /// [`InvalidPort`] as for the container's side of a mapping.
    pub fn parse(text: &str) -> Result<Vec<Self>, InvalidPort> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if range.is_empty() {
            return Err(InvalidPort::Missing { mapping: excerpt(text) });
        }
        let (first, last) = parse_container_range(range)?;
        let protocol = protocol.parse()?;
        Ok((first..=last).map(|port| Self { port, protocol }).collect())
    }
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

fn parse_address(text: &str) -> Result<IpAddr, InvalidPort> {
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'));
    bare.and_then(|bare| bare.parse().ok()).ok_or_else(|| InvalidPort::Address { address: excerpt(text) })
}

fn parse_container_range(text: &str) -> Result<(u16, u16), InvalidPort> {
    // Port 0 exists in no container: a packet to it is addressed to nothing.
    parse_range(text).filter(|&(first, _)| first != 0).ok_or_else(|| InvalidPort::ContainerPort { port: excerpt(text) })
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    (first <= last).then_some((first, last))
}

/// Digits only: `str::parse` would also take a plus sign.
fn parse_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// What a person typed, cut to a length that fits into a message.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        PortMapping::parse(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_form_of_the_grammar_parses() {
        for (text, expected) in [
            ("80", "80/tcp"),
            ("80/udp", "80/udp"),
            ("80/UDP", "80/udp"),
            ("80/", "80/tcp"),
            (":80", "80/tcp"),
            ("0:80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("8080:80/sctp", "8080:80/sctp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("127.0.0.1:0:80", "127.0.0.1::80/tcp"),
            ("[::1]:80:80", "[::1]:80:80/tcp"),
            ("::1:80:80", "[::1]:80:80/tcp"),
            ("[::]::53/udp", "[::]::53/udp"),
            ("8000-8010:80", "8000-8010:80/tcp"),
        ] {
            assert_eq!(shown(text), [expected], "{text}");
        }
    }

    #[test]
    fn ranges_become_one_mapping_a_port() {
        assert_eq!(shown("8000-8002:80-82/udp"), ["8000:80/udp", "8001:81/udp", "8002:82/udp"]);
        assert_eq!(shown("7000-7001"), ["7000/tcp", "7001/tcp"]);
        assert_eq!(shown("127.0.0.1::70-71"), ["127.0.0.1::70/tcp", "127.0.0.1::71/tcp"]);
        assert_eq!(PortMapping::parse("1-65535:1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn what_is_shown_parses_again() {
        for text in ["80/tcp", "127.0.0.1::80/udp", "[fe80::1]:1:2/sctp", "10-20:80/tcp"] {
            assert_eq!(shown(text), [text]);
        }
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        for (text, expected) in [
            ("abc", "invalid containerPort: abc"),
            ("80:abc", "invalid containerPort: abc"),
            ("0", "invalid containerPort: 0"),
            ("80:70000", "invalid containerPort: 70000"),
            ("80:+80", "invalid containerPort: +80"),
            ("80:90-80", "invalid containerPort: 90-80"),
            ("80:80-", "invalid containerPort: 80-"),
            ("99999:80", "invalid hostPort: 99999"),
            ("-1:80", "invalid hostPort: -1"),
            ("x:80", "invalid hostPort: x"),
            ("", "no port specified: <empty>"),
            ("80:", "no port specified: 80:<empty>"),
            ("/tcp", "no port specified: /tcp<empty>"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("[::1:80:80", "invalid IP address: [::1"),
            ("80/icmp", "invalid proto: icmp"),
            ("80:80/tcp/udp", "invalid proto: tcp/udp"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(PortMapping::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn exposed_ports() {
        let ports: Vec<String> = ExposedPort::parse("80-81/udp").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["80/udp", "81/udp"]);
        assert_eq!(ExposedPort::parse("x").unwrap_err().to_string(), "invalid containerPort: x");
    }

    #[test]
    fn json_leaves_out_what_is_not_given() {
        let json = serde_json::to_string(&PortMapping::parse("80").unwrap()).unwrap();
        assert_eq!(json, r#"[{"container_port":80,"protocol":"tcp"}]"#);
    }
}
