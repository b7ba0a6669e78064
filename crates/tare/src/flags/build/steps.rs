//! What RUN steps have: `--add-host`, `--ulimit`, `--network`, `--allow`.

use crate::flags::numbers;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tare_engine::build::{Entitlement, Network};

/// Soft and hard limit; none: no limit.
pub(super) type Limit = (Option<u64>, Option<u64>);

/// Names of limits that Docker knows (setrlimit(2)).
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads one `--ulimit`.
pub(super) fn limit(text: &str) -> Result<(String, Limit), String> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !LIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let (soft, hard) = match values.split(':').collect::<Vec<_>>()[..] {
        [both] => (both, both),
        [soft, hard] => (soft, hard),
        _ => {
            let text = format!("too many limit value arguments - {values}, can only have up to two, `soft[:hard]`");
            return Err(text);
        }
    };
    let (hard, soft) = (numbers::integer(hard)?, numbers::integer(soft)?);
    let wrong = "ulimit soft limit must be less than or equal to hard limit:";
    match (soft, hard) {
        (_, -1) => {}
        (-1, hard) => return Err(format!("{wrong} soft: -1 (unlimited), hard: {hard}")),
        (soft, hard) if soft > hard => return Err(format!("{wrong} {soft} > {hard}")),
        _ => {}
    }
    let value = |number: i64| match number {
        -1 => Ok(None),
        number => u64::try_from(number).map(Some).map_err(|_| format!("invalid ulimit value: {number}")),
    };
    Ok((name.to_owned(), (value(soft)?, value(hard)?)))
}

/// Reads all `--add-host`: of each several addresses may be given.
pub(super) fn hosts<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<(String, IpAddr)>, String> {
    let mut hosts = Vec::new();
    for text in texts {
        let wrong = || format!("invalid host {text}");
        let (name, addresses) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
        if name.is_empty() || addresses.is_empty() {
            return Err(wrong());
        }
        if addresses == "host-gateway" {
            return Err(format!("--add-host {text}: host-gateway is not supported by builds yet; give an address"));
        }
        for address in addresses.split(',') {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            hosts.push((name.to_owned(), bare.parse().map_err(|_| wrong())?));
        }
    }
    Ok(hosts)
}

/// Reads `--network`.
pub(super) fn network(text: &str) -> Result<Network, String> {
    match text {
        "" | "default" | "bridge" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(format!("network mode {other:?} not supported by builds: only default, none and host are")),
    }
}

/// Reads all `--allow`.
pub(super) fn allowed<'a>(texts: impl Iterator<Item = &'a String>) -> Result<BTreeSet<Entitlement>, String> {
    let mut allowed = BTreeSet::new();
    for text in texts.flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
        match text.split('=').next().unwrap_or_default() {
            "network.host" => allowed.insert(Entitlement::HostNetwork),
            "security.insecure" => allowed.insert(Entitlement::Insecure),
            "device" | "buildx.local.delete" => return Err(format!("--allow {text} is not supported yet")),
            _ => return Err(format!("unknown entitlement {text}")),
        };
    }
    Ok(allowed)
}

/// All limits by name.
pub(super) fn limits(list: Vec<(String, Limit)>) -> BTreeMap<String, Limit> {
    list.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_soft_and_hard() {
        assert_eq!(limit("nofile=1024").unwrap(), ("nofile".to_owned(), (Some(1024), Some(1024))));
        assert_eq!(limit("nofile=1024:2048").unwrap().1, (Some(1024), Some(2048)));
        assert_eq!(limit("core=0:-1").unwrap().1, (Some(0), None));
        assert_eq!(limit("core=-1").unwrap().1, (None, None));
        for (text, expected) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("files=1", "invalid ulimit type: files"),
            ("nofile=1:2:3", "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
            ("nofile=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
            (
                "nofile=-1:1",
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 1",
            ),
            ("nofile=-2", "invalid ulimit value: -2"),
        ] {
            assert_eq!(limit(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn hosts_have_addresses() {
        let read = |texts: &[&str]| hosts(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().iter());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            read(&["db=10.0.0.1,::1", "web:[::2]", "x:10.0.0.2"]).unwrap(),
            [("db", "10.0.0.1"), ("db", "::1"), ("web", "::2"), ("x", "10.0.0.2")]
                .map(|(name, text)| (name.to_owned(), address(text)))
        );
        for wrong in ["db", "db=", "=10.0.0.1", "db=x"] {
            assert_eq!(read(&[wrong]).unwrap_err(), format!("invalid host {wrong}"));
        }
        assert!(read(&["h=host-gateway"]).unwrap_err().contains("not supported by builds yet"));
    }

    #[test]
    fn networks_and_what_is_allowed() {
        assert_eq!(network("host"), Ok(Network::Host));
        assert_eq!(
            network("web").unwrap_err(),
            "network mode \"web\" not supported by builds: only default, none and host are"
        );
        let read = |text: &str| allowed([text.to_owned()].iter());
        assert_eq!(read("network.host,security.insecure").unwrap().len(), 2);
        assert_eq!(read("root").unwrap_err(), "unknown entitlement root");
        assert_eq!(read("device=x").unwrap_err(), "--allow device=x is not supported yet");
    }
}
