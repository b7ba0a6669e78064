//! What only RUN steps see: `--secret` and `--ssh`.

use crate::failure::errno_text;
use crate::flags::fields::pairs;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use tare_engine::build::SecretSource;

/// A secret that is larger is refused, as by BuildKit.
const MOST_BYTES: u64 = 500 << 10;

/// Reads all `--secret`. The second part names variables of the environment that are not set: their secrets are empty.
pub(super) fn secrets<'a>(
    texts: impl Iterator<Item = &'a String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(BTreeMap<String, SecretSource>, Vec<String>), String> {
    let (mut secrets, mut unset) = (BTreeMap::new(), Vec::new());
    for text in texts.filter(|text| !text.is_empty()) {
        let (id, source) = secret(text, &variable)?;
        let source = match source {
            Given::File(path) => SecretSource::File(check_file(&id, &path)?),
            Given::Variable(name) => {
                let value = variable(&name);
                if value.is_none() {
                    unset.push(name);
                }
                SecretSource::Value(value.unwrap_or_default().into_bytes())
            }
        };
        // The last one of a name counts.
        secrets.insert(id, source);
    }
    Ok((secrets, unset))
}

/// Where a secret is said to be.
#[derive(Debug, PartialEq, Eq)]
enum Given {
    File(String),
    Variable(String),
}

fn secret(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<(String, Given), String> {
    let (mut id, mut file, mut env, mut kind) = (String::new(), String::new(), String::new(), String::new());
    for (name, value) in pairs(text, |field| format!("invalid field '{field}' must be a key=value pair"))? {
        match name.as_str() {
            "type" if value == "file" || value == "env" => kind = value,
            "type" => return Err(format!("unsupported secret type {value:?}")),
            "id" => id = value,
            "source" | "src" => file = value,
            "env" => env = value,
            _ => return Err(format!("unexpected key '{name}' in '{name}={value}'")),
        }
    }
    if id.is_empty() {
        return Err("secret missing ID".to_owned());
    }
    if kind == "env" && env.is_empty() {
        env = std::mem::take(&mut file);
    }
    let given = match (env.is_empty(), file.is_empty()) {
        // A file that is named goes before the environment.
        (_, false) if env.is_empty() => Given::File(file),
        (false, _) => Given::Variable(env),
        _ if variable(&id).is_some() => Given::Variable(id.clone()),
        _ => Given::File(id.clone()),
    };
    Ok((id, given))
}

fn check_file(id: &str, path: &str) -> Result<PathBuf, String> {
    let found =
        fs::metadata(path).map_err(|error| format!("failed to stat {path}: stat {path}: {}", errno_text(&error)))?;
    if found.is_dir() {
        return Err(format!("secret {id}: {path} is a directory"));
    }
    if found.len() > MOST_BYTES {
        return Err(format!("secret {id} too big. max size 500KiB"));
    }
    absolute(path)
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("cannot tell where {path} is: {}", errno_text(&error)))
}

/// Reads all `--ssh`: sockets of agents by id.
pub(super) fn agents<'a>(
    texts: impl Iterator<Item = &'a String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut agents = BTreeMap::new();
    for text in texts.filter(|text| !text.is_empty()) {
        let (id, path) = text.split_once('=').map_or((text.as_str(), None), |(id, path)| (id, Some(path)));
        let id = if id.is_empty() { "default" } else { id };
        let path = match path.filter(|path| !path.is_empty()) {
            Some(path) => path.to_owned(),
            None => variable("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).ok_or_else(|| {
                format!("failed to convert agent config for ID: {id:?}: invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
            })?,
        };
        let kind = fs::metadata(&path).map(|found| found.file_type());
        match kind {
            Ok(kind) if kind.is_socket() => {}
            // A list of keys is one path that there is not.
            Ok(_) => return Err(keys_are_not_supported(id, &path)),
            Err(_) if path.contains(',') => return Err(keys_are_not_supported(id, &path)),
            Err(error) => return Err(format!("failed to open {path}: open {path}: {}", errno_text(&error))),
        }
        if agents.insert(id.to_owned(), absolute(&path)?).is_some() {
            return Err(format!("duplicate agent ID {id:?}"));
        }
    }
    Ok(agents)
}

fn keys_are_not_supported(id: &str, path: &str) -> String {
    format!(
        "--ssh {id}={path}: keys are not supported yet, only the socket of an agent: `eval $(ssh-agent)`, `ssh-add KEY`, and --ssh {id}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "t0ken".to_owned())
    }

    #[test]
    fn secrets_are_files_or_variables() {
        let file = |path: &str| Given::File(path.to_owned());
        let of = |name: &str| Given::Variable(name.to_owned());
        for (text, id, given) in [
            ("id=a,src=/x", "a", file("/x")),
            ("id=a,source=x", "a", file("x")),
            ("ID=a,\"src=/x,y\"", "a", file("/x,y")),
            ("id=a,env=TOKEN", "a", of("TOKEN")),
            ("id=a,type=env,src=TOKEN", "a", of("TOKEN")),
            ("id=a,type=file,src=TOKEN", "a", file("TOKEN")),
            ("id=TOKEN", "TOKEN", of("TOKEN")),
            ("id=a", "a", file("a")),
        ] {
            assert_eq!(secret(text, variable).unwrap(), (id.to_owned(), given), "{text}");
        }
        for (text, expected) in [
            ("a", "invalid field 'a' must be a key=value pair"),
            ("id=a,type=vault", "unsupported secret type \"vault\""),
            ("id=a,mode=0400", "unexpected key 'mode' in 'mode=0400'"),
            ("src=/x", "secret missing ID"),
        ] {
            assert_eq!(secret(text, variable).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_makes_an_empty_secret() {
        let texts = ["id=a,env=NONE".to_owned(), "id=b,env=TOKEN".to_owned()];
        let (secrets, unset) = secrets(texts.iter(), variable).unwrap();
        assert!(matches!(&secrets["a"], SecretSource::Value(value) if value.is_empty()));
        assert!(matches!(&secrets["b"], SecretSource::Value(value) if value == b"t0ken"));
        assert_eq!(unset, ["NONE"]);
    }

    #[test]
    fn a_secrets_file_must_be_there() {
        let texts = ["id=a,src=/nonexistent/x".to_owned()];
        assert_eq!(
            secrets(texts.iter(), variable).unwrap_err(),
            "failed to stat /nonexistent/x: stat /nonexistent/x: no such file or directory"
        );
        assert_eq!(
            secrets(["id=a,src=/etc".to_owned()].iter(), variable).unwrap_err(),
            "secret a: /etc is a directory"
        );
    }

    #[test]
    fn agents_are_sockets() {
        let socket = std::env::temp_dir().join(format!("tare-agent-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let path = socket.to_str().unwrap().to_owned();
        let given = |name: &str| (name == "SSH_AUTH_SOCK").then(|| path.clone());
        let read = |texts: &[&str]| agents(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().iter(), given);
        assert_eq!(read(&["default"]).unwrap()["default"], socket);
        assert_eq!(read(&[&format!("git={path}")]).unwrap()["git"], socket);
        assert_eq!(read(&["default", "default"]).unwrap_err(), "duplicate agent ID \"default\"");
        assert!(read(&["x=/etc/passwd"]).unwrap_err().contains("keys are not supported yet"));
        assert!(read(&["x=a,b"]).unwrap_err().contains("keys are not supported yet"));
        assert_eq!(
            read(&["x=/nonexistent"]).unwrap_err(),
            "failed to open /nonexistent: open /nonexistent: no such file or directory"
        );
        let without = agents(["default".to_owned()].iter(), |_| None).unwrap_err();
        assert!(without.ends_with("make sure SSH_AUTH_SOCK is set"), "{without}");
        drop(listener);
        std::fs::remove_file(&socket).unwrap();
    }
}
