//! A machine of its own for one test: root and run directories, a network namespace as "the host", a cleared environment.
//!
//! Any number run side by side. Dropping a [`Host`] removes its containers as a user would (`tare rm -f`) and then asks the kernel whether
//! anything is left; what is left fails the test.

mod command;
mod image;
mod leaks;
mod proxy;
mod registry;
mod stream;
mod terminal;

pub(crate) use command::{Output, Run, Running, kill};
pub(crate) use image::layout;
pub(crate) use proxy::Proxy;
pub(crate) use registry::Registry;
pub(crate) use stream::Stream;
pub(crate) use terminal::Terminal;

use leaks::Watch;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take before a test calls it hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One test's machine.
pub(crate) struct Host {
    /// Name of the network namespace.
    namespace: String,
    folder: tempfile::TempDir,
    watch: Watch,
    registry: Mutex<Option<Registry>>,
}

impl Host {
    /// A new host, or `None` where the tests cannot run: see the crate's documentation.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(
                std::env::var("TARE_REQUIRE_ROOT").as_deref(),
                Ok("1"),
                "the end-to-end tests need root and TARE_REQUIRE_ROOT=1 is set"
            );
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("tt-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("tt-").tempdir().unwrap();
        // There before tare is, so that it can be watched from the start; as private as tare would make it.
        let mut private = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700);
        let watched = ["root/containers", "root/build/work"].map(|name| folder.path().join(name));
        watched.iter().for_each(|path| private.recursive(true).create(path).unwrap());
        let watch = Watch::new(&watched);
        run(Command::new("ip").args(["netns", "add", &namespace]));
        let host = Self { namespace, folder, watch, registry: Mutex::new(None) };
        host.command("ip", &["link", "set", "lo", "up"]).ok();
        Some(host)
    }

    /// The folder of this host, gone with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where tare keeps what lasts.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// Where tare keeps what lasts until the next boot.
    pub(crate) fn run_root(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// The network namespace, for `nsenter --net=`.
    pub(crate) fn network_namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }

    /// A command of this machine, run on this host's network.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Run {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network_namespace().display())).arg("--").arg(program).args(arguments);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.folder()).env("LANG", "C.UTF-8").env("TERM", "xterm").env("TZ", "UTC");
        Run::new(command)
    }

    /// `tare` on this host.
    pub(crate) fn tare(&self, arguments: &[&str]) -> Run {
        self.tare_at(&self.root(), arguments)
    }

    /// `tare` on this host with another root directory.
    pub(crate) fn tare_at(&self, root: &Path, arguments: &[&str]) -> Run {
        let (root, run_root) = (root.display().to_string(), self.run_root().display().to_string());
        let all = [&["--root", &root, "--run-root", &run_root], arguments].concat();
        self.command(program(), &all)
    }

    /// `tare` with a terminal as its standard streams.
    pub(crate) fn terminal(&self, arguments: &[&str]) -> Terminal {
        let (root, run_root) = (self.root().display().to_string(), self.run_root().display().to_string());
        let tare = program().display().to_string();
        // setsid makes the terminal the controlling one, as a login shell's is.
        let all = [&["--ctty", "--wait", &tare, "--root", &root, "--run-root", &run_root], arguments].concat();
        Terminal::spawn(self.command("setsid", &all).into_command())
    }

    /// The reference of one of the test images (`busybox`, `web`) in this host's registry, which is started when it is first asked for.
    pub(crate) fn image(&self, name: &str) -> String {
        let mut registry = self.registry.lock().unwrap();
        if registry.is_none() {
            *registry = Some(Registry::start(self, &image::storage(), true));
        }
        format!("127.0.0.1:{}/{name}", registry::PORT)
    }

    /// Pulls one of the test images and gives back its reference.
    pub(crate) fn pull(&self, name: &str) -> String {
        let reference = self.image(name);
        self.tare(&["pull", "-q", &reference]).ok();
        reference
    }

    /// Starts `sleep` in the busybox image as a container of this name; more flags before the image. Gives back its id.
    pub(crate) fn sleeper(&self, name: &str, flags: &[&str]) -> String {
        let image = self.pull("busybox");
        let all = [&["run", "-d", "--name", name], flags, &[&image, "sleep", "1000000"]].concat();
        self.tare(&all).ok()
    }

    /// One field of `tare inspect` by a JSON pointer.
    pub(crate) fn inspect(&self, container: &str, pointer: &str) -> serde_json::Value {
        let text = self.tare(&["inspect", container]).ok();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.pointer(&format!("/0{pointer}")).unwrap_or_else(|| panic!("no {pointer} in {text}")).clone()
    }

    /// The process id, on this machine, of a container's first process.
    pub(crate) fn pid(&self, container: &str) -> u32 {
        let pid = self.inspect(container, "/State/Pid");
        u32::try_from(pid.as_u64().unwrap()).unwrap()
    }

    /// The process id of a container's monitor: the parent of its first process.
    pub(crate) fn monitor(&self, container: &str) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid(container))).unwrap();
        status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
    }

    /// What an HTTP GET of this host's address answers; waits until something listens.
    pub(crate) fn get(&self, url: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.command("curl", &["-fsS", "--max-time", "5", url]).output();
            if answer.code == 0 {
                return answer.stdout;
            }
            assert!(Instant::now() < deadline, "{url}: {}", answer.stderr);
            pause();
        }
    }

    /// What is left of any container of this host: mounts, processes, interfaces, rules, cgroups, records.
    pub(crate) fn leaks(&self) -> Vec<String> {
        leaks::find(self, &self.watch.ids())
    }

    /// Waits until nothing is left of any container; fails naming what is.
    pub(crate) fn assert_clean(&self) {
        let mut left = self.leaks();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !left.is_empty() && Instant::now() < deadline {
            pause();
            left = self.leaks();
        }
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let ids = self.tare(&["ps", "-a", "-q", "--no-trunc"]).ok();
            for id in ids.lines() {
                self.tare(&["rm", "-f", id]).ok();
            }
            if !failed {
                self.assert_clean();
            }
        }));
        // A test that panicked while it had the lock left nothing half done.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).take();
        leaks::remove(self, &self.watch.ids());
        if let (Err(panic), false) = (checked, failed) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The program under test: `TARE_PROGRAM`, or `tare` of the profile this test was built with.
pub(crate) fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TARE_PROGRAM") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("tare");
    assert!(
        path.exists(),
        "{} is not there; `cargo xtask test` builds it, so does `cargo build -p tare`",
        path.display()
    );
    path
}

/// Runs a command of the fixture itself.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// A moment between two looks at a condition.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

/// Waits until a condition holds; fails with `what` when it does not in time.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "did not come true: {what}");
        pause();
    }
}
