//! A container's networks and ports, as `inspect` shows them.

use serde::Serialize;
use std::collections::BTreeMap;
use tare_engine::container::spec::NetworkMode;
use tare_engine::container::view::ContainerDetails;

/// Where a published port is on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// The host's address; empty for all of them.
    pub host_ip: String,
    /// The host's port; empty for any.
    pub host_port: String,
}

/// Container's ports (`80/tcp`) and where they are on the host; `None` for those that are only exposed.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// All about a container's networks. The fields from `gateway` on repeat the default bridge's, as Docker does.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Name of the bridge interface; empty for the default one.
    pub bridge: String,
    /// Always empty: namespaces have no names here.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace while the container runs.
    pub sandbox_key: String,
    /// Ports.
    pub ports: PortMap,
    /// Always empty.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Gateway.
    pub gateway: String,
    /// Address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Prefix length of the network.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// Hardware address.
    pub mac_address: String,
    /// By network.
    pub networks: BTreeMap<String, Endpoint>,
}

/// A container's place in one network.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Endpoint {
    /// Hardware address.
    pub mac_address: String,
    /// Name of the network: built-in networks have no other id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Gateway.
    pub gateway: String,
    /// Address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Prefix length of the network.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
}

impl From<&ContainerDetails> for NetworkSettings {
    fn from(details: &ContainerDetails) -> Self {
        let mode = details.record.spec.network;
        let run = details.state.run.as_ref();
        let mut endpoint = Endpoint { network_id: mode.name().to_owned(), ..Endpoint::default() };
        if let Some(network) = run.and_then(|run| run.network.as_ref()) {
            endpoint.mac_address = network.mac.clone();
            endpoint.gateway = network.gateway.to_string();
            endpoint.ip_address = network.address.to_string();
            endpoint.ip_prefix_len = network.prefix_len;
        }
        // Before a start nothing is published, so Docker shows no ports at all.
        let mut ports = PortMap::new();
        if let Some(run) = run.filter(|_| mode == NetworkMode::Bridge) {
            for port in &details.record.exposed {
                ports.insert(port.clone(), None);
            }
            for port in &run.ports {
                let binding = PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() };
                let bindings = ports.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
                bindings.get_or_insert_with(Vec::new).push(binding);
            }
            ports.values_mut().flatten().for_each(|bindings| bindings.sort());
        }
        Self {
            sandbox_key: run.map(|run| format!("/proc/{}/ns/net", run.pid)).unwrap_or_default(),
            ports,
            gateway: endpoint.gateway.clone(),
            ip_address: endpoint.ip_address.clone(),
            ip_prefix_len: endpoint.ip_prefix_len,
            mac_address: endpoint.mac_address.clone(),
            networks: BTreeMap::from([(mode.name().to_owned(), endpoint)]),
            ..Self::default()
        }
    }
}
