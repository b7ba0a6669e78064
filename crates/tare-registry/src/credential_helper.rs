//! Programs that keep credentials: `docker-credential-<name>` (github.com/docker/docker-credential-helpers).
//!
//! One word says what to do; the rest goes through the standard streams. What a program says is shown in errors only
//! where it cannot be a secret: when it failed.

use crate::credentials::Credential;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a program may take: it may have to ask a person for a passphrase.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Longest part of an answer that an error repeats, in characters.
const SHOWN_LIMIT: usize = 200;
/// What programs say when they have no such credentials.
const NOT_FOUND: &str = "credentials not found";
/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

/// A program, by its name in the user's configuration.
#[derive(Clone, Debug)]
pub(crate) struct CredentialHelper {
    name: String,
    /// Where the program is; `None`: anywhere in `$PATH`.
    folder: Option<PathBuf>,
    timeout: Duration,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What a program can be asked.
enum Outcome {
    Answer(Vec<u8>),
    /// It has nothing for this server.
    NotFound,
    /// There is no such program.
    Missing,
}

impl CredentialHelper {
    /// A name that is a path would run anything.
    pub(crate) fn new(name: &str, folder: Option<PathBuf>) -> Result<Self, Error> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let helper = Self { name: name.to_owned(), folder, timeout: TIMEOUT };
        if name.is_empty() || !name.bytes().all(good) {
            let helper = name.chars().take(SHOWN_LIMIT).filter(|c| !c.is_control()).collect();
            let problem = "a name has letters, digits, '-', '_' and '.' only".to_owned();
            return Err(Error::CredentialHelper { helper, action: "get", problem });
        }
        Ok(helper)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The credentials for a server; `Ok(None)` if the program has none. `Err(None)`: there is no such program.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credential>, Option<Error>> {
        let answer = match self.run("get", server.as_bytes()).map_err(Some)? {
            Outcome::Answer(answer) => answer,
            Outcome::NotFound => return Ok(None),
            Outcome::Missing => return Err(None),
        };
        let entry: Entry = serde_json::from_slice(&answer).map_err(|_| Some(self.no_json("get")))?;
        if entry.secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(match entry.username.as_str() {
            TOKEN_USER => Credential::IdentityToken(entry.secret),
            _ => Credential::Password { username: entry.username, password: entry.secret },
        }))
    }

    /// Keeps credentials in place of what was kept for this server.
    pub(crate) fn store(&self, server: &str, credential: &Credential) -> Result<(), Error> {
        let (username, secret) = match credential {
            Credential::Password { username, password } => (username.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
            Credential::RegistryToken(_) => return Err(self.error("store", "a registry token cannot be kept")),
        };
        let entry = Entry { server_url: server.to_owned(), username: username.to_owned(), secret: secret.clone() };
        let entry = serde_json::to_vec(&entry).expect("text is JSON");
        match self.run("store", &entry)? {
            Outcome::Answer(_) => Ok(()),
            Outcome::NotFound => Err(self.error("store", NOT_FOUND)),
            Outcome::Missing => Err(self.missing("store")),
        }
    }

    /// Forgets credentials; whether there were any.
    pub(crate) fn erase(&self, server: &str) -> Result<bool, Error> {
        match self.run("erase", server.as_bytes())? {
            Outcome::Answer(_) => Ok(true),
            Outcome::NotFound => Ok(false),
            Outcome::Missing => Err(self.missing("erase")),
        }
    }

    /// The servers of which it has credentials, with the user names.
    pub(crate) fn list(&self) -> Result<BTreeMap<String, String>, Error> {
        match self.run("list", b"")? {
            Outcome::Answer(answer) => serde_json::from_slice(&answer).map_err(|_| self.no_json("list")),
            Outcome::NotFound => Ok(BTreeMap::new()),
            Outcome::Missing => Err(self.missing("list")),
        }
    }

    pub(crate) fn missing(&self, action: &'static str) -> Error {
        self.error(action, "executable file not found in $PATH")
    }

    fn no_json(&self, action: &'static str) -> Error {
        self.error(action, "its answer is not the JSON of the protocol")
    }

    fn error(&self, action: &'static str, problem: impl ToString) -> Error {
        Error::CredentialHelper { helper: self.name.clone(), action, problem: problem.to_string() }
    }

    fn run(&self, action: &'static str, input: &[u8]) -> Result<Outcome, Error> {
        // Its standard error is ours: it may want to talk to the person.
        let program = PathBuf::from(format!("docker-credential-{}", self.name));
        let program = self.folder.as_ref().map_or(program.clone(), |folder| folder.join(program));
        let started = Command::new(program).arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Missing),
            Err(error) => return Err(self.error(action, error)),
        };
        let (mut stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let (sender, receiver) = channel();
        let input = input.to_vec();
        let exchange = thread::spawn(move || {
            // A program that does not read what it is told says so by its answer.
            drop(stdin.take().map(|mut stdin| stdin.write_all(&input)));
            let mut answer = Vec::new();
            let read = stdout.map_or(Ok(0), |stdout| stdout.take(ANSWER_LIMIT + 1).read_to_end(&mut answer));
            // Nobody listens any more once it took too long.
            drop(sender.send(read.map(|_| answer)));
        });
        let answer = receiver.recv_timeout(self.timeout);
        if !matches!(&answer, Ok(Ok(answer)) if answer.len() as u64 <= ANSWER_LIMIT) {
            // Already gone is as good as killed.
            drop(process.kill());
        }
        let status = process.wait().map_err(|error| self.error(action, error))?;
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| self.error(action, error))?,
            // Its children may still hold the pipe: the thread is left to them.
            Err(RecvTimeoutError::Timeout) => {
                return Err(self.error(action, format!("no answer within {} s", self.timeout.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.error(action, "its answer was lost")),
        };
        drop(exchange.join());
        if answer.len() as u64 > ANSWER_LIMIT {
            return Err(self.error(action, format!("its answer is larger than {ANSWER_LIMIT} bytes")));
        }
        if status.success() {
            return Ok(Outcome::Answer(answer));
        }
        let said = String::from_utf8_lossy(&answer);
        if said.contains(NOT_FOUND) {
            return Ok(Outcome::NotFound);
        }
        let said: String =
            said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_LIMIT).collect();
        Err(self.error(action, if said.is_empty() { status.to_string() } else { said }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in ["", "../evil", "a/b", "a b", "a\n", "ü"] {
            assert!(CredentialHelper::new(name, None).is_err(), "{name:?}");
        }
        for name in ["pass", "ecr-login", "gcloud.cmd", "osx_keychain"] {
            assert!(CredentialHelper::new(name, None).is_ok(), "{name}");
        }
    }

    #[test]
    fn programs_that_misbehave_are_told_by_name() {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/credential-helpers"));
        for (server, problem) in [
            ("says", "no luck today"),
            ("silent", "exit status: 3"),
            ("text", "its answer is not the JSON of the protocol"),
            ("large", "its answer is larger than 1048576 bytes"),
            ("slow", "no answer within 0 s"),
        ] {
            let mut helper = CredentialHelper::new("bad", Some(folder.clone())).unwrap();
            if server == "slow" {
                helper.timeout = Duration::from_millis(50);
            }
            let error = helper.get(server).unwrap_err().unwrap();
            assert_eq!(error.to_string(), format!("credential helper docker-credential-bad get: {problem}"));
        }
        let bad = CredentialHelper::new("bad", Some(folder.clone())).unwrap();
        assert!(matches!(bad.get("unknown"), Ok(None)), "nothing found is no failure");
        assert!(!bad.erase("unknown").unwrap());
        let missing = CredentialHelper::new("missing", Some(folder)).unwrap();
        assert!(matches!(missing.get("r.io"), Err(None)));
        assert!(missing.list().unwrap_err().to_string().contains("executable file not found"));
    }
}
