//! Steps that were built elsewhere: `--cache-from`, `--cache-to`.

use crate::flags::fields::{fields, pairs};
use crate::flags::words::boolean;
use std::path::PathBuf;
use tare_engine::build::{CacheFrom, CacheTo};
use tare_spec::Reference;

/// One value, sorted.
#[derive(Debug, Default)]
struct Entry {
    kind: String,
    attributes: Vec<(String, String)>,
}

/// Reads all `--cache-from`.
pub(super) fn from<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<CacheFrom>, String> {
    let read = |mut entry: Entry| {
        let cache = match entry.kind.as_str() {
            "registry" => CacheFrom::Registry(entry.reference()?),
            "local" => CacheFrom::Folder(entry.folder("src")?),
            other => return Err(unknown(other, "registry and local")),
        };
        entry.refuse_the_rest()?;
        Ok(cache)
    };
    entries(texts)?.into_iter().map(read).collect()
}

/// Reads all `--cache-to`. `None`: the configuration of the result.
pub(super) fn to<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Option<CacheTo>>, String> {
    let read = |mut entry: Entry| {
        let cache = match entry.kind.as_str() {
            "registry" => {
                let reference = entry.reference()?;
                if reference.digest().is_some() {
                    return Err(format!("a cache cannot be written to {reference}: it needs a name without a digest"));
                }
                Some(CacheTo::Registry { reference, all: entry.all()? })
            }
            "local" => Some(CacheTo::Folder { path: entry.folder("dest")?, all: entry.all()? }),
            "inline" => None,
            other => return Err(unknown(other, "registry, local and inline")),
        };
        entry.refuse_the_rest()?;
        Ok(cache)
    };
    entries(texts)?.into_iter().map(read).collect()
}

fn unknown(kind: &str, known: &str) -> String {
    format!("cache type {kind:?} is not supported: only {known} are")
}

fn entries<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        if !text.contains('=') {
            // Nothing but references.
            entries.extend(fields(text)?.into_iter().map(|reference| Entry {
                kind: "registry".to_owned(),
                attributes: vec![("ref".to_owned(), reference)],
            }));
            continue;
        }
        let mut entry =
            Entry { kind: String::new(), attributes: pairs(text, |field| format!("invalid value {field}"))? };
        entry.kind = entry.take("type").filter(|kind| !kind.is_empty()).ok_or(format!("type required for {text:?}"))?;
        entries.push(entry);
    }
    Ok(entries)
}

impl Entry {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.attributes.iter().position(|(known, _)| known == name)?;
        Some(self.attributes.remove(at).1)
    }

    fn reference(&mut self) -> Result<Reference, String> {
        let text = self.take("ref").ok_or("cache type \"registry\" needs ref")?;
        let reference =
            Reference::parse(&text).map_err(|error| format!("invalid cache reference {text:?}: {error}"))?;
        Ok(reference.with_default_tag())
    }

    fn folder(&mut self, name: &str) -> Result<PathBuf, String> {
        let path = self.take(name).filter(|path| !path.is_empty());
        let path = path.ok_or(format!("cache type \"local\" needs {name}"))?;
        std::path::absolute(&path).map_err(|error| format!("cannot tell where {path} is: {error}"))
    }

    /// `mode`
    fn all(&mut self) -> Result<bool, String> {
        match self.take("mode").as_deref() {
            None | Some("min") => Ok(false),
            Some("max") => Ok(true),
            Some(other) => Err(format!("unsupported cache mode {other:?}: min and max exist")),
        }
    }

    fn refuse_the_rest(mut self) -> Result<(), String> {
        // OCI's types are the only ones that are written.
        for name in ["oci-mediatypes", "image-manifest"] {
            if let Some(value) = self.take(name)
                && boolean(&value) != Ok(true)
            {
                return Err(format!("{name}={value} of cache type {:?} is not supported yet", self.kind));
            }
        }
        match self.attributes.first() {
            Some((name, _)) => Err(format!("{name} of cache type {:?} is not supported yet", self.kind)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn caches_are_registries_and_folders() {
        let reference = |name: &str| Reference::parse(name).unwrap().with_default_tag();
        assert_eq!(
            from(texts(&["user/app:cache,other", "type=registry,ref=r.example/x", "type=local,src=/c"]).iter())
                .unwrap(),
            [
                CacheFrom::Registry(reference("user/app:cache")),
                CacheFrom::Registry(reference("other")),
                CacheFrom::Registry(reference("r.example/x")),
                CacheFrom::Folder("/c".into()),
            ]
        );
        assert_eq!(
            to(texts(&[
                "type=inline",
                "type=local,dest=/c,mode=max",
                "type=registry,ref=x,mode=min,image-manifest=true"
            ])
            .iter())
            .unwrap(),
            [
                None,
                Some(CacheTo::Folder { path: "/c".into(), all: true }),
                Some(CacheTo::Registry { reference: reference("x"), all: false }),
            ]
        );
    }

    #[test]
    fn refusals() {
        for (text, expected) in [
            ("ref=x", "type required for \"ref=x\""),
            ("type=gha,scope=x", "cache type \"gha\" is not supported: only registry and local are"),
            ("type=inline", "cache type \"inline\" is not supported: only registry and local are"),
            ("type=local", "cache type \"local\" needs src"),
            ("type=registry", "cache type \"registry\" needs ref"),
            ("type=registry,ref=UPPER", "invalid cache reference \"UPPER\": "),
            ("type=local,src=/c,digest=x", "digest of cache type \"local\" is not supported yet"),
            ("type=local,src", "invalid value src"),
        ] {
            let error = from(texts(&[text]).iter()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        for (text, expected) in [
            ("type=registry,ref=x,mode=most", "unsupported cache mode \"most\": min and max exist"),
            (
                "type=registry,ref=x,oci-mediatypes=false",
                "oci-mediatypes=false of cache type \"registry\" is not supported yet",
            ),
            ("type=inline,mode=max", "mode of cache type \"inline\" is not supported yet"),
        ] {
            assert_eq!(to(texts(&[text]).iter()).unwrap_err(), expected);
        }
        let by_digest = format!("type=registry,ref=r.example/x@sha256:{}", "a".repeat(64));
        let refused = to(texts(&[&by_digest]).iter()).unwrap_err();
        assert!(refused.ends_with("it needs a name without a digest"), "{refused}");
    }
}
