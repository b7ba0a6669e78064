//! Records on disk, and what keeps them whole between processes. The formats are in `docs/formats/container.md`.
//!
//! ```text
//! ROOT/containers/<id>/record.json       written once by `create`
//!                      state.json        written by whoever holds the lock below, or by the monitor
//!                      <id>-json.log     written by the monitor
//!                      upper/, work/
//! ROOT/names/<name>                      a symbolic link to the id
//! ROOT/mount-points/                     the lowest layer of every container (mount_points.rs)
//! RUN_ROOT/names.lock                    flock: names are taken away
//! RUN_ROOT/containers/<id>/lock          flock: one transition at a time
//!                          monitor.lock  flock: held by the monitor as long as it lives
//!                          monitor.sock  where it listens
//!                          monitor.err   what went wrong in it
//!                          hosts, hostname, resolv.conf   made anew by each start
//!                          state.json    the last state, where ROOT had no room for it
//!                          restarting    a container of `--rm` is stopped to be started again
//! ```
//!
//! **Lock order:** `lock`, `monitor.lock`, `names.lock`. A monitor never takes `lock`: who holds it may wait for the monitor.
//!
//! **After a crash:** a folder without `record.json` is what `create` or `rm` left half done, and is swept with its name
//! by the next engine that lists containers and gets its lock. A state that says "running" while nobody holds `monitor.lock` and the process
//! is gone is corrected by the next command that looks (`container/load.rs`).

pub mod file;
pub mod lock;
pub(crate) mod mount_points;
pub mod names;
pub mod record;

use std::path::{Path, PathBuf};
use tare_spec::ContainerId;

/// Where the records are.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) run_root: PathBuf,
}

impl Paths {
    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// Where `tare registry serve` keeps its content unless told otherwise.
    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }

    pub(crate) fn container(&self, id: &ContainerId) -> ContainerPaths {
        ContainerPaths {
            directory: self.root.join("containers").join(id.as_str()),
            run: self.run_root.join("containers").join(id.as_str()),
            id: id.clone(),
        }
    }
}

/// Where one container's records are.
#[derive(Clone, Debug)]
pub(crate) struct ContainerPaths {
    pub(crate) directory: PathBuf,
    pub(crate) run: PathBuf,
    id: ContainerId,
}

impl ContainerPaths {
    pub(crate) fn record(&self) -> PathBuf {
        self.directory.join("record.json")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(format!("{}-json.log", self.id))
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.run.join("hosts")
    }

    pub(crate) fn hostname(&self) -> PathBuf {
        self.run.join("hostname")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.run.join("resolv.conf")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    pub(crate) fn monitor_lock(&self) -> PathBuf {
        self.run.join("monitor.lock")
    }

    pub(crate) fn monitor_socket(&self) -> PathBuf {
        self.run.join("monitor.sock")
    }

    pub(crate) fn last_state(&self) -> PathBuf {
        self.run.join("state.json")
    }

    pub(crate) fn restarting(&self) -> PathBuf {
        self.run.join("restarting")
    }

    pub(crate) fn monitor_errors(&self) -> PathBuf {
        self.run.join("monitor.err")
    }
}

/// The boot this is, from random(4)'s `boot_id`: what was true of processes holds only within one.
pub(crate) fn boot_id() -> crate::Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(file::read_text(path)?.unwrap_or_default().trim().to_owned())
}
