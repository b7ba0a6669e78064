//! A container, as `container inspect` shows it.

use crate::host_config::HostConfig;
use crate::network::NetworkSettings;
use crate::time::rfc3339;
use serde::Serialize;
use std::collections::BTreeMap;
use tare_engine::container::view::ContainerDetails;
use tare_engine::state::record::{ContainerRecord, ContainerState, Status};
use tare_spec::image::{Empty, Healthcheck};

/// All that is known of a container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its id.
    pub id: String,
    /// When it was created.
    pub created: String,
    /// Its program.
    pub path: String,
    /// The program's arguments.
    pub args: Vec<String>,
    /// Where it is in its life.
    pub state: State,
    /// Its image's id.
    pub image: String,
    /// The host's file that appears as /etc/resolv.conf.
    pub resolv_conf_path: String,
    /// The host's file that appears as /etc/hostname.
    pub hostname_path: String,
    /// The host's file that appears as /etc/hosts.
    pub hosts_path: String,
    /// Its log.
    pub log_path: String,
    /// Its name with a slash before it.
    pub name: String,
    /// How often its policy started it again.
    pub restart_count: u32,
    /// How its layers are joined.
    pub driver: String,
    /// Operating system of its image.
    pub platform: String,
    /// Always empty: no label of SELinux.
    pub mount_label: String,
    /// Always empty: no label of SELinux.
    pub process_label: String,
    /// Always empty: no profile of AppArmor.
    pub app_armor_profile: String,
    /// Running processes of `exec`; not kept.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What it gets of its host.
    pub host_config: HostConfig,
    /// What is mounted into it.
    pub mounts: Vec<MountPoint>,
    /// What runs in it, and how.
    pub config: Config,
    /// Its networks.
    pub network_settings: NetworkSettings,
}

/// Where a container is in its life.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running` or `exited`.
    pub status: &'static str,
    /// Whether it runs.
    pub running: bool,
    /// Always false: containers cannot be paused.
    pub paused: bool,
    /// Always false: nothing is restarted by a policy.
    pub restarting: bool,
    /// Whether the kernel killed a process for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Always false: a container whose removal failed can be removed again.
    pub dead: bool,
    /// Process id on the host; 0 when it does not run.
    pub pid: i32,
    /// Exit code of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Start of the last run.
    pub started_at: String,
    /// End of the last run.
    pub finished_at: String,
}

/// What runs in a container, and how; or what an image says of it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Host name.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`.
    pub user: String,
    /// Whether the creator attached its standard input.
    pub attach_stdin: bool,
    /// Whether the creator attached its standard output.
    pub attach_stdout: bool,
    /// Whether the creator attached its standard error.
    pub attach_stderr: bool,
    /// Exposed ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub open_stdin: bool,
    /// Whether its standard input ends with the first client's.
    pub stdin_once: bool,
    /// Environment.
    pub env: Vec<String>,
    /// Command.
    pub cmd: Option<Vec<String>>,
    /// Image as it was named.
    pub image: String,
    /// Volumes that the image declares.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    pub working_dir: String,
    /// Entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Steps for builds that start from the image.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to see whether the program works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Whether the command line is already escaped (Windows).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
}

/// Something that is mounted into a container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Options.
    pub mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// Mount propagation.
    pub propagation: String,
}

impl From<&ContainerDetails> for Container {
    fn from(details: &ContainerDetails) -> Self {
        let (record, state) = (&details.record, &details.state);
        let mut words = record.args().into_iter();
        let [resolv_conf, hostname, hosts] = details.etc_paths.clone();
        Self {
            id: record.id.to_string(),
            created: rfc3339(Some(record.created)),
            path: words.next().unwrap_or_default(),
            args: words.collect(),
            state: State::from(state),
            image: record.image_id.to_string(),
            resolv_conf_path: resolv_conf,
            hostname_path: hostname,
            hosts_path: hosts,
            log_path: details.log_path.clone(),
            name: format!("/{}", record.name),
            restart_count: state.restarts,
            driver: "overlay2".to_owned(),
            platform: record.platform.split('/').next().unwrap_or_default().to_owned(),
            mount_label: String::new(),
            process_label: String::new(),
            app_armor_profile: String::new(),
            exec_ids: None,
            host_config: HostConfig::from(&record.spec),
            mounts: mounts(record),
            config: config(record),
            network_settings: NetworkSettings::from(details),
        }
    }
}

impl From<&ContainerState> for State {
    fn from(state: &ContainerState) -> Self {
        Self {
            status: match state.status {
                Status::Created => "created",
                Status::Running => "running",
                Status::Stopped => "exited",
            },
            running: state.status == Status::Running,
            paused: false,
            restarting: false,
            oom_killed: state.oom_killed,
            dead: false,
            pid: state.run.as_ref().map_or(0, |run| run.pid),
            exit_code: state.exit_code,
            error: state.error.clone(),
            started_at: rfc3339(state.started),
            finished_at: rfc3339(state.finished),
        }
    }
}

fn config(record: &ContainerRecord) -> Config {
    let spec = &record.spec;
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    Config {
        hostname: record.hostname.clone(),
        domainname: String::new(),
        user: record.user.clone(),
        attach_stdin: spec.attach.stdin,
        attach_stdout: spec.attach.stdout,
        attach_stderr: spec.attach.stderr,
        exposed_ports: (!record.exposed.is_empty())
            .then(|| record.exposed.iter().map(|port| (port.clone(), Empty {})).collect()),
        tty: spec.terminal,
        open_stdin: spec.open_stdin,
        stdin_once: spec.open_stdin && spec.attach.stdin,
        env: record.env.clone(),
        cmd: some(&record.command),
        image: spec.image.clone(),
        volumes: None,
        working_dir: record.working_dir.clone(),
        entrypoint: some(&record.entrypoint),
        on_build: None,
        labels: record.labels.clone(),
        stop_signal: Some(record.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        stop_timeout: spec.stop_timeout,
        healthcheck: None,
        shell: None,
        args_escaped: false,
    }
}

fn mounts(record: &ContainerRecord) -> Vec<MountPoint> {
    let binds = record.spec.binds.iter().map(|bind| MountPoint {
        kind: "bind",
        source: bind.source.clone(),
        destination: bind.target.clone(),
        mode: if bind.read_only { "ro" } else { "" }.to_owned(),
        writable: !bind.read_only,
        propagation: bind.propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
    });
    let tmpfs = record.spec.tmpfs.iter().map(|(target, options)| MountPoint {
        kind: "tmpfs",
        source: String::new(),
        destination: target.clone(),
        mode: options.clone(),
        writable: !options.split(',').any(|option| option == "ro"),
        propagation: String::new(),
    });
    binds.chain(tmpfs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_never_ran_has_gos_zero_times() {
        let json = serde_json::to_value(State::from(&ContainerState::created())).unwrap();
        assert_eq!((&json["Status"], &json["Running"], &json["Pid"]), (&"created".into(), &false.into(), &0.into()));
        assert_eq!(json["StartedAt"], "0001-01-01T00:00:00Z");
        assert_eq!(json["OOMKilled"], false);
    }
}
