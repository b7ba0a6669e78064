//! `ps`

use crate::cli::Verb;
use crate::duration;
use crate::failure::{Exit, Failure, Outcome, chain};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{Flag, TABLE_FORMAT, filter, numbers};
use crate::table::{self, Column, Row, ellipsis};
use crate::ui::Ui;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use tare_engine::container::spec::NetworkMode;
use tare_engine::container::view::{ContainerSummary, ListFilter, PublishedPort};
use tare_engine::state::record::{ContainerState, Status};
use tare_spec::port::ExposedPort;

pub(crate) static VERB: Verb = Verb {
    name: "ps",
    names: &["container ls", "container list", "container ps", "ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    flags: &[&[
        Flag::switch("all", "Show all containers (default shows just running)").short('a'),
        Flag::value("filter", "filter", "Filter output based on conditions provided").short('f'),
        TABLE_FORMAT,
        Flag::value("last", "int", "Show n last created containers (includes all states) (default -1)").short('n'),
        Flag::switch("latest", "Show the latest created container (includes all states)").short('l'),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only display container IDs").short('q'),
        Flag::no_switch("size").short('s'),
    ]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

pub(crate) const COLUMNS: &[Column] = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

const SHOWN: &[&str] = &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let filter = list_filter(m)?;
    let truncate = !m.switch("no-trunc")?;
    let quiet = m.switch("quiet")?;
    let listing = ui.engine()?.list(&filter)?;
    for error in &listing.unreadable {
        ui.warn(&chain(error));
    }
    let containers = listing.containers;
    if quiet && m.one("format").is_none() {
        for container in &containers {
            writeln!(ui.out, "{}", if truncate { container.id.short() } else { container.id.as_str() })?;
        }
        return Ok(Exit::SUCCESS);
    }
    let rows: Vec<Row> = containers.iter().map(|container| row(container, truncate)).collect();
    ui.out.write_all(table::render(m.one("format"), COLUMNS, SHOWN, &rows)?.as_bytes())?;
    Ok(Exit::SUCCESS)
}

fn list_filter(m: &Matches) -> Result<ListFilter, Failure> {
    let last = m.read("last", numbers::integer)?.and_then(|last| usize::try_from(last).ok()).filter(|&last| last > 0);
    let mut list = ListFilter {
        all: m.switch("all")?,
        last: if m.switch("latest")? { Some(1) } else { last },
        ..ListFilter::default()
    };
    for (name, value) in m.read_all("filter", filter::parse)? {
        match name.as_str() {
            "name" => list.names.push(value),
            "id" => list.ids.push(value),
            "label" => list.labels.push(value),
            "ancestor" => list.ancestors.push(value),
            "status" => {
                const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
                if !STATES.contains(&value.as_str()) {
                    return Err(Failure::new(format!(
                        "invalid filter 'status={value}': must be one of {}",
                        STATES.join(", ")
                    )));
                }
                list.statuses.push(value);
            }
            "exited" => list
                .exit_codes
                .push(value.parse().map_err(|_| Failure::new(format!("invalid filter 'exited={value}'")))?),
            "before" | "since" | "volume" | "network" | "publish" | "expose" | "health" | "isolation" | "is-task" => {
                return Err(Failure::new(format!("--filter {name} is not supported yet")));
            }
            _ => return Err(Failure::new(format!("invalid filter '{name}'"))),
        }
    }
    // A state or an exit code is asked for by whoever wants to see the containers in it.
    list.all |= !list.statuses.is_empty() || !list.exit_codes.is_empty();
    Ok(list)
}

pub(crate) fn row(container: &ContainerSummary, truncate: bool) -> Row {
    let spec = &container.spec;
    let mounts: Vec<&str> = spec.binds.iter().map(|bind| bind.source.as_str()).collect();
    let mounts: Vec<String> =
        mounts.into_iter().map(|path| if truncate { ellipsis(path, 15) } else { path.to_owned() }).collect();
    let labels: Vec<String> = container.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = BTreeMap::from([
        ("Command", command(&container.command, truncate)),
        ("CreatedAt", duration::show(container.created)),
        ("ID", if truncate { container.id.short() } else { container.id.as_str() }.to_owned()),
        ("Image", container.image.clone()),
        ("Labels", labels.join(",")),
        ("LocalVolumes", "0".to_owned()),
        ("Mounts", mounts.join(",")),
        ("Names", container.name.clone()),
        ("Networks", spec.network.name().to_owned()),
        ("Ports", ports(&listed_ports(container))),
        ("RunningFor", format!("{} ago", duration::since(container.created))),
        ("Size", "0B".to_owned()),
        ("State", state(container.state.status).to_owned()),
        ("Status", status(&container.state)),
    ]);
    Row { fields, labels: container.labels.clone() }
}

/// The command in quotes, cut to 20 characters. As in Docker, arguments with spaces have single quotes, the program not.
fn command(words: &[String], truncate: bool) -> String {
    let quoted = |(index, word): (usize, &String)| {
        if index > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() }
    };
    let line = words.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ");
    format!("{:?}", if truncate { ellipsis(&line, 20) } else { line })
}

/// A state in Docker's word.
fn state(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Stopped => "exited",
    }
}

fn status(state: &ContainerState) -> String {
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let lost = state.run.as_ref().is_some_and(|run| !run.monitored);
            let up = state.started.map_or_else(|| "Up".to_owned(), |at| format!("Up {}", duration::since(at)));
            if lost { format!("{up} (unmonitored)") } else { up }
        }
        Status::Stopped => match state.finished {
            Some(at) => format!("Exited ({}) {} ago", state.exit_code, duration::since(at)),
            None => format!("Exited ({})", state.exit_code),
        },
    }
}

/// The published ports and, while the container runs, those that are only exposed, which have host port 0 here.
fn listed_ports(container: &ContainerSummary) -> Vec<PublishedPort> {
    let mut ports = container.ports.clone();
    if container.state.status == Status::Running && container.spec.network == NetworkMode::Bridge {
        // What the record holds was parsed when the container was made.
        for exposed in container.exposed.iter().filter_map(|text| ExposedPort::parse(text).ok()).flatten() {
            let same = |port: &PublishedPort| (port.container_port, port.protocol) == (exposed.port, exposed.protocol);
            if !container.ports.iter().any(same) {
                ports.push(PublishedPort {
                    host_ip: Ipv4Addr::UNSPECIFIED,
                    host_port: 0,
                    container_port: exposed.port,
                    protocol: exposed.protocol,
                });
            }
        }
    }
    ports
}

/// Published ports as Docker lists them, neighbours in one range: `0.0.0.0:3000-3001->80-81/tcp, 443/tcp`.
fn ports(ports: &[PublishedPort]) -> String {
    let mut ports: Vec<&PublishedPort> = ports.iter().collect();
    ports.sort_by_key(|port| (port.host_port == 0, port.protocol, port.host_ip, port.container_port, port.host_port));
    // A run of neighbours: the first and the last port of both sides.
    let mut runs: Vec<(&PublishedPort, u16, u16)> = Vec::new();
    for port in ports {
        if let Some((first, container_last, host_last)) = runs.last_mut() {
            let same = (first.host_ip, first.protocol) == (port.host_ip, port.protocol);
            let exposed = port.host_port == 0 && *host_last == 0;
            let next_host = exposed || (*host_last > 0 && host_last.checked_add(1) == Some(port.host_port));
            if same && next_host && container_last.checked_add(1) == Some(port.container_port) {
                (*container_last, *host_last) = (port.container_port, port.host_port);
                continue;
            }
        }
        runs.push((port, port.container_port, port.host_port));
    }
    let range = |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let shown: Vec<String> = runs
        .into_iter()
        .map(|(first, container_last, host_last)| {
            let container = range(first.container_port, container_last);
            if first.host_port == 0 {
                return format!("{container}/{}", first.protocol);
            }
            format!("{}:{}->{container}/{}", first.host_ip, range(first.host_port, host_last), first.protocol)
        })
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_spec::port::Protocol;

    #[test]
    fn ports_are_listed_in_ranges() {
        let port = |ip: &str, host_port, container_port, protocol| PublishedPort {
            host_ip: ip.parse().unwrap(),
            host_port,
            container_port,
            protocol,
        };
        let (any, tcp, udp) = ("0.0.0.0", Protocol::Tcp, Protocol::Udp);
        assert_eq!(ports(&[port(any, 3000, 80, tcp)]), "0.0.0.0:3000->80/tcp");
        assert_eq!(
            ports(&[
                port(any, 0, 443, tcp),
                port(any, 3001, 81, tcp),
                port(any, 3000, 80, tcp),
                port("127.0.0.1", 53, 53, udp),
                port(any, 9000, 82, tcp),
            ]),
            "0.0.0.0:3000-3001->80-81/tcp, 0.0.0.0:9000->82/tcp, 127.0.0.1:53->53/udp, 443/tcp"
        );
        assert_eq!(ports(&[]), "");
    }

    #[test]
    fn commands_are_cut() {
        let words = ["nginx".to_owned(), "-g".to_owned(), "daemon off;".to_owned()];
        assert_eq!(command(&words, true), "\"nginx -g 'daemon of…\"");
        let words = ["/docker-entrypoint.sh".to_owned(), "nginx".to_owned()];
        assert_eq!(command(&words, true), "\"/docker-entrypoint.…\"");
        assert_eq!(command(&words, false), "\"/docker-entrypoint.sh nginx\"");
    }
}
