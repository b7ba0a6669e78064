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

#[cfg(test)]
mod tests {
    use super::*;

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
