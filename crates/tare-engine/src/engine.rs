//! The engine: one value that owns the paths of all records.

use crate::container::view::ListFilter;
use crate::error::{Error, Result};
use crate::state::file;
use crate::state::record::Status;
use crate::state::{self, Paths};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tare_net::Networks;
use tare_store::{Backend, Store, StoreOptions};

/// Where the engine keeps what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Persistent records and layers.
    pub root: PathBuf,
    /// What lives until the next boot.
    pub run_root: PathBuf,
    /// The form of layers that are taken in; the best that the kernel can when absent.
    pub layers: Option<Backend>,
}

impl Default for Options {
    fn default() -> Self {
        Self { root: "/var/lib/tare".into(), run_root: "/run/tare".into(), layers: None }
    }
}

/// What `info` tells of the host and the engine.
#[derive(Clone, Debug)]
pub struct Info {
    /// Containers that run.
    pub running: usize,
    /// Containers that do not, created ones included.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// Name of the layer backend.
    pub storage_driver: String,
    /// `1`, `2` or `hybrid`.
    pub cgroup_version: String,
    /// Kernel release.
    pub kernel: String,
    /// The distribution's `PRETTY_NAME`.
    pub operating_system: String,
    /// `x86_64`…
    pub architecture: String,
    /// Online CPUs.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Host name.
    pub name: String,
    /// Where records are.
    pub root: PathBuf,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// A container engine on one root directory. Several processes may each have one on the same directory.
pub struct Engine {
    pub(crate) paths: Paths,
    layers: Option<Backend>,
    store: OnceLock<Store>,
    networks: OnceLock<Networks>,
    boot_id: OnceLock<String>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine, making its directories when absent.
    ///
    /// # Errors
    /// [`Error::NotRoot`] without root rights; [`Error::File`] when a directory cannot be made.
    pub fn open(options: Options) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|source| Error::file("find", &path, source));
        let paths = Paths { root: absolute(options.root)?, run_root: absolute(options.run_root)? };
        for path in [paths.containers(), paths.names(), paths.run_root.join("containers")] {
            if !path.exists() {
                file::make_directory(&path)?;
            }
        }
        let (store, networks, boot_id) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ok(Self { paths, layers: options.layers, store, networks, boot_id })
    }

    pub(crate) fn store(&self) -> Result<&Store> {
        if self.store.get().is_none() {
            let mut options = StoreOptions::new(&self.paths.root, self.paths.run_root.join("layers"));
            options.backend = self.layers;
            // Two threads may open it at once; either value serves.
            let _ = self.store.set(Store::open(&options)?);
        }
        Ok(self.store.get().expect("it was set above"))
    }

    pub(crate) fn networks(&self) -> Result<&Networks> {
        if self.networks.get().is_none() {
            // As with the store.
            let _ = self.networks.set(Networks::open(&self.paths.root, &self.paths.run_root)?);
        }
        Ok(self.networks.get().expect("it was set above"))
    }

    pub(crate) fn boot_id(&self) -> Result<&str> {
        if self.boot_id.get().is_none() {
            // As with the store.
            let _ = self.boot_id.set(state::boot_id()?);
        }
        Ok(self.boot_id.get().expect("it was set above"))
    }

    /// Facts of host and engine.
    ///
    /// # Errors
    /// When records cannot be read.
    pub fn info(&self) -> Result<Info> {
        let listing = self.list(&ListFilter { all: true, ..ListFilter::default() })?;
        let containers = listing.containers;
        let running = containers.iter().filter(|container| container.state.status == Status::Running).count();
        let system = rustix::system::uname();
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
        Ok(Info {
            running,
            stopped: containers.len() - running,
            images: self.store()?.summaries()?.len(),
            storage_driver: self.store()?.layers().name().to_owned(),
            cgroup_version: match (unified, hybrid) {
                (true, _) => "2",
                (false, true) => "hybrid",
                (false, false) => "1",
            }
            .to_owned(),
            kernel: system.release().to_string_lossy().into_owned(),
            operating_system: operating_system()?,
            architecture: system.machine().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: rustix::system::sysinfo().totalram * u64::from(rustix::system::sysinfo().mem_unit),
            name: system.nodename().to_string_lossy().into_owned(),
            root: self.paths.root.clone(),
            warnings: listing.unreadable.iter().map(crate::error::text).collect(),
        })
    }
}

/// The distribution's name (os-release(5)).
fn operating_system() -> Result<String> {
    let text = file::read_text(Path::new("/etc/os-release"))?.unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Ok(name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned()))
}
