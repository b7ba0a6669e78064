//! The files of /etc that containers and build steps get from the engine.

use crate::error::{Error, Result};
use crate::state::file;
use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file whose inode a container may have mounted: it is not replaced.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o644).open(path);
    let written = file.and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|source| Error::file("write", path, source))
}

/// The beginning of /etc/hosts, in Docker's layout; on the host's network all that the host has.
pub(crate) fn hosts(on_host: bool) -> Result<String> {
    if on_host {
        let text = file::read_text(Path::new("/etc/hosts"))?;
        return Ok(text.unwrap_or_else(|| "127.0.0.1\tlocalhost\n".into()));
    }
    Ok("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n".into())
}

/// Adds a line to /etc/hosts.
pub(crate) fn add_host(text: &mut String, address: impl Display, name: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{address}\t{name}\n"));
}

/// /etc/resolv.conf: the host's, on another network without name servers on the host's own loopback, which is another one
/// there; with the name servers `dns` instead of the host's if there are any.
pub(crate) fn resolv_conf(dns: &[String], on_host: bool) -> Result<String> {
    let read = |path: &str| file::read_text(Path::new(path)).map(Option::unwrap_or_default);
    let mut text = without_servers(&read("/etc/resolv.conf")?, dns, on_host);
    let has_server = |text: &str| text.lines().any(|line| line.starts_with("nameserver"));
    if dns.is_empty() && !has_server(&text) {
        // systemd-resolved keeps the real servers in a file of its own.
        text = without_servers(&read("/run/systemd/resolve/resolv.conf")?, dns, on_host);
    }
    for server in dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Ok(text)
}

/// The lines that stay.
fn without_servers(text: &str, dns: &[String], on_host: bool) -> String {
    let keeps = |line: &&str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => {
                let unreachable = || !on_host && address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                dns.is_empty() && !unreachable()
            }
            _ => true,
        }
    };
    text.lines().filter(keeps).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_that_cannot_be_reached_are_left_out() {
        let text = "search a\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n";
        assert_eq!(without_servers(text, &[], false), "search a\nnameserver 192.0.2.1\n");
        assert_eq!(without_servers(text, &[], true), text);
        assert_eq!(without_servers(text, &["192.0.2.2".into()], true), "search a\n");
    }

    #[test]
    fn a_file_without_a_last_newline_is_continued_on_a_new_line() {
        let mut text = "127.0.0.1\tlocalhost".to_owned();
        add_host(&mut text, "192.0.2.1", "db");
        assert_eq!(text, "127.0.0.1\tlocalhost\n192.0.2.1\tdb\n");
    }
}
