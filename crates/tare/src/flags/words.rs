//! Values that are words: booleans, names, signals, streams, host entries.

use std::net::IpAddr;

/// A boolean in any spelling that Go takes.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn container_name(name: &str) -> Result<(), String> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let mut letters = plain.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && plain.len() > 1 && letters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        Ok(())
    } else {
        Err(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
    }
}

/// A standard stream of `-a`.
pub(crate) fn stream(text: &str) -> Result<String, String> {
    let stream = text.to_ascii_lowercase();
    if matches!(stream.as_str(), "stdin" | "stdout" | "stderr") {
        Ok(stream)
    } else {
        Err("valid streams are STDIN, STDOUT and STDERR".to_owned())
    }
}

/// An entry of /etc/hosts, `name:address` or `name=address`, as `name:address`.
pub(crate) fn host_entry(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: \"{text}\"");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare == "host-gateway" || bare.parse::<IpAddr>().is_ok() {
        Ok(format!("{name}:{bare}"))
    } else {
        Err(format!("invalid IP address in add-host: \"{address}\""))
    }
}

/// An IP address of `--dns`.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let address =
        text.trim().parse::<IpAddr>().map_err(|_| format!("IP address is not correctly formatted: {text}"))?;
    Ok(address.to_string())
}

/// Signals by the names that people write, in the order of `kill -l`.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The name of a signal without `SIG`.
pub(crate) fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|&&(_, signal)| signal == number).map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers() {
        for name in ["web", "a1", "/web", "a_b.c-d"] {
            assert_eq!(container_name(name), Ok(()), "{name}");
        }
        for name in ["", "a", "-a", ".a", "a b", "a/b", "ä1"] {
            let text = format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
            assert_eq!(container_name(name), Err(text));
        }
    }

    #[test]
    fn host_entries() {
        assert_eq!(host_entry("db:10.0.0.1").unwrap(), "db:10.0.0.1");
        assert_eq!(host_entry("db=::1").unwrap(), "db:::1");
        assert_eq!(host_entry("db:[::1]").unwrap(), "db:::1");
        assert_eq!(host_entry("host.docker.internal:host-gateway").unwrap(), "host.docker.internal:host-gateway");
        assert_eq!(host_entry("foo").unwrap_err(), "bad format for add-host: \"foo\"");
        assert_eq!(host_entry("foo:bar").unwrap_err(), "invalid IP address in add-host: \"bar\"");
    }
}
