//! A container of busybox, with the configuration that Docker gives to its containers.

use rustix::fs::CWD;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tare_runtime::cgroup::Cgroup;
use tare_runtime::{CreateRequest, Error, Exit, RootFilesystem, Running, Stdio, capabilities, seccomp};
use tare_spec::ContainerId;
use tare_spec::runtime::{Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec};
use tempfile::TempDir;

const APPLETS: [&str; 20] = [
    "cat", "chmod", "dd", "echo", "false", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount", "sh",
    "sleep", "stat", "true", "tty", "umount", "stty",
];

/// A root file system, an id, and a configuration to change before it runs.
pub(crate) struct Bundle {
    pub(crate) folder: TempDir,
    pub(crate) id: ContainerId,
    pub(crate) spec: Spec,
    pub(crate) user: Option<String>,
    pub(crate) overlay: bool,
}

/// What a container that ended by itself said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bundle {
    pub(crate) fn new(args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "upper", "work"] {
            let parent = if matches!(name, "upper" | "work") { folder.path() } else { &root };
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n").unwrap();
        let mut bytes = [0; 32];
        File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        let id = ContainerId::from_random(bytes);
        Self { folder, id, spec: spec(args), user: None, overlay: true }
    }

    /// A shell script as the container's program.
    pub(crate) fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    pub(crate) fn linux(&mut self) -> &mut Linux {
        self.spec.linux.as_mut().unwrap()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.spec.process.as_mut().unwrap()
    }

    pub(crate) fn request(&self, stdio: Stdio) -> CreateRequest<'_> {
        let root = if self.overlay {
            RootFilesystem::Overlay {
                lower: vec![self.rootfs()],
                upper: self.folder.path().join("upper"),
                work: self.folder.path().join("work"),
                volatile: false,
            }
        } else {
            RootFilesystem::Directory(self.rootfs())
        };
        CreateRequest { id: &self.id, spec: &self.spec, root, stdio, user: self.user.as_deref() }
    }

    /// Starts it with pipes, whose other ends are returned.
    pub(crate) fn start(&self) -> Result<(Running, File, File), Error> {
        let (stdout, stdout_end) = pipe();
        let (stderr, stderr_end) = pipe();
        let stdio = Stdio::Pipes { stdin: None, stdout: stdout_end, stderr: stderr_end };
        let running = tare_runtime::create(self.request(stdio))?.start()?;
        Ok((running, stdout, stderr))
    }

    /// Runs it to its end and checks that nothing is left.
    pub(crate) fn run(&self) -> Result<Output, Error> {
        let result = self.start().map(|(running, mut stdout, mut stderr)| {
            let (mut out, mut err) = (String::new(), String::new());
            stdout.read_to_string(&mut out).unwrap();
            stderr.read_to_string(&mut err).unwrap();
            Output { exit: running.wait().unwrap(), stdout: out, stderr: err }
        });
        self.cgroup().remove().unwrap();
        self.assert_gone();
        result
    }

    /// Runs it and gives what it wrote, which must be a success.
    pub(crate) fn output(&self) -> String {
        let output = self.run().unwrap();
        assert_eq!((output.exit, output.stderr.as_str()), (Exit::Code(0), ""), "{output:?}");
        output.stdout
    }

    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.id).unwrap()
    }

    /// No process, no cgroup, no mount.
    pub(crate) fn assert_gone(&self) {
        let children = rustix::process::waitid(
            rustix::process::WaitId::All,
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG,
        );
        assert_eq!(children.unwrap_err(), rustix::io::Errno::CHILD, "a child is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = self.folder.path().to_str().unwrap();
        assert!(!mounts.contains(folder), "a mount is left:\n{mounts}");
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        for mount in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            let folder = mount.join("tare").join(self.id.as_str());
            assert!(!folder.exists(), "{} is left", folder.display());
        }
    }
}

/// A case that fails leaves nothing behind either.
impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.cgroup().remove();
    }
}

pub(crate) fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(read), write)
}

pub(crate) fn mount(destination: &str, fs_type: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        fs_type: Some(fs_type.into()),
        source: Some(fs_type.into()),
        options: options.split(',').map(str::to_owned).collect(),
        ..Mount::default()
    }
}

pub(crate) fn bind(source: &Path, destination: &str, options: &str) -> Mount {
    Mount { source: Some(source.to_path_buf()), ..mount(destination, "bind", options) }
}

fn spec(args: &[&str]) -> Spec {
    let all: Vec<String> = capabilities::DEFAULT.map(str::to_owned).into();
    let strings = |strings: &[&str]| strings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let kinds = [
        NamespaceKind::Pid,
        NamespaceKind::Mount,
        NamespaceKind::Uts,
        NamespaceKind::Ipc,
        NamespaceKind::Network,
        NamespaceKind::Cgroup,
    ];
    Spec {
        oci_version: "1.2.0".into(),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: Some("box".into()),
        process: Some(Process {
            args: strings(args),
            env: strings(&["PATH=/bin", "TERM=xterm"]),
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: all.clone(),
                effective: all.clone(),
                permitted: all.clone(),
                ..Capabilities::default()
            }),
            ..Process::default()
        }),
        mounts: vec![
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,ro"),
            mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        ],
        linux: Some(Linux {
            namespaces: kinds.map(Namespace::new).into(),
            masked_paths: strings(&[
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ]),
            readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            seccomp: Some(seccomp::default_profile(&all)),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// Makes a file of the root file system executable.
pub(crate) fn executable(path: &Path, content: &[u8]) {
    File::create(path).unwrap().write_all(content).unwrap();
    rustix::fs::chmodat(CWD, path, rustix::fs::Mode::from_raw_mode(0o755), rustix::fs::AtFlags::empty()).unwrap();
}
