//! Hints that need a look at what is here: what takes the space of a full disk, which tags an image has.

use crate::failure::Failure;
use crate::flags::bytes;
use tare_engine::image::DiskUsage;
use tare_engine::{Engine, Error, Options};
use tare_spec::reference::Reference;

/// What a failure is about, where a look at what is here can help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A file system has no room left.
    FullDisk,
    /// No image has this name.
    NoSuchImage(String),
}

impl Topic {
    /// Of an error of the engine.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::NoSuchImage { name } => Some(Self::NoSuchImage(name.clone())),
            error => error.is_full_disk().then_some(Self::FullDisk),
        }
    }
}

/// More names than these help nobody.
const MOST_NAMES: usize = 5;

impl Failure {
    /// The same with a better hint, where there is one. Looking costs time, so that it is done for failures only.
    pub(crate) fn advised(self, options: &Options) -> Self {
        let Some(topic) = self.topic.clone() else { return self };
        // What cannot be looked at now leaves the hint that there is.
        let Ok(engine) = Engine::open(options.clone()) else { return self };
        let hint = match topic {
            Topic::FullDisk => {
                engine.disk_usage().ok().map(|usage| reclaim(&usage, &options.root.display().to_string()))
            }
            Topic::NoSuchImage(name) => other_tags(&engine, &name),
        };
        let hint = hint.or_else(|| self.hint.clone());
        self.with_hint(hint)
    }
}

/// What takes the space, the biggest reclaim, and the command for it.
fn reclaim(usage: &DiskUsage, root: &str) -> String {
    if usage.images.size + usage.containers.size + usage.registry == 0 {
        return "`df -h` shows which file system is full".to_owned();
    }
    let (images, containers) = (usage.images.reclaimable, usage.containers.reclaimable);
    let sizes = [usage.images.size, usage.containers.size, usage.registry].map(bytes::show);
    let taken = match usage.registry {
        0 => format!("in {root} images take {} and containers {}", sizes[0], sizes[1]),
        _ => format!("in {root} images take {}, containers {} and the registry {}", sizes[0], sizes[1], sizes[2]),
    };
    let (command, freed) = match (images, containers) {
        (0, 0) => return format!("{taken}, all of it in use; `df -h` shows which file system is full"),
        (images, 0) => ("tare image prune -a", images),
        (0, containers) => ("tare container prune", containers),
        (images, containers) => ("tare system prune -a", images + containers),
    };
    format!(
        "{taken}: `{command}` frees {} of it (`{command} --dry-run` shows what); `df -h` shows which file system is full",
        bytes::show(freed)
    )
}

/// The tags that the repository of a name has here.
fn other_tags(engine: &Engine, name: &str) -> Option<String> {
    let repository = Reference::parse(name).ok()?.without_version();
    here(&engine.local_tags(&repository.to_string()).ok()?)
}

/// `` there is `web:1`, `web:2` here ``
pub(crate) fn here(tags: &[Reference]) -> Option<String> {
    let names: Vec<String> = tags.iter().take(MOST_NAMES).map(|name| format!("`{}`", name.familiar())).collect();
    let more = if tags.len() > MOST_NAMES { ", …" } else { "" };
    (!names.is_empty()).then(|| format!("there is {}{more} here", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_engine::image::Usage;

    #[test]
    fn the_biggest_reclaim_comes_with_its_command() {
        let usage = |images, containers| DiskUsage {
            images: Usage { items: Vec::new(), active: 0, size: 5_000_000_000, reclaimable: images },
            containers: Usage { items: Vec::new(), active: 0, size: 2_000_000, reclaimable: containers },
            registry: 0,
            partial: 0,
        };
        let hint = |images, containers| reclaim(&usage(images, containers), "/var/lib/tare");
        assert!(hint(0, 0).starts_with("in /var/lib/tare images take 5GB and containers 2MB, all of it in use"));
        let registry = DiskUsage { registry: 3_000_000, ..usage(0, 0) };
        assert!(
            reclaim(&registry, "/r").starts_with("in /r images take 5GB, containers 2MB and the registry 3MB, all")
        );
        assert!(hint(3_000_000, 0).contains("`tare image prune -a` frees 3MB"));
        assert!(hint(0, 1_000_000).contains("`tare container prune` frees 1MB"));
        assert!(hint(3_000_000, 1_000_000).contains("`tare system prune -a` frees 4MB"));
    }

    #[test]
    fn a_name_with_other_tags() {
        let tags: Vec<Reference> = (1..8).map(|tag| Reference::parse(&format!("web:{tag}")).unwrap()).collect();
        assert_eq!(here(&tags[..1]).unwrap(), "there is `web:1` here");
        assert_eq!(here(&tags).unwrap(), "there is `web:1`, `web:2`, `web:3`, `web:4`, `web:5`, … here");
        assert_eq!(here(&[]), None);
    }
}
