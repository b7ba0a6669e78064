//! An engine on directories of its own, and steps of busybox to run with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tare_build::executor::{Executor, ExecutorError, Finished, Mount, MountSource, Network, Process};
use tare_engine::build::{EngineExecutor, ExecutorOptions};
use tare_engine::{Engine, Options};
use tempfile::TempDir;

/// How long anything may take before a case calls it hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) folder: TempDir,
    pub(crate) engine: Engine,
}

/// A step and what it has.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) network: Network,
    pub(crate) insecure: bool,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) hosts: Vec<(String, std::net::IpAddr)>,
    pub(crate) ulimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    pub(crate) shm_size: Option<u64>,
}

/// A step that has ended.
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) finished: Finished,
}

impl Host {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "var", "run"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        let applets = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n").unwrap();
        fs::write(root.join("etc/hosts"), "of the image\n").unwrap();
        symlink("../run", root.join("var/run")).unwrap();
        let options = Options { root: folder.path().join("root"), run_root: folder.path().join("run"), layers: None };
        let engine = Engine::open(options).unwrap();
        Self { folder, engine }
    }

    pub(crate) fn executor(&self) -> EngineExecutor<'_> {
        self.engine.executor(ExecutorOptions::default())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A shell script.
    pub(crate) fn script(&self, script: &str) -> Step {
        Step {
            lower: vec![self.path("rootfs")],
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            network: Network::None,
            insecure: false,
            mounts: Vec::new(),
            hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
        }
    }

    /// Runs a step that must succeed and gives what it wrote.
    pub(crate) fn output(&self, step: &Step) -> String {
        let ended = step.run(&self.executor()).unwrap();
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
        drop(ended.finished);
        self.assert_clean();
        ended.stdout
    }

    /// Folders of what is under way.
    pub(crate) fn work(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path("root/build/work")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The one step that is under way.
    pub(crate) fn id(&self) -> String {
        let work = self.work();
        assert_eq!(work.len(), 1, "{work:?}");
        work.into_iter().next().unwrap()
    }

    /// Nothing is under way, nor leased, nor mounted.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.work(), BTreeSet::new());
        for folder in ["run/net/containers", "run/net/leases/bridge"] {
            let left = fs::read_dir(self.path(folder)).into_iter().flatten().count();
            assert_eq!(left, 0, "{folder}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.path().to_str().unwrap()), "{mounts}");
    }
}

impl Step {
    pub(crate) fn process(&self) -> Process<'_> {
        Process {
            lower: &self.lower,
            args: &self.args,
            env: &self.env,
            cwd: &self.cwd,
            user: &self.user,
            network: self.network,
            insecure: self.insecure,
            mounts: &self.mounts,
            hosts: &self.hosts,
            ulimits: &self.ulimits,
            shm_size: self.shm_size,
        }
    }

    pub(crate) fn run(&self, executor: &impl Executor) -> Result<Ended, ExecutorError> {
        self.run_told(executor, |_| {})
    }

    /// The same; `told` hears what came by standard output so far.
    pub(crate) fn run_told(
        &self,
        executor: &impl Executor,
        mut told: impl FnMut(&str) + Send,
    ) -> Result<Ended, ExecutorError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let finished = executor.run(&self.process(), &mut |is_error, bytes| {
            if is_error {
                stderr.extend_from_slice(bytes);
            } else {
                stdout.extend_from_slice(bytes);
                told(&String::from_utf8_lossy(&stdout));
            }
        })?;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ok(Ended { code: finished.exit_code, stdout: text(stdout), stderr: text(stderr), finished })
    }

    pub(crate) fn mount(mut self, target: &str, read_only: bool, source: MountSource) -> Self {
        self.mounts.push(Mount { target: target.to_owned(), read_only, source });
        self
    }

    pub(crate) fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }
}

impl Ended {
    /// Everything in the upper directory, with what files contain; sorted.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.finished.upper, &self.finished.upper, &mut found);
        found.sort();
        found
    }
}

fn collect(top: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.push(format!("{name}/"));
            collect(top, &path, found);
        } else if kind.is_file() {
            found.push(format!("{name}={}", String::from_utf8_lossy(&fs::read(&path).unwrap()).trim_end()));
        } else {
            found.push(name);
        }
    }
}

/// Lets this host reach itself.
pub(crate) fn loopback_up() {
    assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Whether no cgroup of this id is left.
pub(crate) fn has_no_cgroup(id: &str) -> bool {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    hierarchies.chain(["/sys/fs/cgroup".into()]).all(|mount| !mount.join("tare").join(id).exists())
}
