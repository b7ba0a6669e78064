//! Finding a container and reading its records, corrected where a monitor died.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::file::{self, Durability};
use crate::state::lock::{self, Lock, Taken};
use crate::state::record::{ContainerRecord, ContainerState, RECORD_VERSION, Run, Status};
use crate::state::{ContainerPaths, names};
use std::path::Path;
use tare_runtime::cgroup::Cgroup;
use tare_spec::ContainerId;

/// Exit code of a container whose end nobody saw; Docker gives it to containers that a daemon lost.
const UNSEEN_EXIT: i32 = 255;

/// A container's records.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) record: ContainerRecord,
    pub(crate) state: ContainerState,
    pub(crate) paths: ContainerPaths,
    /// Whether the state on disk says "running" and is wrong; `state` holds the truth then.
    pub(crate) stale: bool,
}

impl Engine {
    /// The id that a full id, a name or a unique prefix of an id stands for, in this order.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousId`].
    pub fn resolve(&self, name: &str) -> Result<ContainerId> {
        let missing = || Error::NoSuchContainer { name: name.to_owned() };
        if let Ok(id) = ContainerId::parse(name)
            && self.paths.container(&id).record().exists()
        {
            return Ok(id);
        }
        if let Some(id) = names::holder(self, name.strip_prefix('/').unwrap_or(name))?
            && self.paths.container(&id).record().exists()
        {
            return Ok(id);
        }
        // A whole id is the beginning of no other.
        if ContainerId::parse(name).is_ok() {
            return Err(missing());
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut matching = self.container_ids()?.into_iter().filter(|id| id.as_str().starts_with(name));
        match (matching.next(), matching.next()) {
            (None, _) => Err(missing()),
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(Error::AmbiguousId { prefix: name.to_owned() }),
        }
    }

    /// Ids of all containers, in no order. What a crash left half made or half removed is swept on the way.
    pub(crate) fn container_ids(&self) -> Result<Vec<ContainerId>> {
        let mut ids = Vec::new();
        for id in directory_ids(&self.paths.containers())? {
            if self.paths.container(&id).record().exists() { ids.push(id) } else { self.sweep(&id) }
        }
        for id in directory_ids(&self.paths.run_root.join("containers"))? {
            if !self.paths.container(&id).directory.exists() {
                self.sweep(&id);
            }
        }
        Ok(ids)
    }

    /// Removes what is left of a container without a record, unless somebody works on it. What cannot be removed now is
    /// left to the next who tries: it must not keep people from seeing their containers.
    fn sweep(&self, id: &ContainerId) {
        let paths = self.paths.container(id);
        let sweep = || {
            file::make_directory(&paths.run)?;
            if lock::is_held(&paths.monitor_lock())? {
                return Ok(());
            }
            let Taken::Held(_lock) = lock::attempt(&paths.lock())? else { return Ok(()) };
            if paths.record().exists() {
                return Ok(());
            }
            names::release_all(self, id)?;
            file::remove_tree(&paths.directory)?;
            file::remove_tree(&paths.run)
        };
        let _: Result<()> = sweep();
    }

    /// Reads a container's records. Where its monitor died before it ended, what the monitor could not do is done now; if
    /// that fails, on a full disk for instance, the true state is shown all the same.
    pub(crate) fn load(&self, id: &ContainerId) -> Result<Loaded> {
        let mut loaded = self.read(id)?;
        if !self.is_stale(&mut loaded)? {
            return Ok(loaded);
        }
        let settled = file::make_directory(&loaded.paths.run).and_then(|()| lock::attempt(&loaded.paths.lock()));
        if let Ok(Taken::Held(lock)) = settled {
            match self.load_locked(id, &lock) {
                Ok(settled) => return Ok(settled),
                Err(error @ Error::NoSuchContainer { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        loaded.state = last_state(&loaded);
        Ok(loaded)
    }

    /// Like [`Self::load`], for who holds the container's lock and needs it settled.
    pub(crate) fn load_locked(&self, id: &ContainerId, _lock: &Lock) -> Result<Loaded> {
        let mut loaded = self.observe(id)?;
        if loaded.stale {
            self.settle(&mut loaded)?;
        }
        Ok(loaded)
    }

    /// Reads a container's records and shows the true state, without changing anything.
    pub(crate) fn observe(&self, id: &ContainerId) -> Result<Loaded> {
        let mut loaded = self.read(id)?;
        loaded.stale = self.is_stale(&mut loaded)?;
        if loaded.stale {
            loaded.state = last_state(&loaded);
        }
        Ok(loaded)
    }

    /// Reads a container's records as they are.
    pub(crate) fn read(&self, id: &ContainerId) -> Result<Loaded> {
        let paths = self.paths.container(id);
        let missing = || Error::NoSuchContainer { name: id.to_string() };
        let record: ContainerRecord = file::read_json(&paths.record())?.ok_or_else(missing)?;
        let state = file::read_json::<ContainerState>(&paths.state())?.unwrap_or_else(ContainerState::created);
        for version in [record.version, state.version] {
            if version != RECORD_VERSION {
                let message =
                    format!("container {id}: its records have version {version}, this tare reads {RECORD_VERSION}");
                return Err(Error::Unsupported { message });
            }
        }
        Ok(Loaded { record, state, paths, stale: false })
    }

    /// Whether the state says "running" and is wrong; fills in whether a monitor is there.
    fn is_stale(&self, loaded: &mut Loaded) -> Result<bool> {
        let Some(run) = loaded.state.run.as_mut().filter(|_| loaded.state.status == Status::Running) else {
            return Ok(false);
        };
        let boot_id = self.boot_id()?;
        run.monitored = run.boot_id == boot_id && lock::is_held(&loaded.paths.monitor_lock())?;
        let lives = run.monitored || (run.boot_id == boot_id && is_alive(run));
        Ok(!lives)
    }

    /// Does what the monitor of an ended container could not do any more.
    fn settle(&self, loaded: &mut Loaded) -> Result<()> {
        self.tear_down(&loaded.record.id)?;
        // A socket that nobody listens on any more; it may never have been made.
        let _ = std::fs::remove_file(loaded.paths.monitor_socket());
        if loaded.record.spec.auto_remove {
            self.remove_files(&loaded.record, &loaded.paths)?;
            return Err(Error::NoSuchContainer { name: loaded.record.id.to_string() });
        }
        file::write_json(&loaded.paths.state(), &loaded.state, Durability::Durable)?;
        loaded.stale = false;
        // It has its place now; without it nothing is lost.
        let _ = std::fs::remove_file(loaded.paths.last_state());
        Ok(())
    }

    /// Takes away what a container has outside its files: network and cgroup.
    pub(crate) fn tear_down(&self, id: &ContainerId) -> Result<()> {
        let mut errors: Vec<Error> = self.tear_down_from(id, Cgroup::open(id)).err().into_iter().collect();
        // A monitor that was killed has left its image's layers mounted.
        let unmounted = self.store().and_then(|store| Ok(store.layers().unmount_unused()?));
        errors.extend(unmounted.err());
        Error::of_clean_up(errors)
    }

    /// The same, for who has the cgroup at hand.
    pub(crate) fn tear_down_from(
        &self,
        id: &ContainerId,
        cgroup: std::result::Result<Cgroup, tare_runtime::Error>,
    ) -> Result<()> {
        let mut errors: Vec<Error> = Vec::new();
        match self.networks() {
            Ok(networks) => {
                if let Err(failed) = networks.detach(id) {
                    errors.extend(failed.into_iter().map(Error::from));
                }
            }
            Err(error) => errors.push(error),
        }
        if let Err(error) = cgroup.and_then(|cgroup| cgroup.remove()) {
            errors.push(error.into());
        }
        Error::of_clean_up(errors)
    }

    /// Removes a container's files and gives its name back. The record goes first: without it the container is gone
    /// for everybody, and what a crash leaves then is swept.
    pub(crate) fn remove_files(&self, record: &ContainerRecord, paths: &ContainerPaths) -> Result<()> {
        let mut errors = Vec::new();
        if let Err(source) = std::fs::remove_file(paths.record())
            && source.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::file("remove", &paths.record(), source));
        }
        errors.extend(names::release(self, &record.name, &record.id).err());
        errors.extend(file::remove_tree(&paths.directory).err());
        errors.extend(file::remove_tree(&paths.run).err());
        Error::of_clean_up(errors)
    }
}

/// How a container ended whose state still says that it runs: as its monitor said where there was room for it, or
/// unknown.
fn last_state(loaded: &Loaded) -> ContainerState {
    match file::read_json::<ContainerState>(&loaded.paths.last_state()) {
        Ok(Some(state)) if state.started == loaded.state.started => state,
        _ => lost(&loaded.state),
    }
}

/// The state of a container whose end nobody saw.
fn lost(state: &ContainerState) -> ContainerState {
    ContainerState {
        status: Status::Stopped,
        exit_code: UNSEEN_EXIT,
        error: "its monitor ended before it did; how it ended is not known".into(),
        finished: Some(jiff::Timestamp::now()),
        run: None,
        ..state.clone()
    }
}

/// The ids that folders are named by; whatever else somebody put there is not ours.
fn directory_ids(folder: &Path) -> Result<Vec<ContainerId>> {
    let failed = |source| Error::file("list", folder, source);
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        if let Some(Ok(id)) = entry.map_err(failed)?.file_name().to_str().map(ContainerId::parse) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Whether the very process of this run lives: process ids come back, start times with them do not.
fn is_alive(run: &Run) -> bool {
    start_time(run.pid) == Some(run.pid_start)
}

/// Start time of a process that has not ended, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, parentheses included.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_process_has_a_start_time_and_no_other_has() {
        let own = i32::try_from(std::process::id()).unwrap();
        let ticks = start_time(own).unwrap();
        assert!(ticks > 0);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(start_time(i32::try_from(child.id()).unwrap()), None);
    }
}
