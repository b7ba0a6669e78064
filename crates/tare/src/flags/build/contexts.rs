//! Files from elsewhere: what `--build-context` and a context that is no folder name.

use crate::failure::errno_text;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tare_engine::build::{GitSource, NamedContext};
use tare_spec::Reference;
use tare_spec::url::without_users;

/// Something that is not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// A file at this URL.
    Url(String),
    /// What git brings.
    Git(GitSource),
}

/// What the text names elsewhere, if it is of such a form.
pub(crate) fn remote(text: &str) -> Option<Result<Remote, String>> {
    if let Some(git) = GitSource::parse(text) {
        return Some(git.map(Remote::Git).map_err(|error| error.to_string()));
    }
    is_url(text).then(|| Ok(Remote::Url(text.to_owned())))
}

/// Whether it is a URL of the web.
pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Reads all `--build-context`.
pub(super) fn named<'a>(texts: impl Iterator<Item = &'a String>) -> Result<BTreeMap<String, NamedContext>, String> {
    let mut contexts = BTreeMap::new();
    for text in texts.filter(|text| !text.is_empty()) {
        let (name, value) =
            text.split_once('=').ok_or_else(|| format!("invalid context value: {text}, expected key=value"))?;
        let name = Reference::parse(name).map_err(|error| format!("invalid context name {name}: {error}"))?.familiar();
        let name = name.strip_suffix(":latest").map_or(name.clone(), str::to_owned);
        let context = context(&name, value)?;
        contexts.insert(name, context);
    }
    Ok(contexts)
}

fn context(name: &str, value: &str) -> Result<NamedContext, String> {
    if let Some(image) = value.strip_prefix("docker-image://") {
        Reference::parse(image).map_err(|error| format!("failed to get build context {name}: {image}: {error}"))?;
        return Ok(NamedContext::Image(image.to_owned()));
    }
    for form in ["oci-layout://", "target:", "input:"] {
        if value.starts_with(form) {
            return Err(format!("--build-context {name}={value}: {form} is not supported yet"));
        }
    }
    match remote(value).transpose()? {
        Some(Remote::Git(git)) => return Ok(NamedContext::Git(git)),
        Some(Remote::Url(_)) => {
            let value = without_users(value);
            return Err(format!("--build-context {name}={value}: archives at URLs are not supported yet"));
        }
        None => {}
    }
    let failed = |why: &str| format!("failed to get build context {name}: stat {value}: {why}");
    match std::fs::metadata(value) {
        Ok(found) if found.is_dir() => {
            let path: PathBuf = std::path::absolute(value).map_err(|error| failed(&errno_text(&error)))?;
            Ok(NamedContext::Folder(path))
        }
        Ok(_) => Err(failed("not a directory")),
        Err(error) => Err(failed(&errno_text(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_and_the_web_have() {
        for text in [
            "https://example.com/web.git",
            "http://example.com/web.git?tag=v1",
            "git://example.com/web",
            "ssh://git@example.com/web",
            "git@example.com:web/web.git",
            "github.com/someone/web",
        ] {
            assert!(matches!(remote(text), Some(Ok(Remote::Git(_)))), "{text}");
        }
        let Some(Ok(Remote::Git(git))) = remote("https://example.com/web.git#v1:docker") else { panic!() };
        assert_eq!((git.reference.as_deref(), git.folder.as_str()), (Some("v1"), "docker"));
        assert!(remote("https://example.com/web.git#--upload-pack=x").unwrap().is_err());
        for url in ["https://example.com/web.tar.gz", "http://example.com/Dockerfile", "https://example.com/git"] {
            assert_eq!(remote(url), Some(Ok(Remote::Url(url.to_owned()))));
        }
        for neither in [".", "/x", "x.git", "a@b", "a/b@c:d", "user@:x", "ftp://x"] {
            assert_eq!(remote(neither), None, "{neither}");
        }
    }

    #[test]
    fn names_stand_for_other_things() {
        let read = |texts: &[&str]| named(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().iter());
        let contexts = read(&["alpine:latest=docker-image://debian:13", "src=/etc"]).unwrap();
        assert_eq!(contexts["alpine"], NamedContext::Image("debian:13".to_owned()));
        assert_eq!(contexts["src"], NamedContext::Folder("/etc".into()));
        for (text, expected) in [
            ("src", "invalid context value: src, expected key=value"),
            ("UPPER=/etc", "invalid context name UPPER: "),
            ("a=/nonexistent", "failed to get build context a: stat /nonexistent: no such file or directory"),
            ("a=/etc/passwd", "failed to get build context a: stat /etc/passwd: not a directory"),
            ("a=oci-layout:///x", "--build-context a=oci-layout:///x: oci-layout:// is not supported yet"),
            (
                "a=https://x.example/y.tar",
                "--build-context a=https://x.example/y.tar: archives at URLs are not supported yet",
            ),
        ] {
            let error = read(&[text]).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
