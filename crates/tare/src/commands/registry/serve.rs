//! `registry serve`

use crate::cli::Verb;
use crate::failure::{Exit, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::signals::Signals;
use crate::ui::{Ui, note};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tare_engine::registry::{self, Access, Event, Limits, ServerOptions, Stop, TlsFiles};

pub(crate) static VERB: Verb = Verb {
    name: "serve",
    names: &["registry serve"],
    usage: "[OPTIONS]",
    about: "Run a private registry",
    flags: &[&[
        Flag::value(
            "addr",
            "string",
            "Address and port to listen on; port 0 takes a free one (default \"127.0.0.1:5000\")",
        ),
        ROOT,
        Flag::value("htpasswd", "file", "Let in only the users of this file (bcrypt: `htpasswd -B`)"),
        Flag::value("tls-cert", "file", "Certificate (PEM), followed by those that lead to its authority"),
        Flag::value("tls-key", "file", "Private key of the certificate (PEM)"),
        Flag::value("proxy", "url", "Be a cache of this registry: fetch from it what is not here, and take no pushes"),
        Flag::switch("read-only", "Refuse pushes and deletions"),
        Flag::switch("quiet", "No access log").short('q'),
    ]],
    arity: Arity::Exactly(0),
    stops_at_first_argument: false,
    run,
};

/// Where a registry's content is.
pub(super) const ROOT: Flag =
    Flag::value("root", "path", "Where the registry keeps its content (default \"registry\" below tare's own root)");

/// The port that registries without TLS usually have.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let file = |flag| m.one(flag).map(PathBuf::from);
    let tls = match (file("tls-cert"), file("tls-key")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        _ => return Err(m.bad_flags("--tls-cert and --tls-key go together".to_owned())),
    };
    let options = ServerOptions {
        address: m.read("addr", address)?.unwrap_or(ADDRESS),
        tls,
        htpasswd: file("htpasswd"),
        read_only: m.switch("read-only")?,
        proxy: m.one("proxy").map(registry::upstream).transpose()?,
        limits: Limits::default(),
    };
    let (quiet, secure, guarded) = (m.switch("quiet")?, options.tls.is_some(), options.htpasswd.is_some());
    let log = Arc::new(move |event: Event| match event {
        Event::Access(access) if quiet && access.cause.is_none() => {}
        event => note(&line(&event, Timestamp::now())),
    });
    // Before anything listens: a signal from now on ends it in order.
    let signals = Signals::to_end()?;
    let server = registry::open(&root(m, ui), options, log)?;
    if !server.address().ip().is_loopback() {
        match (guarded, secure) {
            (false, _) => {
                ui.warn("anybody who reaches this address may pull, and push what is not refused: see --htpasswd")
            }
            (true, false) => ui.warn("passwords travel unencrypted: see --tls-cert and --tls-key"),
            (true, true) => {}
        }
    }
    let stop = server.stop();
    std::thread::spawn(move || end_by(signals, &stop));
    let scheme = if secure { "https" } else { "http" };
    ui.line(&format!("{scheme}://{}", server.address()))?;
    server.run().map_err(tare_engine::Error::from)?;
    Ok(Exit::SUCCESS)
}

/// The registry's folder.
pub(super) fn root(m: &Matches, ui: &Ui) -> PathBuf {
    m.one("root").map_or_else(|| ui.root().join("registry"), PathBuf::from)
}

/// The first signal lets the server finish what it does, the second one ends it.
fn end_by(mut signals: Signals, stop: &Stop) {
    let mut count = 0;
    loop {
        let ready = poll(&mut [PollFd::new(&signals.as_fd(), PollFlags::IN)], None);
        count += signals.take().len();
        if count > 1 || ready.is_err_and(|error| error != rustix::io::Errno::INTR) {
            std::process::exit(130);
        }
        if count == 1 {
            stop.stop();
        }
    }
}

/// `127.0.0.1:5000`, `[::1]:5000`, `localhost:5000`, `:5000` for all addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "5000"));
    let port: u16 = port.parse().map_err(|_| "expected ADDRESS:PORT".to_owned())?;
    let host = match host {
        "" if text.is_empty() => return Err("expected ADDRESS:PORT".to_owned()),
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => ADDRESS.ip(),
        host => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            bare.parse().map_err(|_| "expected an IP address of this machine and a port".to_owned())?
        }
    };
    Ok(SocketAddr::new(host, port))
}

/// A line of the log.
fn line(event: &Event, now: Timestamp) -> String {
    let now = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    match event {
        Event::Trouble(text) => format!("{now} {text}\n"),
        Event::Access(access) => {
            let Access { peer, user, method, target, status, size, duration, agent, cause } = access;
            let user = user.as_deref().unwrap_or("-");
            let agent = agent.as_deref().unwrap_or("-");
            let mut line = format!(
                "{now} {peer} {user} \"{method} {target}\" {status} {size} {:.1}ms {agent:?}",
                duration.as_secs_f64() * 1000.0
            );
            if let Some(cause) = cause {
                let _ = write!(line, ": {cause}");
            }
            line.push('\n');
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_people_write() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:80", "[::1]:80"),
            (":5000", "[::]:5000"),
            ("localhost:1", "127.0.0.1:1"),
            ("10.0.0.1", "10.0.0.1:5000"),
        ] {
            assert_eq!(address(text).unwrap(), expected.parse().unwrap(), "{text}");
        }
        for text in ["", "host:5000", "1.2.3.4:", "1.2.3.4:65536", "1.2.3:5"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_is_one_line() {
        let access = Access {
            peer: "127.0.0.1:9".parse().unwrap(),
            user: Some("anna".into()),
            method: "GET".into(),
            target: "/v2/".into(),
            status: 500,
            size: 2,
            duration: std::time::Duration::from_micros(1500),
            agent: Some("a\"b".into()),
            cause: Some("disk".into()),
        };
        assert_eq!(
            line(&Event::Access(access), Timestamp::UNIX_EPOCH),
            "1970-01-01T00:00:00.000Z 127.0.0.1:9 anna \"GET /v2/\" 500 2 1.5ms \"a\\\"b\": disk\n"
        );
    }
}
