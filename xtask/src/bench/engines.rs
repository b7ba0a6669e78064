//! Ours and the peers that Debian packages, each on storage of its own, all with the same image from one registry.

use super::measure;
use crate::{output, run as run_command, top};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A container engine with Docker's command line.
pub(super) struct Engine {
    /// What the table calls it.
    pub(super) name: &'static str,
    prefix: Vec<String>,
}

impl Engine {
    /// A command of it.
    pub(super) fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = self.prefix.clone();
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        if self.name == "podman" && arguments.first() == Some(&"rm") {
            // Else it waits 10 s for a process that ignores SIGTERM; the others kill at once.
            command.extend(["-t".to_owned(), "0".to_owned()]);
        }
        command
    }

    /// What it wants to be told to use a registry without TLS on loopback.
    pub(super) fn insecure(&self) -> &'static [&'static str] {
        if self.name == "podman" { &["--tls-verify=false"] } else { &[] }
    }

    /// Runs a command of it and gives back what it prints.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<String> {
        let command = self.command(arguments);
        Ok(output(Command::new(&command[0]).args(&command[1..]))?.trim().to_owned())
    }
}

/// What all rows use; made in a folder, in namespaces that go with this process and take every process started here along.
pub(super) struct Bench {
    /// Ours first.
    pub(super) engines: Vec<Engine>,
    /// The image's reference.
    pub(super) image: String,
    /// The registry's port.
    pub(super) registry: u16,
    /// The image's root file system, unpacked.
    pub(super) rootfs: PathBuf,
    /// A folder with a Dockerfile of ten steps and 200 files.
    pub(super) context: String,
    /// Where everything is.
    pub(super) folder: PathBuf,
}

/// What is built: FROM, four statements of metadata and files, five RUN echo; 200 files in ten folders.
fn write_context(folder: &Path, image: &str) -> Result<String> {
    let context = folder.join("context");
    for index in 0..200 {
        let path = context.join(format!("src/{}/{index}", index % 10));
        fs::create_dir_all(path.parent().context("it is in a folder")?)?;
        fs::write(path, format!("{index}\n").repeat(100))?;
    }
    let mut text = format!("FROM {image}\nWORKDIR /app\nENV A=1\nCOPY . .\n");
    (1..=5).for_each(|step| text.push_str(&format!("RUN echo {step} > /step-{step}\n")));
    text.push_str("CMD [\"true\"]\n");
    fs::write(context.join("Dockerfile"), text)?;
    Ok(context.display().to_string())
}

impl Bench {
    /// Starts the registry and the peers that are installed; the others are named in what is printed.
    pub(super) fn set_up(folder: &Path, program: &Path) -> Result<Self> {
        run_command(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let layout = folder.join("busybox");
        run_command(Command::new(top().join("tests/images/busybox.sh")).arg(&layout).stdout(Stdio::null()))?;
        let port = start_registry(folder, "registry")?;
        let image = format!("127.0.0.1:{port}/busybox");
        run_command(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
                .args([format!("oci:{}:busybox", layout.display()), format!("docker://{image}")]),
        )?;
        let bundle = folder.join("bundle");
        run_command(
            Command::new("umoci").args(["unpack", "--image"]).arg(format!("{}:busybox", layout.display())).arg(&bundle),
        )?;
        // Boot-lifetime state is on a tmpfs, as on any machine, for all engines.
        for name in RUN_FOLDERS {
            let path = folder.join(name);
            fs::create_dir_all(&path)?;
            run_command(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0700", "tmpfs"]).arg(&path))?;
        }
        let mut bench = Self {
            engines: Vec::new(),
            registry: port,
            rootfs: bundle.join("rootfs"),
            context: write_context(folder, &image)?,
            image,
            folder: folder.to_owned(),
        };
        for engine in [Ok(tare(folder, program)), podman(folder), dockerd(folder)] {
            let added = engine.and_then(|engine| bench.add(engine));
            if let Err(error) = added {
                if bench.engines.is_empty() {
                    return Err(error);
                }
                println!("a peer is missing: {error:#}");
            }
        }
        Ok(bench)
    }

    fn add(&mut self, engine: Engine) -> Result<()> {
        measure::run(&engine.command(&[&["pull", "-q"], engine.insecure(), &[&self.image]].concat()))?;
        measure::run(&engine.command(&["run", "--rm", &self.image, "true"]))?;
        self.engines.push(engine);
        Ok(())
    }
}

/// Where tare, podman and docker keep what lives until the next boot.
const RUN_FOLDERS: [&str; 3] = ["run", "podman-run", "docker-run"];

fn tare(folder: &Path, program: &Path) -> Engine {
    let path = |name: &str| folder.join(name).display().to_string();
    let prefix = vec![program.display().to_string(), "--root".into(), path("tare"), "--run-root".into(), path("run")];
    Engine { name: "tare", prefix }
}

/// Starts a registry with its storage in a folder of this name.
pub(super) fn start_registry(folder: &Path, name: &str) -> Result<u16> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.join(format!("{name}.yml"));
    let storage = folder.join(name);
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: 127.0.0.1:{port}}}\n",
        storage.display()
    );
    fs::write(&config, text)?;
    let log = folder.join(format!("{name}.log"));
    in_background(Command::new("docker-registry").arg("serve").arg(&config), &log)?;
    wait_until("the registry", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(port)
}

fn podman(folder: &Path) -> Result<Engine> {
    let path = |name: &str| folder.join(name).display().to_string();
    // A root without CAP_SYS_RESOURCE cannot raise limits, so that podman's defaults must be lowered to what there is.
    let config = folder.join("containers.conf");
    let limits = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n[network]\nnetwork_backend = \"netavark\"\n";
    fs::write(&config, limits)?;
    // crun refuses a hybrid layout that leaves a controller to version 2. This mount is in our own namespace.
    if fs::exists("/sys/fs/cgroup/unified")? && !fs::exists("/sys/fs/cgroup/hugetlb")? {
        fs::create_dir("/sys/fs/cgroup/hugetlb")?;
        run_command(Command::new("mount").args(["-t", "cgroup", "-o", "hugetlb", "cgroup", "/sys/fs/cgroup/hugetlb"]))?;
    }
    output(Command::new("podman").arg("--version")).context("podman")?;
    let config = format!("CONTAINERS_CONF={}", config.display());
    let prefix =
        ["env", &config, "PODMAN_IGNORE_CGROUPSV1_WARNING=1", "podman", "--root", &path("podman"), "--runroot"];
    let mut prefix: Vec<String> = prefix.iter().map(|part| (*part).to_owned()).collect();
    prefix.push(path("podman-run"));
    prefix.extend(["--cgroup-manager", "cgroupfs", "--events-backend", "file"].map(str::to_owned));
    Ok(Engine { name: "podman", prefix })
}

fn dockerd(folder: &Path) -> Result<Engine> {
    let path = |name: &str| folder.join(name).display().to_string();
    let socket = format!("unix://{}", path("docker.sock"));
    output(Command::new("docker").arg("--version")).context("docker.io")?;
    let mut daemon = Command::new("dockerd");
    // Addresses that none of the others uses.
    daemon.args(["--bip", "172.30.0.1/24", "--default-address-pool", "base=172.30.64.0/18,size=24", "-H", &socket]);
    daemon.args(["--data-root", &path("docker"), "--exec-root", &path("docker-run"), "--pidfile", &path("docker.pid")]);
    in_background(&mut daemon, &folder.join("dockerd.log"))?;
    let engine = Engine { name: "docker", prefix: vec!["docker".into(), "-H".into(), socket] };
    wait_until("dockerd", || engine.ask(&["version"]).is_ok())
        .with_context(|| fs::read_to_string(folder.join("dockerd.log")).unwrap_or_default())?;
    Ok(engine)
}

fn in_background(command: &mut Command, log: &Path) -> Result<()> {
    let log = File::create(log)?;
    // It ends with the process namespace that this process is the first of.
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    Ok(())
}

fn wait_until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
