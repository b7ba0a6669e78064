//! Host names to addresses, as `hosts(5)` and `resolv.conf(5)` of this host say.
//!
//! Our own because the program is linked statically against glibc, whose `getaddrinfo` would load plug-ins of
//! whatever glibc the host has.

use crate::dns::{Answer, Query, RecordType};
use crate::url::is_loopback;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How many name servers and search domains count (`resolv.conf(5)`: MAXNS; glibc takes any number of domains).
const SERVER_LIMIT: usize = 3;
const SEARCH_LIMIT: usize = 32;
/// How long IPv6 addresses are waited for once IPv4 addresses are there: some servers never answer for AAAA.
const SECOND_ANSWER: Duration = Duration::from_millis(500);
/// How many addresses of a host are tried (what [`ResolvedSocketAddrs`] can hold).
const ADDRESS_LIMIT: usize = 16;

/// Why a name has no address, in the words of Go's resolver.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("lookup {host}{}: {problem}", server.map(|server| format!(" on {server}")).unwrap_or_default())]
pub(crate) struct LookupError {
    host: String,
    server: Option<SocketAddr>,
    problem: &'static str,
}

/// Resolves by the host's files and name servers, which are read anew each time: laptops move.
#[derive(Clone, Debug)]
pub(crate) struct SystemResolver {
    pub(crate) hosts: PathBuf,
    resolv_conf: PathBuf,
    /// The name servers' port; `resolv.conf` cannot name one.
    port: u16,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { hosts: PathBuf::from("/etc/hosts"), resolv_conf: PathBuf::from("/etc/resolv.conf"), port: 53 }
    }
}

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = self.lookup(host).map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(ADDRESS_LIMIT) {
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}

impl SystemResolver {
    /// The addresses of a host, at least one. IPv4 comes first: broken IPv6 is common and costs a timeout,
    /// broken IPv4 beside working IPv6 is rare.
    fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if is_loopback(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let from_file = addresses_in_hosts(&fs::read_to_string(&self.hosts).unwrap_or_default(), name);
        if !from_file.is_empty() {
            return Ok(from_file);
        }
        // Without the file, a name server on this host is asked (resolv.conf(5)).
        let settings = Settings::parse(&fs::read_to_string(&self.resolv_conf).unwrap_or_default(), self.port);
        let mut first_error = None;
        for candidate in settings.candidates(host) {
            match settings.ask_all(&candidate) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => first_error = first_error.or(Some(LookupError { host: host.to_owned(), ..error })),
            }
        }
        Err(first_error.expect("a host has at least one candidate"))
    }
}

/// The addresses that a hosts file gives a name, IPv4 first.
fn addresses_in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// What `resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Settings {
    fn parse(text: &str, port: u16) -> Self {
        let mut settings =
            Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    if let Some(address) = address.filter(|_| settings.servers.len() < SERVER_LIMIT) {
                        settings.servers.push(SocketAddr::new(address, port));
                    }
                }
                // The last one wins.
                Some("search") => settings.search = words.take(SEARCH_LIMIT).map(str::to_owned).collect(),
                Some("domain") => settings.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| settings.option(option)),
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        settings
    }

    /// Values beyond the limits count as the limits (`resolv.conf(5)`).
    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names to try, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        let own = host.strip_suffix('.').unwrap_or(host).to_owned();
        if host.ends_with('.') {
            return vec![own];
        }
        let mut names: Vec<String> = self
            .search
            .iter()
            .map(|domain| domain.trim_end_matches('.'))
            .filter(|domain| !domain.is_empty())
            .map(|domain| format!("{own}.{domain}"))
            .collect();
        let at = if own.bytes().filter(|b| *b == b'.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(at, own);
        names
    }

    /// Asks the servers in turn until one knows. "No such host" is an answer; a failing server is none.
    fn ask_all(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let error = |server, problem| LookupError { host: name.to_owned(), server, problem };
        let mut last = error(None, "no such host");
        for _ in 0..self.attempts {
            for server in &self.servers {
                match ask(*server, name, self.timeout) {
                    Ok(Some(addresses)) if !addresses.is_empty() => return Ok(addresses),
                    Ok(Some(_)) => return Err(error(Some(*server), "no such host")),
                    Ok(None) => last = error(Some(*server), "server misbehaving"),
                    Err(failure) => {
                        last = match failure.kind() {
                            io::ErrorKind::InvalidInput => return Err(error(None, "no such host")),
                            io::ErrorKind::TimedOut => error(Some(*server), "i/o timeout"),
                            io::ErrorKind::ConnectionRefused => error(Some(*server), "connection refused"),
                            _ => error(Some(*server), "server misbehaving"),
                        }
                    }
                }
            }
        }
        Err(last)
    }
}

/// Asks one server for IPv4 and IPv6 addresses at once. `None`: it cannot answer.
fn ask(server: SocketAddr, name: &str, timeout: Duration) -> io::Result<Option<Vec<IpAddr>>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let queries = [RecordType::A, RecordType::Aaaa].map(|record| Query { id: random(), name, record });
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    // Connected, so that the kernel drops what others send and reports a closed port.
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    for query in &queries {
        socket.send(&query.encode().ok_or_else(invalid)?)?;
    }
    let mut deadline = Instant::now() + timeout;
    let mut answers: [Option<Answer>; 2] = [None, None];
    let mut buffer = [0; 4096];
    while answers.iter().any(Option::is_none) {
        let received = match receive(&socket, &mut buffer, deadline) {
            // One family is enough; see SECOND_ANSWER.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && answers.iter().any(has_addresses) => break,
            received => received?,
        };
        for (query, answer) in queries.iter().zip(&mut answers) {
            if answer.is_none() {
                *answer = query.decode(&buffer[..received]);
                if *answer == Some(Answer::Truncated) {
                    *answer = Some(ask_by_tcp(server, query, timeout)?);
                }
            }
        }
        if answers.iter().any(has_addresses) {
            deadline = deadline.min(Instant::now() + SECOND_ANSWER);
        }
    }
    let known = answers.iter().any(|answer| matches!(answer, Some(Answer::Addresses(_) | Answer::NoSuchName)));
    let addresses = answers.into_iter().flatten().flat_map(|answer| match answer {
        Answer::Addresses(addresses) => addresses,
        Answer::NoSuchName | Answer::Truncated | Answer::Failure => Vec::new(),
    });
    Ok(known.then(|| addresses.collect()))
}

fn has_addresses(answer: &Option<Answer>) -> bool {
    matches!(answer, Some(Answer::Addresses(addresses)) if !addresses.is_empty())
}

fn receive(socket: &UdpSocket, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(buffer) {
            // The socket's timeout and signals; the deadline decides.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            received => return received,
        }
    }
}

/// Asks once more where answers may be long (RFC 7766).
fn ask_by_tcp(server: SocketAddr, query: &Query<'_>, timeout: Duration) -> io::Result<Answer> {
    let message = query.encode().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let length = u16::try_from(message.len()).expect("a question is shorter than 64 KiB");
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(&[&length.to_be_bytes()[..], &message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(query.decode(&message).unwrap_or(Answer::Failure))
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Two bytes are never delivered in part, and the only errors are those of wrong arguments and of a
    // kernel that has not gathered entropy since boot, for which this call waits.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[test]
    fn settings_are_read_as_resolv_conf_5_says() {
        let text = "# c\n; c\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ::1\ndomain x\n\
                    search a.b c.\noptions ndots:2 timeout:99 attempts:0 rotate ndots:x\nnameserver 1.1.1.1\nnameserver 2.2.2.2";
        let settings = Settings::parse(text, 53);
        let servers: Vec<String> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "1.1.1.1:53"]);
        assert_eq!((settings.ndots, settings.timeout.as_secs(), settings.attempts), (2, 30, 1));
        assert_eq!(settings.candidates("r.io"), ["r.io.a.b", "r.io.c", "r.io"]);
        assert_eq!(settings.candidates("a.r.io"), ["a.r.io", "a.r.io.a.b", "a.r.io.c"]);
        assert_eq!(settings.candidates("reg."), ["reg"]);
        assert_eq!(Settings::parse("", 53).servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_and_literals_need_no_server() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, "10.0.0.9 other\nfd00::7 reg\n10.0.0.7 x REG # reg2\nbad reg\n6.6.6.6 localhost\n").unwrap();
        let resolver = SystemResolver { hosts, resolv_conf: folder.path().join("none"), port: 1 };
        let lookup = |host| {
            let addresses = resolver.lookup(host).unwrap();
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(lookup("reg"), "10.0.0.7 fd00::7");
        assert_eq!(lookup("Reg."), "10.0.0.7 fd00::7");
        assert_eq!(lookup("localhost"), "127.0.0.1 ::1");
        assert_eq!(lookup("10.2.3.4"), "10.2.3.4");
        assert_eq!(lookup("::1"), "::1");
        assert!(resolver.lookup("reg2").is_err());
    }

    /// A name server of four names: `big` by TCP only, `v4` never answers for AAAA, `none` does not exist,
    /// `sick` is refused. Ends when the returned sender is dropped and one more message came.
    struct NameServer {
        address: SocketAddr,
        _running: mpsc::Sender<()>,
    }

    fn reply(query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let mut message = query.to_vec();
        let end = 12 + query[12..].iter().position(|b| *b == 0)?;
        let first = std::str::from_utf8(&query[13..13 + usize::from(query[12])]).ok()?.to_owned();
        let aaaa = query[end + 2] == 28;
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        let v4: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x05";
        let v6: &[u8] = b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05";
        match first.as_str() {
            "v4" if aaaa => return None,
            "big" if !tcp => message[2] |= 2,
            "big" | "v4" => {
                message[7] = 1;
                message.extend(if aaaa { v6 } else { v4 });
            }
            "sick" => message[3] |= 5,
            _ => message[3] |= 3,
        }
        Some(message)
    }

    fn name_server() -> NameServer {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if length == 0 {
                    break;
                }
                if let Some(message) = reply(&buffer[..length], false) {
                    udp.send_to(&message, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    break;
                }
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let message = reply(&query, true).unwrap();
                stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&message).unwrap();
            }
        });
        let (_running, _) = mpsc::channel();
        NameServer { address, _running }
    }

    impl Drop for NameServer {
        fn drop(&mut self) {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&[], self.address).unwrap();
            drop(TcpStream::connect(self.address));
        }
    }

    #[test]
    fn name_servers_are_asked() {
        let server = name_server();
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch example.com\noptions timeout:3 attempts:1\n").unwrap();
        let resolver = SystemResolver { hosts: folder.path().join("none"), resolv_conf, port: server.address.port() };
        let addresses = |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|a| a.parse().unwrap()).collect() };
        assert_eq!(resolver.lookup("big").unwrap(), addresses(&["10.0.0.5", "fd00::5"]));
        assert_eq!(resolver.lookup("v4.example.com").unwrap(), addresses(&["10.0.0.5"]));
        let text = |host| resolver.lookup(host).unwrap_err().to_string();
        assert_eq!(text("none.io"), format!("lookup none.io on {}: no such host", server.address));
        assert_eq!(text("sick.io"), format!("lookup sick.io on {}: server misbehaving", server.address));
        assert_eq!(text("a..b"), "lookup a..b: no such host");
    }

    #[test]
    fn a_closed_port_is_no_silence() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let resolver = SystemResolver { hosts: "/nonexistent".into(), resolv_conf: "/nonexistent".into(), port };
        let text = resolver.lookup("r.io").unwrap_err().to_string();
        assert_eq!(text, format!("lookup r.io on 127.0.0.1:{port}: connection refused"));
    }
}
