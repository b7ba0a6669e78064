//! From a wish and an image to a container's record.

use crate::container::life::Created;
use crate::container::spec::{ContainerSpec, NetworkMode};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::state::file::{self, Durability};
use crate::state::record::{ContainerRecord, RECORD_VERSION};
use crate::state::{ContainerPaths, lock, names};
use std::collections::BTreeMap;
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
        let image = self.image_or_built_in(&spec.image)?;
        validate(&mut spec)?;
        let mut random = [0; 40];
        fill_random(&mut random)?;
        let (id_bytes, name_bytes) = random.split_at(32);
        let id = ContainerId::from_random(id_bytes.try_into().expect("32 bytes were split off"));
        let mut warnings = Vec::new();
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

    fn image_or_built_in(&self, name: &str) -> Result<Image> {
        match self.image(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let built_in = Reference::parse(name).is_ok_and(|r| r.with_default_tag().to_string() == BUILT_IN);
                if !built_in {
                    return Err(error);
                }
                tare_build::hello::install(self.store()?)?;
                self.image(name)
            }
            found => found,
        }
    }

    /// Claims the name and writes the record, whose presence makes the container.
    fn write(&self, record: &ContainerRecord) -> Result<()> {
        let durability = durability(record);
        let paths = self.paths.container(&record.id);
        file::make_directory(&paths.run)?;
        let lock = lock::acquire(&paths.lock())?;
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

/// Records of containers that go with their end need not outlive a power cut, which is their end too.
pub(crate) fn durability(record: &ContainerRecord) -> Durability {
    if record.spec.auto_remove { Durability::Volatile } else { Durability::Durable }
}

fn fill_random(bytes: &mut [u8]) -> Result<()> {
    // Once the kernel's generator is seeded, getrandom(2) fills up to 256 bytes in one call.
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::System { action: "get random bytes", source: errno.into() })?;
    Ok(())
}

fn validate(spec: &mut ContainerSpec) -> Result<()> {
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
        crate::container::stop::signal_number(signal)?;
    }
    if spec.network != NetworkMode::Bridge {
        // Docker ignores published ports there; its command line says so, and so does `create`.
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
    if !Platform::host().matches(&platform) {
        warnings.push(format!(
            "The requested image's platform ({platform}) does not match the detected host platform ({}) and no specific platform was requested",
            Platform::host()
        ));
    }
    if spec.network == NetworkMode::Host && !spec.ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    let mut labels: BTreeMap<String, String> = config.labels.clone();
    labels.extend(spec.labels.clone());
    let mut exposed: Vec<String> = Vec::new();
    for text in config.exposed_ports.keys().chain(&spec.expose) {
        // An image may say nonsense here, as it only documents: what cannot be read exposes nothing.
        let Ok(ports) = ExposedPort::parse(text) else { continue };
        exposed.extend(ports.iter().map(ToString::to_string));
    }
    exposed.extend(spec.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol)));
    exposed.sort();
    exposed.dedup();
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
    let stop_signal =
        spec.stop_signal.clone().or_else(|| config.stop_signal.clone()).unwrap_or_else(|| "SIGTERM".into());
    crate::container::stop::signal_number(&stop_signal)?;
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
    fn impossible_limits_are_refused_in_dockers_words() {
        let mut spec = ContainerSpec { memory: Some(1024), ..ContainerSpec::default() };
        assert_eq!(validate(&mut spec).unwrap_err().to_string(), "Minimum memory limit allowed is 6MB");
        let mut spec = ContainerSpec { nano_cpus: Some(u64::MAX), ..ContainerSpec::default() };
        assert!(validate(&mut spec).unwrap_err().to_string().starts_with("range of CPUs is from 0.01 to"));
    }
}
