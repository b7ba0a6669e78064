//! What a container gets of its host, as `inspect` shows it.

use crate::network::{PortBinding, PortMap};
use serde::Serialize;
use std::collections::BTreeMap;
use tare_engine::container::spec::{Bind, ContainerSpec};

/// `HostConfig`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// Bind mounts of `-v`.
    pub binds: Option<Vec<String>>,
    /// The file of `--cidfile`; empty, because it is not kept.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// The log.
    pub log_config: LogConfig,
    /// `bridge`, `host` or `none`.
    pub network_mode: String,
    /// Published ports as they were asked for.
    pub port_bindings: PortMap,
    /// What happens when it ends.
    pub restart_policy: RestartPolicy,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Rows and columns of the terminal at its start.
    pub console_size: [u16; 2],
    /// Capabilities besides the default ones.
    pub cap_add: Option<Vec<String>>,
    /// Default capabilities that it lacks.
    pub cap_drop: Option<Vec<String>>,
    /// cgroup namespace.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Lines for /etc/hosts.
    pub extra_hosts: Option<Vec<String>>,
    /// IPC namespace.
    pub ipc_mode: String,
    /// PID namespace; empty for its own.
    pub pid_mode: String,
    /// Whether it has all privileges.
    pub privileged: bool,
    /// Whether every exposed port is published.
    pub publish_all_ports: bool,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Security options.
    pub security_opt: Option<Vec<String>>,
    /// Temporary file systems.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// UTS namespace; empty for its own.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// User namespace; empty for the host's.
    pub userns_mode: String,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// The runtime.
    pub runtime: String,
    /// Memory limit in bytes; 0 for none.
    pub memory: u64,
    /// CPU limit in thousand-millionths of a CPU; 0 for none.
    pub nano_cpus: u64,
    /// Limit of processes and threads.
    pub pids_limit: Option<i64>,
    /// Mounts of `--mount`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountWish>,
}

/// Where the log goes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogConfig {
    /// `json-file`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Options.
    pub config: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { kind: "json-file".to_owned(), config: BTreeMap::new() }
    }
}

/// What happens when a container ends.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`.
    pub name: String,
    /// How often.
    pub maximum_retry_count: u32,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { name: "no".to_owned(), maximum_retry_count: 0 }
    }
}

/// A mount as it was asked for with `--mount`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountWish {
    /// `bind`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether it cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Bytes of /dev/shm when nothing else is asked for, as Docker's default.
const SHM_SIZE: u64 = 64 << 20;

impl From<&ContainerSpec> for HostConfig {
    fn from(spec: &ContainerSpec) -> Self {
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let (binds, mounts): (Vec<&Bind>, Vec<&Bind>) = spec.binds.iter().partition(|bind| bind.create_source);
        let mut port_bindings = PortMap::new();
        for port in &spec.ports {
            let host_port = match (port.host_port, port.host_port_end) {
                (Some(first), Some(last)) => format!("{first}-{last}"),
                (Some(port), None) => port.to_string(),
                (None, _) => String::new(),
            };
            let host_ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            let bindings = port_bindings.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
            bindings.get_or_insert_with(Vec::new).push(PortBinding { host_ip, host_port });
        }
        let mut security = Vec::new();
        if spec.no_new_privileges {
            security.push("no-new-privileges".to_owned());
        }
        if spec.seccomp_unconfined {
            security.push("seccomp=unconfined".to_owned());
        }
        Self {
            binds: some(binds.into_iter().map(bind_text).collect()),
            network_mode: spec.network.name().to_owned(),
            port_bindings,
            auto_remove: spec.auto_remove,
            console_size: spec.console_size.map_or([0, 0], |(rows, columns)| [rows, columns]),
            cgroupns_mode: "private".to_owned(),
            dns: spec.dns.clone(),
            extra_hosts: some(spec.extra_hosts.clone()),
            ipc_mode: "private".to_owned(),
            publish_all_ports: spec.publish_all,
            readonly_rootfs: spec.read_only,
            security_opt: some(security),
            tmpfs: spec.tmpfs.clone(),
            shm_size: SHM_SIZE,
            runtime: "tare".to_owned(),
            memory: spec.memory.unwrap_or(0),
            nano_cpus: spec.nano_cpus.unwrap_or(0),
            pids_limit: spec.pids_limit,
            mounts: mounts
                .into_iter()
                .map(|bind| MountWish {
                    kind: "bind".to_owned(),
                    source: bind.source.clone(),
                    target: bind.target.clone(),
                    read_only: bind.read_only,
                })
                .collect(),
            ..Self::default()
        }
    }
}

/// A bind mount as `-v` takes it.
fn bind_text(bind: &Bind) -> String {
    let mut options: Vec<&str> = Vec::new();
    if bind.read_only {
        options.push("ro");
    }
    options.extend(bind.propagation.as_deref());
    let separator = if options.is_empty() { "" } else { ":" };
    format!("{}:{}{separator}{}", bind.source, bind.target, options.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::container::spec::NetworkMode;
    use tare_spec::port::PortMapping;

    #[test]
    fn a_wish_is_shown_as_docker_shows_it() {
        let bind = |source: &str, target: &str, read_only, create_source| Bind {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only,
            create_source,
            propagation: None,
        };
        let spec = ContainerSpec {
            network: NetworkMode::Host,
            ports: PortMapping::parse("127.0.0.1:3000:80").unwrap(),
            binds: vec![bind("/a", "/b", true, true), bind("/c", "/d", false, false)],
            memory: Some(64 << 20),
            no_new_privileges: true,
            ..ContainerSpec::default()
        };
        let json = serde_json::to_value(HostConfig::from(&spec)).unwrap();
        assert_eq!(json["Binds"], serde_json::json!(["/a:/b:ro"]));
        assert_eq!(json["Mounts"], serde_json::json!([{"Type": "bind", "Source": "/c", "Target": "/d"}]));
        assert_eq!(json["PortBindings"], serde_json::json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "3000"}]}));
        assert_eq!((&json["NetworkMode"], &json["Memory"]), (&"host".into(), &(64 << 20).into()));
        assert_eq!(json["SecurityOpt"], serde_json::json!(["no-new-privileges"]));
        assert_eq!(json["CapAdd"], serde_json::Value::Null);
    }
}
