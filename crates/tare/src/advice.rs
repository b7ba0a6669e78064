//! Hints that need a look at what is here: what takes the space of a full disk, which tags an image has.

use crate::failure::Failure;
use crate::flags::bytes;
use tare_engine::build::CacheRecord;
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
                let cache = engine.build_cache().unwrap_or_default();
                engine.disk_usage().ok().map(|usage| reclaim(&usage, &cache, &options.root.display().to_string()))
            }
            Topic::NoSuchImage(name) => other_tags(&engine, &name),
        };
        let hint = hint.or_else(|| self.hint.clone());
        self.with_hint(hint)
    }
}

/// What takes the space, the biggest reclaim, and the command for it.
fn reclaim(usage: &DiskUsage, cache: &[CacheRecord], root: &str) -> String {
    if usage.images.size + usage.containers.size + usage.builds + usage.registry == 0 {
        return "`df -h` shows which file system is full".to_owned();
    }
    let unused = cache.iter().filter(|record| !record.in_use).map(|record| record.disk).sum();
    let others = [("the build cache", usage.builds), ("the registry", usage.registry)];
    let mut parts = vec![
        format!("images take {}", bytes::show(usage.images.size)),
        format!("containers {}", bytes::show(usage.containers.size)),
    ];
    let others = others.iter().filter(|(_, size)| *size > 0);
    parts.extend(others.map(|(name, size)| format!("{name} {}", bytes::show(*size))));
    let last = parts.pop().unwrap_or_default();
    let taken = format!("in {root} {} and {last}", parts.join(", "));
    let frees = [
        (usage.images.reclaimable, "tare image prune -a"),
        (usage.containers.reclaimable, "tare container prune"),
        (unused, "tare builder prune -a"),
    ];
    let (command, freed) = match frees.iter().filter(|(freed, _)| *freed > 0).collect::<Vec<_>>()[..] {
        [] => return format!("{taken}, all of it in use; `df -h` shows which file system is full"),
        [(freed, command)] => (*command, *freed),
        _ => ("tare system prune -a", frees.iter().map(|(freed, _)| freed).sum()),
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
    use crate::commands::builder::du::tests::record;
    use tare_engine::image::Usage;

    #[test]
    fn the_biggest_reclaim_comes_with_its_command() {
        let usage = |images, containers| DiskUsage {
            images: Usage { items: Vec::new(), active: 0, size: 5_000_000_000, reclaimable: images },
            containers: Usage { items: Vec::new(), active: 0, size: 2_000_000, reclaimable: containers },
            builds: 0,
            registry: 0,
            partial: 0,
        };
        let hint = |images, containers| reclaim(&usage(images, containers), &[], "/var/lib/tare");
        assert!(hint(0, 0).starts_with("in /var/lib/tare images take 5GB and containers 2MB, all of it in use"));
        let registry = DiskUsage { registry: 3_000_000, ..usage(0, 0) };
        assert!(
            reclaim(&registry, &[], "/r")
                .starts_with("in /r images take 5GB, containers 2MB and the registry 3MB, all")
        );
        let cache = [record("0", 4_000_000, false, false), record("1", 1_000_000, false, true)];
        let with_cache = reclaim(&DiskUsage { builds: 5_000_000, ..usage(0, 0) }, &cache, "/var/lib/tare");
        assert!(with_cache.contains("the build cache 5MB: `tare builder prune -a` frees 4MB"), "{with_cache}");
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
