//! Bind mounts and temporary file systems: `-v`, `--mount`, `--tmpfs`.

use super::bytes;
use super::fields::fields;
use tare_engine::container::spec::Bind;

/// What one `--mount` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// A folder or file of the host.
    Bind(Bind),
    /// A temporary file system: its target and its options.
    Tmpfs(String, String),
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Reads `-v source:target[:options]`.
pub(crate) fn volume(text: &str) -> Result<Bind, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] if target.starts_with('/') => {
            return Err(format!(
                "anonymous volumes are not supported yet; name a folder of the host: /path/on/host:{target}"
            ));
        }
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(format!("invalid volume specification: '{text}'")),
    };
    if source.is_empty() || target.is_empty() {
        return Err(format!("invalid spec: {text}: empty section between colons"));
    }
    if !source.starts_with(['/', '.', '~']) {
        return Err(format!(
            "named volumes are not supported yet; to mount the folder {source} of the working directory, write ./{source}:{target}"
        ));
    }
    let mut bind = Bind {
        source: absolute(source)?,
        target: check_target(target)?,
        read_only: false,
        create_source: true,
        propagation: None,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => bind.read_only = true,
            // The last three say how a file system of another machine may be cached, and z/Z are for SELinux labels.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ if PROPAGATIONS.contains(&option) => bind.propagation = Some(option.to_owned()),
            _ => return Err(format!("invalid mode: {options}")),
        }
    }
    Ok(bind)
}

/// Reads `--mount type=bind,source=…,target=…`.
pub(crate) fn mount(text: &str) -> Result<Mount, String> {
    let (mut kind, mut source, mut target) = ("volume".to_owned(), None, None);
    let (mut read_only, mut create_source, mut propagation) = (false, false, None);
    let mut tmpfs = Vec::new();
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let needed = || value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"));
        let switch = || {
            super::words::boolean(value.unwrap_or("true"))
                .map_err(|_| format!("invalid value for {key}: {}", value.unwrap_or_default()))
        };
        match key.as_str() {
            "type" => kind = needed()?.to_ascii_lowercase(),
            "source" | "src" => source = Some(needed()?.to_owned()),
            "target" | "dst" | "destination" => target = Some(needed()?.to_owned()),
            "readonly" | "ro" => read_only = switch()?,
            "bind-create-src" => create_source = switch()?,
            "bind-propagation" => match needed()? {
                value if PROPAGATIONS.contains(&value) => propagation = Some(value.to_owned()),
                value => return Err(format!("invalid propagation value: {value}")),
            },
            "tmpfs-size" => {
                let size = needed()?;
                tmpfs.push(format!(
                    "size={}",
                    bytes::parse(size).map_err(|_| format!("invalid value for {key}: {size}"))?
                ));
            }
            "tmpfs-mode" => {
                let mode = needed()?;
                u32::from_str_radix(mode, 8).map_err(|_| format!("invalid value for {key}: {mode}"))?;
                tmpfs.push(format!("mode={mode}"));
            }
            "consistency" => {
                needed()?;
            }
            _ if key.starts_with("volume-") || key.starts_with("bind-") || key.starts_with("image-") => {
                return Err(format!("{key} is not supported yet"));
            }
            _ => {
                needed()?;
                return Err(format!("unexpected key '{key}' in '{field}'"));
            }
        }
    }
    let target = check_target(&target.ok_or("target is required")?)?;
    match kind.as_str() {
        "bind" => {
            let source = source.filter(|source| !source.is_empty()).ok_or("source is required for type bind")?;
            if !source.starts_with(['/', '.']) {
                return Err(format!("bind source path '{source}' must be absolute"));
            }
            Ok(Mount::Bind(Bind { source: absolute(&source)?, target, read_only, create_source, propagation }))
        }
        "tmpfs" if source.is_some() => Err("cannot specify a source for type tmpfs".to_owned()),
        "tmpfs" => {
            if read_only {
                tmpfs.push("ro".to_owned());
            }
            Ok(Mount::Tmpfs(target, tmpfs.join(",")))
        }
        "volume" => Err("volumes are not supported yet; use type=bind or type=tmpfs".to_owned()),
        kind => Err(format!("mount type {kind} is not supported yet; use type=bind or type=tmpfs")),
    }
}

/// Reads `--tmpfs target[:options]`.
pub(crate) fn tmpfs(text: &str) -> Result<(String, String), String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    Ok((check_target(target)?, options.to_owned()))
}

fn check_target(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    let clean = clean(target);
    if clean == "/" { Err("invalid specification: destination can't be '/'".to_owned()) } else { Ok(clean) }
}

/// The path from the root on, without `.` and `..`.
fn absolute(path: &str) -> Result<String, String> {
    if path.starts_with('/') {
        return Ok(clean(path));
    }
    let here = std::env::current_dir().map_err(|error| format!("cannot tell the working directory: {error}"))?;
    let here = here.to_str().ok_or("the working directory's path is no UTF-8")?;
    Ok(clean(&format!("{here}/{path}")))
}

/// Resolves `.`, `..` and repeated slashes by name, as Go's `filepath.Clean` does.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, target: &str) -> Bind {
        Bind { source: source.into(), target: target.into(), read_only: false, create_source: true, propagation: None }
    }

    #[test]
    fn volumes_of_the_host() {
        assert_eq!(volume("/a//b/:/c/../d").unwrap(), bind("/a/b", "/d"));
        assert_eq!(volume("/a:/b:ro").unwrap(), Bind { read_only: true, ..bind("/a", "/b") });
        assert_eq!(
            volume("/a:/b:rshared,ro,z").unwrap(),
            Bind { read_only: true, propagation: Some("rshared".into()), ..bind("/a", "/b") }
        );
        let here = std::env::current_dir().unwrap().to_str().unwrap().to_owned();
        assert_eq!(volume(".:/b").unwrap().source, here);
        assert_eq!(volume("./x/../y:/b").unwrap().source, format!("{here}/y"));
    }

    #[test]
    fn refused_volumes_say_why() {
        for (text, expected) in [
            ("data:/b", "named volumes are not supported yet"),
            ("/data", "anonymous volumes are not supported yet"),
            ("/a:b", "invalid mount path: 'b' mount path must be absolute"),
            ("/a:/", "destination can't be '/'"),
            ("/a:/b:x", "invalid mode: x"),
            ("/a:/b:ro:rw", "invalid volume specification: '/a:/b:ro:rw'"),
            (":/b", "empty section between colons"),
        ] {
            let error = volume(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn mounts() {
        assert_eq!(
            mount("type=bind,src=/a,dst=/b,readonly").unwrap(),
            Mount::Bind(Bind { read_only: true, create_source: false, ..bind("/a", "/b") })
        );
        assert_eq!(
            mount("type=bind,\"source=/a,b\",target=/c,ro=false").unwrap(),
            Mount::Bind(Bind { create_source: false, ..bind("/a,b", "/c") })
        );
        assert_eq!(
            mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap(),
            Mount::Tmpfs("/t".into(), "size=1048576,mode=1770".into())
        );
        for (text, expected) in [
            ("x", "invalid field 'x' must be a key=value pair"),
            ("x=y", "unexpected key 'x' in 'x=y'"),
            ("type=bind,src=/a", "target is required"),
            ("type=bind,dst=/a", "source is required"),
            ("type=bind,src=a,dst=/a", "must be absolute"),
            ("src=v,dst=/a", "volumes are not supported yet"),
            ("type=tmpfs,src=/a,dst=/a", "cannot specify a source"),
            ("type=bind,src=/a,dst=/b,ro=maybe", "invalid value for ro: maybe"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
