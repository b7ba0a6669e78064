//! `version` and `info`.

use crate::API_VERSION;
use serde::Serialize;

/// What `version` tells.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// The command line.
    pub client: ClientVersion,
    /// The engine, which is the same program.
    pub server: ServerVersion,
}

/// The command line's part of [`Version`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClientVersion {
    /// Version of tare.
    pub version: String,
    /// Docker's API whose JSON this is.
    pub api_version: String,
    /// Operating system.
    pub os: String,
    /// Architecture, by Go's word.
    pub arch: String,
}

/// The engine's part of [`Version`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServerVersion {
    /// Version of tare.
    pub version: String,
    /// Docker's API whose JSON this is.
    pub api_version: String,
    /// Operating system.
    pub os: String,
    /// Architecture, by Go's word.
    pub arch: String,
    /// Kernel release.
    pub kernel_version: String,
}

impl Version {
    /// Of this program, whose version is `version`, on this kernel.
    #[must_use]
    pub fn current(version: &str) -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self {
            client: ClientVersion {
                version: version.to_owned(),
                api_version: API_VERSION.to_owned(),
                os: "linux".to_owned(),
                arch: arch.to_owned(),
            },
            server: ServerVersion {
                version: version.to_owned(),
                api_version: API_VERSION.to_owned(),
                os: "linux".to_owned(),
                arch: arch.to_owned(),
                kernel_version: kernel,
            },
        }
    }
}

/// What `info` tells.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// All containers.
    pub containers: usize,
    /// Those that run.
    pub containers_running: usize,
    /// Always 0: containers cannot be paused.
    pub containers_paused: usize,
    /// Those that do not run.
    pub containers_stopped: usize,
    /// Images.
    pub images: usize,
    /// The layer backend.
    pub driver: String,
    /// The log's format.
    pub logging_driver: String,
    /// Version of the cgroup hierarchy.
    pub cgroup_version: String,
    /// Kernel release.
    pub kernel_version: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Kind of operating system.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// Architecture, by the kernel's word.
    pub architecture: String,
    /// Online CPUs.
    #[serde(rename = "NCPU")]
    pub cpus: usize,
    /// Memory in bytes.
    pub mem_total: u64,
    /// Where images and containers are kept.
    pub docker_root_dir: String,
    /// Host name.
    pub name: String,
    /// Version of tare.
    pub server_version: String,
    /// What containers are confined by.
    pub security_options: Vec<String>,
    /// What the person should know.
    pub warnings: Vec<String>,
}

impl Info {
    /// From what the engine tells; `version` is the program's.
    #[must_use]
    pub fn new(info: &tare_engine::engine::Info, version: &str) -> Self {
        Self {
            containers: info.running + info.stopped,
            containers_running: info.running,
            containers_paused: 0,
            containers_stopped: info.stopped,
            images: info.images,
            driver: info.storage_driver.clone(),
            logging_driver: "json-file".to_owned(),
            cgroup_version: info.cgroup_version.clone(),
            kernel_version: info.kernel.clone(),
            operating_system: info.operating_system.clone(),
            os_type: "linux".to_owned(),
            architecture: info.architecture.clone(),
            cpus: info.cpus,
            mem_total: info.memory,
            docker_root_dir: info.root.display().to_string(),
            name: info.name.clone(),
            server_version: version.to_owned(),
            security_options: vec!["name=seccomp,profile=builtin".to_owned()],
            warnings: info.warnings.clone(),
        }
    }
}
