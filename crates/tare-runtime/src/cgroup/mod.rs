//! The container's cgroups.
//!
//! ```text
//! <v2 mount>/tare/<id>/          always where v2 is mounted: devices (eBPF), kill, and on pure v2 hosts all limits
//! <v1 mount>/tare/<id>/          on v1 and hybrid hosts, only of the controllers that a limit asks for
//! <v2 mount>/tare/monitors/      all monitors, without limits
//! <v2 mount>/tare/devices/<hash> no process ever; keeps an eBPF program for the next container with its rules
//! ```
//!
//! The runtime makes them before the first process and enters it there; [`Cgroup::remove`] may be called by any
//! process that knows the id, at any time, as often as it likes. The folder `tare` stays until the next boot. A crash
//! leaves folders that `remove` finds by the id, because it looks into every hierarchy that is mounted.

mod devices;
mod freeze;
mod hierarchy;
mod limits;

pub use freeze::Frozen;
pub use hierarchy::Hierarchies;
pub(crate) use limits::Limits;

use crate::error::{Error, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Os;
use rustix::process::{Pid, Signal};
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tare_spec::ContainerId;
use tare_spec::runtime::DeviceRule;

/// How long [`Cgroup::remove`] waits for killed processes to be gone. The kernel needs milliseconds; processes in
/// uninterruptible sleep on a dead disk may need for ever.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// How often processes are looked for by a kill without cgroup.kill: more than a chain of forks outruns.
const KILL_PASSES: u32 = 64;

/// One container's cgroups in all hierarchies of this host.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: PathBuf,
}

/// The v2 cgroup that monitors are born into; `None` where v2 is not mounted.
///
/// In its starter's cgroup a monitor would end with the service or login that the starter belongs to: systemd kills
/// what is left in the cgroup of a unit that it stops.
///
/// # Errors
/// When the mount table cannot be read or the cgroup cannot be made.
pub fn of_monitors() -> Result<Option<OwnedFd>, Error> {
    let Some(mount) = Hierarchies::detect_v2()? else { return Ok(None) };
    let directory = mount.join("tare/monitors");
    make_directory(&directory)?;
    open_directory(&directory).map(Some)
}

/// Counters of a container, as far as the host's controllers have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time, in nanoseconds.
    pub cpu_nanoseconds: Option<u64>,
    /// Memory in use, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory limit, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Number of tasks.
    pub pids: Option<u64>,
    /// How often the OOM killer chose a process of the container.
    pub oom_kills: Option<u64>,
}

impl Cgroup {
    /// The cgroups of the container with this id, whether they exist or not.
    ///
    /// # Errors
    /// When the host's mount table cannot be read.
    pub fn open(id: &ContainerId) -> Result<Self, Error> {
        Ok(Self::at(Hierarchies::detect()?, Path::new("tare").join(id.as_str())))
    }

    /// The cgroups at `path`, relative to each hierarchy's mount.
    pub(crate) fn at(hierarchies: Hierarchies, path: PathBuf) -> Self {
        Self { hierarchies, path }
    }

    /// The container's folder in the v2 hierarchy, where that is mounted.
    #[must_use]
    pub fn v2_directory(&self) -> Option<PathBuf> {
        self.hierarchies.v2.as_ref().map(|mount| mount.join(&self.path))
    }

    /// The hierarchies of this host.
    #[must_use]
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    fn v1_directory(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies.v1_mount(controller).map(|mount| mount.join(&self.path))
    }

    /// The container's folder of a v1 controller, where it has one.
    pub(crate) fn v1_own_directory(&self, controller: &str) -> Option<PathBuf> {
        self.v1_directory(controller).filter(|directory| directory.exists())
    }

    /// All folders that exist or could exist.
    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let mut mounts: Vec<_> = self.hierarchies.v2.iter().chain(self.hierarchies.v1.values()).collect();
        mounts.dedup();
        mounts.into_iter().map(|mount| mount.join(&self.path))
    }

    /// Makes the cgroups and sets the limits. What was made is removed again on failure.
    ///
    /// Gives the v2 folder for `CLONE_INTO_CGROUP`.
    pub(crate) fn create(&self, limits: &Limits) -> Result<Option<OwnedFd>, Error> {
        self.try_create(limits).inspect_err(|_| {
            // The first error is the one to tell; what is left is found again by the id.
            let _ = self.remove();
        })
    }

    /// Limits which devices may be used. To be called before the container's program runs; the first process can
    /// already mount meanwhile.
    pub(crate) fn filter_devices(&self, v2_folder: Option<&OwnedFd>, rules: &[DeviceRule]) -> Result<(), Error> {
        match (v2_folder.zip(self.hierarchies.v2.as_deref()), self.v1_directory("devices")) {
            (Some((folder, mount)), _) => devices::attach_filter(folder, rules, &mount.join("tare/devices"))
                .map_err(Error::step(Step::FilterDevices, self.path.display())),
            (None, Some(directory)) => devices::write_v1(&directory, rules),
            (None, None) => Err(no_devices()),
        }
    }

    fn try_create(&self, limits: &Limits) -> Result<Option<OwnedFd>, Error> {
        let mut folder = None;
        if let (Some(mount), Some(directory)) = (&self.hierarchies.v2, self.v2_directory()) {
            make_directory(&directory)?;
            if self.hierarchies.is_pure_v2() {
                self.enable_controllers(mount, &limits.controllers)?;
            }
            folder = Some(open_directory(&directory)?);
        }
        for controller in &limits.controllers {
            if self.hierarchies.is_pure_v2() {
                break;
            }
            let directory = self.v1_directory(controller).ok_or_else(|| {
                Error::unsupported(format!("a limit of controller {controller}, which this host does not have,"))
            })?;
            make_directory(&directory)?;
            if *controller == "cpuset" {
                self.inherit_cpuset()?;
            }
        }
        for write in &limits.writes {
            let directory = match write.v1_controller {
                Some(controller) => self.v1_directory(controller),
                None => self.v2_directory(),
            };
            let directory = directory.ok_or_else(|| Error::unsupported(format!("{} on this host", write.file)))?;
            let file = directory.join(write.file.as_ref());
            if write.optional && !file.exists() {
                continue;
            }
            fs::write(&file, &write.value)
                .map_err(Error::step(Step::SetLimit, format_args!("{} = {}", file.display(), write.value)))?;
        }
        if folder.is_none() {
            make_directory(&self.v1_directory("devices").ok_or_else(no_devices)?)?;
        }
        Ok(folder)
    }

    /// Lets the children of every folder down to the container's have the controllers.
    fn enable_controllers(&self, mount: &Path, controllers: &[&'static str]) -> Result<(), Error> {
        if controllers.is_empty() {
            return Ok(());
        }
        let mut directory = mount.to_path_buf();
        for component in &self.path {
            let file = directory.join("cgroup.subtree_control");
            let enabled = fs::read_to_string(&file).map_err(Error::step(Step::SetLimit, file.display()))?;
            let missing: Vec<_> = controllers
                .iter()
                .filter(|controller| !enabled.split_whitespace().any(|name| name == **controller))
                .map(|controller| format!("+{controller}"))
                .collect();
            if !missing.is_empty() {
                let value = missing.join(" ");
                fs::write(&file, &value)
                    .map_err(Error::step(Step::SetLimit, format_args!("{} = {value}", file.display())))?;
            }
            directory.push(component);
        }
        Ok(())
    }

    /// A new v1 cpuset is empty and takes no process until it has CPUs and memory nodes.
    fn inherit_cpuset(&self) -> Result<(), Error> {
        let Some(mount) = self.hierarchies.v1_mount("cpuset") else { return Ok(()) };
        let mut directory = mount.to_path_buf();
        for component in &self.path {
            let parent = directory.clone();
            directory.push(component);
            for name in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (parent.join(name), directory.join(name));
                let own = fs::read_to_string(&to).map_err(Error::step(Step::SetLimit, to.display()))?;
                if own.trim().is_empty() {
                    let value = fs::read_to_string(&from).map_err(Error::step(Step::SetLimit, from.display()))?;
                    fs::write(&to, value.trim()).map_err(Error::step(Step::SetLimit, to.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Puts a process into the v1 cgroups that exist, which are those that a limit asked for.
    ///
    /// Dear: the first write waits for an RCU grace period, 6 to 13 ms.
    pub(crate) fn enter_v1(&self, pid: i32) -> Result<(), Error> {
        for mount in self.hierarchies.v1.values() {
            let file = mount.join(&self.path).join("cgroup.procs");
            match fs::OpenOptions::new().write(true).open(&file) {
                Ok(mut file_handle) => file_handle
                    .write_all(pid.to_string().as_bytes())
                    .map_err(Error::step(Step::EnterCgroup, file.display()))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::step(Step::EnterCgroup, file.display())(error)),
            }
        }
        Ok(())
    }

    /// Whether processes must be entered by [`Cgroup::enter_v1`].
    pub(crate) fn has_v1(&self) -> bool {
        self.hierarchies.v1.values().any(|mount| mount.join(&self.path).exists())
    }

    /// Opens the v2 folder, for a process that joins.
    pub(crate) fn v2_folder(&self) -> Result<Option<OwnedFd>, Error> {
        self.v2_directory().map(|directory| open_directory(&directory)).transpose()
    }

    /// Kills every process of the container, and succeeds when there is none.
    ///
    /// Success does not promise that they are gone yet; [`Cgroup::remove`] waits.
    ///
    /// # Errors
    /// When the kernel refuses the kill.
    pub fn kill_all(&self) -> Result<(), Error> {
        if let Some(directory) = self.v2_directory() {
            let file = directory.join("cgroup.kill");
            match fs::OpenOptions::new().write(true).open(&file).and_then(|mut file| file.write_all(b"1")) {
                Ok(()) => return Ok(()),
                // No such cgroup (ENODEV once it is being removed), or a kernel before 5.14.
                Err(error) if matches!(error.raw_os_error(), Some(code) if code == Os::NOENT.raw_os_error() || code == Os::NODEV.raw_os_error()) =>
                    {}
                Err(error) => return Err(Error::step(Step::KillCgroup, file.display())(error)),
            }
        }
        // A process that forks while it is read escapes one pass, its child not the next. What sleeps uninterruptibly
        // does not go, so the passes are bounded; `remove` waits and comes back.
        for _ in 0..KILL_PASSES {
            let pids = self.processes();
            let mut alive = false;
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                match rustix::process::kill_process(pid, Signal::KILL) {
                    Ok(()) => alive |= !is_dying(pid),
                    Err(Os::SRCH) => {}
                    Err(error) => return Err(Error::step(Step::KillCgroup, self.path.display())(error)),
                }
            }
            if !alive {
                break;
            }
        }
        Ok(())
    }

    /// The container's processes, as the caller's process id namespace numbers them.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for directory in self.directories() {
            collect_processes(&directory, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        // 0 stands for processes outside the reader's process id namespace.
        pids.retain(|pid| *pid > 0);
        pids
    }

    /// Kills what is left and removes the cgroups with all below them. Idempotent; succeeds when there are none.
    ///
    /// # Errors
    /// [`Error::StillPopulated`] when killed processes do not go within 10 s, and what rmdir says. All hierarchies are
    /// tried; the first error is returned.
    pub fn remove(&self) -> Result<(), Error> {
        let mut result = Ok(());
        let deadline = Instant::now() + EMPTY_WITHIN;
        for directory in self.directories() {
            if let Err(error) = self.remove_directory(&directory, deadline) {
                result = result.and(Err(error));
            }
        }
        result
    }

    fn remove_directory(&self, directory: &Path, deadline: Instant) -> Result<(), Error> {
        loop {
            match remove_tree(directory) {
                Ok(()) => return Ok(()),
                Err(Os::BUSY) => {}
                Err(error) => return Err(Error::step(Step::RemoveCgroup, directory.display())(error)),
            }
            self.kill_all()?;
            if Instant::now() >= deadline {
                return Err(Error::StillPopulated {
                    path: directory.display().to_string(),
                    milliseconds: EMPTY_WITHIN.as_millis() as u64,
                });
            }
            self.wait_for_change(directory, deadline);
        }
    }

    /// Returns when a process of the cgroup may have gone.
    fn wait_for_change(&self, directory: &Path, deadline: Instant) {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        let events = rustix::fs::open(directory.join("cgroup.events"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        if let Ok(events) = events {
            // The file is opened first and read then, so that a change between the two wakes the poll.
            let mut text = [0; 256];
            let count = rustix::io::read(&events, &mut text).unwrap_or(0);
            if String::from_utf8_lossy(&text[..count]).contains("populated 1") {
                // A timeout is seen by the caller's own clock.
                let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], left.as_ref());
            }
            return;
        }
        // v1 tells nothing: wait for one of the processes.
        let pidfd = self
            .processes()
            .into_iter()
            .filter_map(Pid::from_raw)
            .find_map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok());
        if let Some(pidfd) = pidfd {
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref());
        }
    }

    /// Reads the counters; what the host has no controller for, or what does not exist any more, is `None`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let v2 = self.v2_directory().unwrap_or_default();
        let v1 = |controller: &str| self.v1_directory(controller).unwrap_or_default();
        let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        Stats {
            cpu_nanoseconds: keyed(v2.join("cpu.stat"), "usage_usec ").map(|micro| micro * 1000),
            memory_bytes: number(v2.join("memory.current"))
                .or_else(|| number(v1("memory").join("memory.usage_in_bytes"))),
            memory_limit_bytes: number(v2.join("memory.max"))
                .or_else(|| number(v1("memory").join("memory.limit_in_bytes"))),
            pids: number(v2.join("pids.current"))
                .or_else(|| number(v1("pids").join("pids.current")))
                .or_else(|| keyed(v2.join("cgroup.procs"), "").map(|_| self.processes().len() as u64)),
            oom_kills: self.oom_kills(),
        }
    }

    /// How often the OOM killer chose a process of the container; `None` without a memory controller of its own.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let v2 = self.v2_directory().unwrap_or_default().join("memory.events");
        let v1 = self.v1_directory("memory").unwrap_or_default().join("memory.oom_control");
        keyed(v2, "oom_kill ").or_else(|| keyed(v1, "oom_kill "))
    }
}

/// The number behind a key in one of the kernel's flat files.
fn keyed(file: PathBuf, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// Whether a process that was sent SIGKILL needs no second pass: it cannot fork any more.
fn is_dying(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn collect_processes(directory: &Path, pids: &mut Vec<i32>) {
    // Folders that vanish while they are read have no processes.
    let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) else { return };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), pids);
        }
    }
}

/// Removes a cgroup after those below it, which a container with a cgroup mount of its own can make.
fn remove_tree(directory: &Path) -> Result<(), Os> {
    match rustix::fs::rmdir(directory) {
        Ok(()) | Err(Os::NOENT) => return Ok(()),
        Err(Os::BUSY | Os::NOTEMPTY) => {}
        Err(error) => return Err(error),
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match rustix::fs::rmdir(directory) {
        Err(Os::NOENT) => Ok(()),
        result => result,
    }
}

fn no_devices() -> Error {
    Error::unsupported("a host without cgroup2 and without the devices controller")
}

fn make_directory(directory: &Path) -> Result<(), Error> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs::create_dir_all(directory),
        // The v1 controllers cpu and cpuacct can share a mount.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
    .map_err(Error::step(Step::CreateCgroup, directory.display()))
}

fn open_directory(directory: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::step(Step::CreateCgroup, directory.display()))
}
