//! The flags of `run` and `create`, and the wish for a container that they spell.

use super::parse::Matches;
use super::{Flag, bytes, env, mounts, numbers, words};
use crate::failure::Failure;
use tare_engine::container::spec::{ContainerSpec, NetworkMode, Streams};
use tare_spec::platform::Platform;
use tare_spec::port::{ExposedPort, PortMapping};

/// The flags that `run` and `create` share.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("add-host", "list", "Add a custom host-to-IP mapping (host:ip)"),
    Flag::value("attach", "list", "Attach to STDIN, STDOUT or STDERR").short('a'),
    Flag::value("cidfile", "string", "Write the container ID to the file"),
    Flag::value("cpus", "decimal", "Number of CPUs"),
    Flag::value("dns", "list", "Set custom DNS servers"),
    Flag::value("entrypoint", "string", "Overwrite the default ENTRYPOINT of the image"),
    Flag::value("env", "list", "Set environment variables").short('e'),
    Flag::value("env-file", "list", "Read in a file of environment variables"),
    Flag::value("expose", "list", "Expose a port or a range of ports"),
    Flag::value("hostname", "string", "Container host name").short('h'),
    Flag::switch("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::value("label", "list", "Set meta data on a container").short('l'),
    Flag::value("label-file", "list", "Read in a line delimited file of labels"),
    Flag::value("memory", "bytes", "Memory limit").short('m'),
    Flag::value("mount", "mount", "Attach a filesystem mount to the container"),
    Flag::value("name", "string", "Assign a name to the container"),
    Flag::value("network", "network", "Connect a container to a network (bridge, host or none)"),
    // The older spelling of --network.
    Flag::value("net", "network", ""),
    Flag::value("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag::value("platform", "string", "Set platform if server is multi-platform capable"),
    Flag::value("publish", "list", "Publish a container's port(s) to the host").short('p'),
    Flag::switch("publish-all", "Publish all exposed ports to random ports").short('P'),
    Flag::value(
        "pull",
        "string",
        "Pull image before running (\"always\", \"missing\", \"never\") (default \"missing\")",
    ),
    Flag::switch("quiet", "Suppress the pull output").short('q'),
    Flag::switch("read-only", "Mount the container's root filesystem as read only"),
    // Only "no" works, which scripts give to say that they mean it.
    Flag::value("restart", "string", ""),
    Flag::switch("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag::value("security-opt", "list", "Security Options (no-new-privileges[=true], seccomp=unconfined)"),
    Flag::value("stop-signal", "string", "Signal to stop the container"),
    Flag::value("stop-timeout", "int", "Timeout (in seconds) to stop a container"),
    Flag::value("tmpfs", "list", "Mount a tmpfs directory"),
    Flag::switch("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::value("user", "string", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    Flag::value("volume", "list", "Bind mount a folder or file of the host").short('v'),
    Flag::value("workdir", "string", "Working directory inside the container").short('w'),
    Flag::no_value("annotation"),
    Flag::no_value("blkio-weight"),
    Flag::no_value("blkio-weight-device"),
    Flag::no_value("cap-add"),
    Flag::no_value("cap-drop"),
    Flag::no_value("cgroup-parent"),
    Flag::no_value("cgroupns"),
    Flag::no_value("cpu-count"),
    Flag::no_value("cpu-percent"),
    Flag::no_value("cpu-period"),
    Flag::no_value("cpu-quota"),
    Flag::no_value("cpu-rt-period"),
    Flag::no_value("cpu-rt-runtime"),
    Flag::no_value("cpu-shares").short('c'),
    Flag::no_value("cpuset-cpus"),
    Flag::no_value("cpuset-mems"),
    Flag::no_value("device"),
    Flag::no_value("device-cgroup-rule"),
    Flag::no_value("device-read-bps"),
    Flag::no_value("device-read-iops"),
    Flag::no_value("device-write-bps"),
    Flag::no_value("device-write-iops"),
    Flag::no_switch("disable-content-trust"),
    Flag::no_value("dns-opt"),
    Flag::no_value("dns-option"),
    Flag::no_value("dns-search"),
    Flag::no_value("domainname"),
    Flag::no_value("gpus"),
    Flag::no_value("group-add"),
    Flag::no_value("health-cmd"),
    Flag::no_value("health-interval"),
    Flag::no_value("health-retries"),
    Flag::no_value("health-start-interval"),
    Flag::no_value("health-start-period"),
    Flag::no_value("health-timeout"),
    Flag::no_switch("init"),
    Flag::no_value("io-maxbandwidth"),
    Flag::no_value("io-maxiops"),
    Flag::no_value("ip"),
    Flag::no_value("ip6"),
    Flag::no_value("ipc"),
    Flag::no_value("isolation"),
    Flag::no_value("kernel-memory"),
    Flag::no_value("link"),
    Flag::no_value("link-local-ip"),
    Flag::no_value("log-driver"),
    Flag::no_value("log-opt"),
    Flag::no_value("mac-address"),
    Flag::no_value("memory-reservation"),
    Flag::no_value("memory-swap"),
    Flag::no_value("memory-swappiness"),
    Flag::no_value("net-alias"),
    Flag::no_value("network-alias"),
    Flag::no_switch("no-healthcheck"),
    Flag::no_switch("oom-kill-disable"),
    Flag::no_value("oom-score-adj"),
    Flag::no_value("pid"),
    Flag::no_switch("privileged"),
    Flag::no_value("runtime"),
    Flag::no_value("shm-size"),
    Flag::no_value("storage-opt"),
    Flag::no_value("sysctl"),
    Flag::no_value("ulimit"),
    Flag::no_switch("use-api-socket"),
    Flag::no_value("userns"),
    Flag::no_value("uts"),
    Flag::no_value("volume-driver"),
    Flag::no_value("volumes-from"),
];

/// When to pull the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// Before every creation.
    Always,
    /// When the store lacks it.
    Missing,
    /// Not at all.
    Never,
}

/// What the flags and arguments of `run` and `create` say.
#[derive(Debug)]
pub(crate) struct Wish {
    /// `--name`.
    pub(crate) name: Option<String>,
    /// The container.
    pub(crate) spec: ContainerSpec,
    /// `--pull`.
    pub(crate) pull: PullPolicy,
    /// `--quiet`.
    pub(crate) quiet: bool,
    /// `--cidfile`.
    pub(crate) cidfile: Option<String>,
}

/// The least memory a container may be limited to, 6 MiB as for Docker: with less its first process cannot start.
const MINIMUM_MEMORY: u64 = 6 << 20;

/// Reads the flags. `detached` is the `-d` of `run`.
pub(crate) fn read(m: &Matches, detached: bool) -> Result<Wish, Failure> {
    let refuse = |text: String| Failure::new(text).with_code(125);
    let image = m.args[0].clone();
    if image.is_empty() {
        return Err(refuse("invalid reference format".to_owned()));
    }
    let name = m.one("name").filter(|name| !name.is_empty()).map(str::to_owned);
    if let Some(policy) = m.one("restart").filter(|&policy| policy != "no" && !policy.is_empty()) {
        return Err(refuse(format!("--restart {policy} is not supported yet")));
    }
    m.read_all("env", env::check_variable)?;
    m.read_all("label", env::check_label)?;

    let open_stdin = m.switch("interactive")?;
    let attached = m.read_all("attach", words::stream)?;
    let attach = if !attached.is_empty() {
        let has = |stream: &str| attached.iter().any(|name| name == stream);
        Streams { stdin: has("stdin"), stdout: has("stdout"), stderr: has("stderr") }
    } else if detached {
        Streams::default()
    } else {
        Streams { stdin: open_stdin, stdout: true, stderr: true }
    };
    if detached && !attached.is_empty() {
        return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
    }

    let memory = m.read("memory", bytes::parse)?.filter(|&bytes| bytes > 0);
    if memory.is_some_and(|bytes| bytes < MINIMUM_MEMORY) {
        return Err(refuse("Minimum memory limit allowed is 6MB".to_owned()));
    }
    let working_dir = m.one("workdir").filter(|path| !path.is_empty()).map(str::to_owned);
    if let Some(path) = working_dir.as_ref().filter(|path| !path.starts_with('/')) {
        return Err(refuse(format!("the working directory '{path}' is invalid, it needs to be an absolute path")));
    }
    let environment =
        env::environment(m.all("env-file"), m.all("env"), |name| std::env::var(name).ok()).map_err(refuse)?;

    let mut spec = ContainerSpec {
        image,
        command: m.args[1..].to_vec(),
        entrypoint: m.one("entrypoint").map(|path| match path {
            "" => Vec::new(),
            path => vec![path.to_owned()],
        }),
        env: environment,
        working_dir,
        user: m.one("user").filter(|user| !user.is_empty()).map(str::to_owned),
        hostname: m.one("hostname").filter(|name| !name.is_empty()).map(str::to_owned),
        labels: env::labels(m.all("label-file"), m.all("label")).map_err(refuse)?,
        terminal: m.switch("tty")?,
        open_stdin: open_stdin || attach.stdin,
        attach,
        auto_remove: m.switch("rm")?,
        network: network(m).map_err(refuse)?,
        ports: ports(m).map_err(refuse)?,
        publish_all: m.switch("publish-all")?,
        expose: exposed(m).map_err(refuse)?,
        memory,
        nano_cpus: m.read("cpus", numbers::nano_cpus)?.filter(|&nano| nano > 0),
        pids_limit: m.read("pids-limit", numbers::integer)?,
        read_only: m.switch("read-only")?,
        extra_hosts: m.read_all("add-host", words::host_entry)?,
        dns: m.read_all("dns", words::address)?,
        stop_signal: m.one("stop-signal").filter(|signal| !signal.is_empty()).map(str::to_owned),
        stop_timeout: m.read("stop-timeout", numbers::integer)?,
        platform: platform(m)?,
        ..ContainerSpec::default()
    };
    for bind in m.all("volume") {
        spec.binds.push(mounts::volume(bind).map_err(refuse)?);
    }
    for mount in m.read_all("mount", mounts::mount)? {
        match mount {
            mounts::Mount::Bind(bind) => spec.binds.push(bind),
            mounts::Mount::Tmpfs(target, options) => drop(spec.tmpfs.insert(target, options)),
        }
    }
    for tmpfs in m.all("tmpfs") {
        let (target, options) = mounts::tmpfs(tmpfs).map_err(refuse)?;
        spec.tmpfs.insert(target, options);
    }
    check_targets(&spec).map_err(refuse)?;
    security(m, &mut spec).map_err(refuse)?;

    Ok(Wish {
        name,
        spec,
        pull: pull_policy(m).map_err(refuse)?,
        quiet: m.switch("quiet")?,
        cidfile: m.one("cidfile").map(str::to_owned),
    })
}

/// `--platform`.
pub(crate) fn platform(m: &Matches) -> Result<Option<Platform>, Failure> {
    let platform = m.one("platform").filter(|platform| !platform.is_empty());
    platform
        .map(|text| Platform::parse(text).map_err(|error| Failure::new(error.to_string()).with_code(125)))
        .transpose()
}

fn pull_policy(m: &Matches) -> Result<PullPolicy, String> {
    match m.one("pull").unwrap_or("missing") {
        "always" => Ok(PullPolicy::Always),
        "missing" | "" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(format!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\"")),
    }
}

fn network(m: &Matches) -> Result<NetworkMode, String> {
    match m.one("network").or_else(|| m.one("net")).unwrap_or("default") {
        "default" | "bridge" | "" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other if other.starts_with("container:") => Err(format!("--network {other} is not supported yet")),
        other => Err(format!("network {other} not found: only bridge, host and none exist")),
    }
}

fn ports(m: &Matches) -> Result<Vec<PortMapping>, String> {
    let mut ports = Vec::new();
    for text in m.all("publish") {
        ports.extend(PortMapping::parse(text).map_err(|error| error.to_string())?);
    }
    Ok(ports)
}

fn exposed(m: &Matches) -> Result<Vec<String>, String> {
    let mut ports = Vec::new();
    for text in m.all("expose") {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let range = ExposedPort::parse(text)
            .map_err(|error| format!("invalid range format for --expose: {text}, error: {error}"))?;
        ports.extend(range.iter().map(ToString::to_string));
    }
    Ok(ports)
}

fn security(m: &Matches, spec: &mut ContainerSpec) -> Result<(), String> {
    for option in m.all("security-opt") {
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, "true"));
        match (key, value) {
            ("no-new-privileges", value) => {
                spec.no_new_privileges =
                    words::boolean(value).map_err(|_| format!("invalid --security-opt: {option:?}"))?;
            }
            ("seccomp", "unconfined") => spec.seccomp_unconfined = true,
            ("seccomp", "builtin") => spec.seccomp_unconfined = false,
            _ => return Err(format!("--security-opt {option} is not supported yet")),
        }
    }
    Ok(())
}

fn check_targets(spec: &ContainerSpec) -> Result<(), String> {
    let mut targets: Vec<&String> = spec.binds.iter().map(|bind| &bind.target).chain(spec.tmpfs.keys()).collect();
    targets.sort();
    match targets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("Duplicate mount point: {}", pair[0])),
        None => Ok(()),
    }
}
