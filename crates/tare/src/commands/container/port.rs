//! `port`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use std::net::SocketAddrV4;
use tare_spec::port::Protocol;

pub(crate) static VERB: Verb = Verb {
    name: "port",
    names: &["container port", "port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    flags: &[],
    arity: Arity::Between(1, 2),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let name = m.args[0].as_str();
    let wanted = m.args.get(1).map(|text| wanted(text)).transpose()?;
    let details = ui.engine()?.inspect(name)?;
    let mut ports = details.state.run.map(|run| run.ports).unwrap_or_default();
    ports.sort_by_key(|port| (port.container_port, port.protocol, port.host_ip, port.host_port));
    let mut found = false;
    for port in ports {
        let host = SocketAddrV4::new(port.host_ip, port.host_port);
        match wanted {
            Some(wanted) if wanted != (port.container_port, port.protocol) => continue,
            Some(_) => ui.line(&host.to_string())?,
            None => ui.line(&format!("{}/{} -> {host}", port.container_port, port.protocol))?,
        }
        found = true;
    }
    match wanted {
        Some((port, protocol)) if !found => {
            Err(Failure::new(format!("no public port '{port}/{protocol}' published for {name}")))
        }
        _ => Ok(Exit::SUCCESS),
    }
}

fn wanted(text: &str) -> Result<(u16, Protocol), Failure> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = port.parse().map_err(|_| Failure::new(format!("invalid port '{port}'")))?;
    let protocol = protocol.parse().map_err(|error: tare_spec::port::InvalidPort| Failure::new(error.to_string()))?;
    Ok((number, protocol))
}
