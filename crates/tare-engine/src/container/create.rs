//! From a wish and an image to a container's record.

use crate::container::life::Created;
use crate::container::spec::{ContainerSpec, NetworkMode};
use crate::container::stop::signal_number;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::state::file::{self, Durability};
use crate::state::record::{ContainerRecord, RECORD_VERSION};
use crate::state::{ContainerPaths, lock, names};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tare_spec::image::Config;
use tare_spec::platform::Platform;
use tare_spec::port::ExposedPort;
use tare_spec::reference::Reference;
use tare_spec::{ContainerId, ErrorKind};

/// The least memory limit, in bytes: below it a process can hardly start (moby's `linuxMinMemory`).
const MINIMUM_MEMORY: u64 = 6 * 1024 * 1024;

/// What `PATH` is when neither image nor person says it (moby's `DefaultPathEnv`).
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most ports a container may expose: more than any program listens on, less than a hostile image could list.
const MOST_EXPOSED: usize = 4096;

/// The most layers overlayfs stacks (fs/overlayfs/params.h, `OVL_MAX_STACK`), but for the one of the mount points.
const MOST_LAYERS: usize = 499;

/// Name of the image that is built into the program.
const BUILT_IN: &str = "docker.io/library/hello:latest";

impl Engine {
    /// Makes a container. Its image must be in the store, but for `hello`, which comes with the program.
    ///
    /// After success the container outlives a power cut, unless it removes itself at its end.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::NameInUse`], [`Error::InvalidName`], [`Error::NoCommand`], and
    /// [`Error::InvalidParameter`] for values that cannot be; nothing is left then.
    pub fn create(&self, name: Option<&str>, mut spec: ContainerSpec) -> Result<Created> {
        if let Some(name) = name
            && !names::is_valid(name.strip_prefix('/').unwrap_or(name))
        {
            return Err(Error::InvalidName { name: name.to_owned() });
        }
        // From here until the record tells of them, nobody may collect the image's layers.
        let lease = self.store()?.lease()?;
        let image = match &spec.platform {
            Some(platform) => match self.image_for(&spec.image, platform) {
                Err(Error::NoSuchImage { .. }) => self.image_or_built_in(&spec.image)?,
                image => image?.into(),
            },
            None => self.image_or_built_in(&spec.image)?,
        };
        let mut warnings = Vec::new();
        validate(&mut spec, &mut warnings)?;
        let mut random = [0; 40];
        fill_random(&mut random)?;
        let (id_bytes, name_bytes) = random.split_at(32);
        let id = ContainerId::from_random(id_bytes.try_into().expect("32 bytes were split off"));
        let mut record = merge(&id, spec, &image, &mut warnings)?;
        match name {
            Some(name) => {
                name.strip_prefix('/').unwrap_or(name).clone_into(&mut record.name);
                self.write(&record)?;
            }
            None => {
                let seed = u64::from_ne_bytes(name_bytes.try_into().expect("8 bytes are left"));
                let mut attempt = 0;
                loop {
                    record.name = names::generate(seed.wrapping_add(u64::from(attempt) << 20), attempt);
                    match self.write(&record) {
                        Err(Error::NameInUse { .. }) => attempt += 1,
                        written => break written?,
                    }
                }
            }
        }
        drop(lease);
        Ok(Created { id, warnings })
    }

    pub(crate) fn image_or_built_in(&self, name: &str) -> Result<Image> {
        match self.image_without_names(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let built_in = Reference::parse(name).is_ok_and(|r| r.with_default_tag().to_string() == BUILT_IN);
                if !built_in {
                    return Err(error);
                }
                tare_build::hello::install(self.store()?, &self.build_folders()).map_err(|failure| failure.error)?;
                self.image_without_names(name)
            }
            found => found,
        }
    }

    /// Claims the name and writes the record, whose presence makes the container.
    fn write(&self, record: &ContainerRecord) -> Result<()> {
        let durability = record.durability();
        let paths = self.paths.container(&record.id);
        let lock = loop {
            file::make_directory(&paths.run)?;
            // Somebody may have swept the folder before it was locked.
            if let Some(lock) = lock::acquire(&paths.lock())? {
                break lock;
            }
        };
        let made = self.write_locked(record, &paths, durability);
        if let Err(error) = made {
            let mut cleaning = Vec::new();
            cleaning.extend(names::release(self, &record.name, &record.id).err());
            cleaning.extend(file::remove_tree(&paths.directory).err());
            cleaning.extend(file::remove_tree(&paths.run).err());
            return Err(error.after(cleaning));
        }
        drop(lock);
        Ok(())
    }

    fn write_locked(&self, record: &ContainerRecord, paths: &ContainerPaths, durability: Durability) -> Result<()> {
        file::make_directory(&paths.directory)?;
        for (path, mode) in [(paths.upper(), 0o755), (paths.work(), 0o700)] {
            file::make_directory(&path)?;
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, permissions)
                .map_err(|source| Error::file("set permissions of", &path, source))?;
        }
        names::claim(self, &record.name, &record.id, durability)?;
        file::write_json(&paths.record(), record, durability)?;
        if durability == Durability::Durable { file::sync_directory(&self.paths.containers()) } else { Ok(()) }
    }
}

fn fill_random(bytes: &mut [u8]) -> Result<()> {
    // Once the kernel's generator is seeded, getrandom(2) fills up to 256 bytes in one call.
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::System { action: "get random bytes", source: errno.into() })?;
    Ok(())
}

fn validate(spec: &mut ContainerSpec, warnings: &mut Vec<String>) -> Result<()> {
    if spec.memory.is_some_and(|memory| memory < MINIMUM_MEMORY) {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if let Some(nano_cpus) = spec.nano_cpus {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        if nano_cpus > available as u64 * 1_000_000_000 {
            return Err(Error::invalid(format!(
                "range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
            )));
        }
    }
    if let Some(signal) = &spec.stop_signal {
        signal_number(signal)?;
    }
    // They become lines of files that programs trust.
    for text in spec.hostname.iter().chain(&spec.extra_hosts) {
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Error::invalid(format!("invalid host name: {text:?}")));
        }
    }
    if spec.network != NetworkMode::Bridge {
        if !spec.ports.is_empty() || spec.publish_all {
            let network = spec.network.name();
            warnings.push(format!("Published ports are discarded when using {network} network mode"));
        }
        spec.ports.clear();
        spec.publish_all = false;
    }
    for bind in &spec.binds {
        if !Path::new(&bind.target).is_absolute() {
            return Err(Error::invalid(format!("invalid mount path: '{}' mount path must be absolute", bind.target)));
        }
        if Path::new(&bind.target).components().count() < 2 {
            return Err(Error::invalid("invalid specification: destination can't be '/'"));
        }
        if !Path::new(&bind.source).exists() && !bind.create_source {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                bind.source
            )));
        }
    }
    Ok(())
}

/// What an image and a wish come to.
fn merge(id: &ContainerId, spec: ContainerSpec, image: &Image, warnings: &mut Vec<String>) -> Result<ContainerRecord> {
    let empty = Config::default();
    let config = image.config.config.as_ref().unwrap_or(&empty);
    if image.config.rootfs.diff_ids.len() > MOST_LAYERS {
        return Err(Error::invalid(format!(
            "image {} has {} layers, at most {MOST_LAYERS} can be mounted",
            image.id,
            image.config.rootfs.diff_ids.len()
        )));
    }
    let (entrypoint, command) = program(&spec, config);
    if entrypoint.iter().chain(&command).next().is_none() {
        return Err(Error::NoCommand);
    }
    let hostname = match (&spec.hostname, spec.network) {
        (Some(name), _) => name.clone(),
        (None, NetworkMode::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        (None, NetworkMode::Bridge | NetworkMode::None) => id.short().to_owned(),
    };
    let platform = image.config.platform();
    if spec.platform.is_none() && !Platform::host().matches(&platform) {
        warnings.push(format!(
            "The requested image's platform ({platform}) does not match the detected host platform ({}) and no specific platform was requested",
            Platform::host()
        ));
    }
    let mut labels: BTreeMap<String, String> = config.labels.clone();
    labels.extend(spec.labels.clone());
    let exposed = exposed(&spec, config)?;
    let working_dir = match spec.working_dir.as_deref().unwrap_or(&config.working_dir) {
        "" => "/".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path if spec.working_dir.is_none() => format!("/{path}"),
        path => {
            return Err(Error::invalid(format!(
                "the working directory '{path}' is invalid, it needs to be an absolute path"
            )));
        }
    };
    // One that the image has wrong is as none, as with Docker.
    let of_image = config.stop_signal.clone().filter(|signal| signal_number(signal).is_ok());
    let stop_signal = spec.stop_signal.clone().or(of_image).unwrap_or_else(|| "SIGTERM".into());
    Ok(ContainerRecord {
        version: RECORD_VERSION,
        id: id.clone(),
        name: String::new(),
        created: jiff::Timestamp::now(),
        image_id: image.id.clone(),
        manifest: image.manifest.clone(),
        layers: image.config.rootfs.diff_ids.clone(),
        platform: platform.to_string(),
        env: environment(&spec, config, &hostname),
        entrypoint,
        command,
        working_dir,
        user: spec.user.clone().unwrap_or_else(|| config.user.clone()),
        hostname,
        labels,
        exposed,
        stop_signal,
        spec,
    })
}

/// The exposed ports, sorted, each once.
fn exposed(spec: &ContainerSpec, config: &Config) -> Result<Vec<String>> {
    let mut ports = BTreeSet::new();
    // An image may say nonsense here, as it only documents: what cannot be read exposes nothing.
    let texts = config.exposed_ports.keys().chain(&spec.expose);
    for port in texts.filter_map(|text| ExposedPort::parse(text).ok()).flatten() {
        ports.insert((port.port, port.protocol.name()));
        if ports.len() > MOST_EXPOSED {
            return Err(Error::invalid(format!("more than {MOST_EXPOSED} ports are exposed")));
        }
    }
    ports.extend(spec.ports.iter().map(|port| (port.container_port, port.protocol.name())));
    Ok(ports.into_iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect())
}

/// Entry point and command: an entry point of the wish takes the image's command away, as with Docker.
fn program(spec: &ContainerSpec, config: &Config) -> (Vec<String>, Vec<String>) {
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    match &spec.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), spec.command.clone()),
        None if spec.command.is_empty() => (of_image(&config.entrypoint), of_image(&config.cmd)),
        None => (of_image(&config.entrypoint), spec.command.clone()),
    }
}

/// The environment, in Docker's order: defaults, the image's, the wish's; a later value takes an earlier one's place.
fn environment(spec: &ContainerSpec, config: &Config, hostname: &str) -> Vec<String> {
    let mut environment: Vec<String> = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if spec.terminal {
        environment.push("TERM=xterm".to_owned());
    }
    for variable in config.env.iter().chain(&spec.env) {
        // Without a value it names nothing; above all it does not pull in the engine's own variable (CVE-2026-57231).
        let Some((name, _)) = variable.split_once('=').filter(|(name, _)| !name.is_empty()) else { continue };
        let prefix = format!("{name}=");
        match environment.iter_mut().find(|existing| existing.starts_with(&prefix)) {
            Some(existing) => existing.clone_from(variable),
            None => environment.push(variable.clone()),
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image() -> Config {
        Config {
            entrypoint: Some(list(&["/entry"])),
            cmd: Some(list(&["serve"])),
            env: list(&["PATH=/bin", "HOME", "A=image", "B=image"]),
            ..Config::default()
        }
    }

    #[test]
    fn an_entry_point_of_the_wish_takes_the_images_command_away() {
        let spec = |entrypoint: Option<&[&str]>, command: &[&str]| ContainerSpec {
            entrypoint: entrypoint.map(list),
            command: list(command),
            ..ContainerSpec::default()
        };
        let cases = [
            (spec(None, &[]), "/entry serve"),
            (spec(None, &["other"]), "/entry other"),
            (spec(Some(&["/mine"]), &[]), "/mine"),
            (spec(Some(&["/mine"]), &["x"]), "/mine x"),
            (spec(Some(&[]), &["x"]), "x"),
            (spec(Some(&[]), &[]), ""),
        ];
        for (spec, expected) in cases {
            let (entrypoint, command) = program(&spec, &image());
            assert_eq!([entrypoint, command].concat().join(" "), expected);
        }
    }

    #[test]
    fn later_variables_win_and_those_without_a_value_are_dropped() {
        let spec = ContainerSpec { env: list(&["B=wish", "C=a=b", "=x"]), terminal: true, ..ContainerSpec::default() };
        let expected = list(&["PATH=/bin", "HOSTNAME=h", "TERM=xterm", "A=image", "B=wish", "C=a=b"]);
        assert_eq!(environment(&spec, &image(), "h"), expected);
    }

    #[test]
    fn exposed_ports_are_sorted_and_bounded() {
        let config = |ports: &[&str]| Config {
            exposed_ports: ports.iter().map(|port| ((*port).to_owned(), Default::default())).collect(),
            ..Config::default()
        };
        let spec = ContainerSpec { expose: list(&["90-91", "80/udp"]), ..ContainerSpec::default() };
        let all = exposed(&spec, &config(&["80/tcp", "nonsense", "90"])).unwrap();
        assert_eq!(all, ["80/tcp", "80/udp", "90/tcp", "91/tcp"]);
        let hostile: Vec<String> = (1..300).map(|first| format!("{first}-65535/tcp")).collect();
        let hostile: Vec<&str> = hostile.iter().map(String::as_str).collect();
        assert!(exposed(&spec, &config(&hostile)).unwrap_err().to_string().contains("4096"));
    }

    #[test]
    fn ports_beside_the_bridge_are_dropped_with_a_word() {
        let port = tare_spec::PortMapping::parse("3000:80").unwrap();
        let mut spec = ContainerSpec { ports: port, network: NetworkMode::Host, ..ContainerSpec::default() };
        let mut warnings = Vec::new();
        validate(&mut spec, &mut warnings).unwrap();
        assert_eq!(warnings, ["Published ports are discarded when using host network mode"]);
        assert!(spec.ports.is_empty());
    }

    #[test]
    fn names_with_line_ends_are_refused() {
        let mut spec = ContainerSpec { extra_hosts: list(&["a\n127.0.0.1 b:1.2.3.4"]), ..ContainerSpec::default() };
        assert!(validate(&mut spec, &mut Vec::new()).is_err());
    }

    #[test]
    fn impossible_limits_are_refused_in_dockers_words() {
        let mut spec = ContainerSpec { memory: Some(1024), ..ContainerSpec::default() };
        assert_eq!(
            validate(&mut spec, &mut Vec::new()).unwrap_err().to_string(),
            "Minimum memory limit allowed is 6MB"
        );
        let mut spec = ContainerSpec { nano_cpus: Some(u64::MAX), ..ContainerSpec::default() };
        assert!(
            validate(&mut spec, &mut Vec::new()).unwrap_err().to_string().starts_with("range of CPUs is from 0.01 to")
        );
    }
}
