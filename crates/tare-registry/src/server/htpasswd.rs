//! Basic authentication (RFC 7617) against a password file as Apache's `htpasswd -B` writes it.
//!
//! Only bcrypt counts, as with Docker's registry. The other forms that such a file may have – MD5 (`$apr1$`), SHA-1
//! (`{SHA}`), crypt(3) and clear text – are broken or too cheap to try, and a file that has one is refused.

use super::access::Event;
use super::error::Error;
use super::refusal::{Code, Refusal, causes};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Largest password file in bytes: more than ten thousand users.
const FILE_LIMIT: u64 = 1 << 20;
/// The dearest hash that is computed for a stranger: about 15 s, each step more doubles it.
const COST_LIMIT: u32 = 17;
/// Longest password in bytes. bcrypt itself looks at the first 72.
const PASSWORD_LIMIT: usize = 1024;
/// How long a password that was right counts as right without computing its hash again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many of them.
const REMEMBERED_COUNT: usize = 1024;

/// Users and the bcrypt hashes of their passwords.
type Users = HashMap<String, String>;

/// Who may pass.
pub(super) struct Gate {
    path: PathBuf,
    state: Mutex<State>,
    /// Hashing takes a core for a tenth of a second and more: never all cores, and other requests go on.
    turns: Semaphore,
}

struct State {
    users: Arc<Users>,
    version: Version,
    /// Digests of `user:password` that were right, with the version of the file they were right with.
    right: HashMap<[u8; 32], Instant>,
}

/// What tells whether a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(u64, u64, i64, i64);

impl Gate {
    /// Reads the password file.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let (users, version) = read(path)?;
        let state = State { users: Arc::new(users), version, right: HashMap::new() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state), turns: Semaphore::new(1) })
    }

    /// The user that an `Authorization` header proves to be.
    pub(super) async fn check(
        &self,
        authorization: Option<&str>,
        log: &Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<String, Refusal> {
        let Some((user, password)) = authorization.and_then(credentials) else {
            return Err(unauthorized("authentication required"));
        };
        // The file is looked at each time, so that a removed user is out at once.
        if let Err(error) = self.refresh() {
            log(Event::Trouble(causes(&error)));
        }
        let key: [u8; 32] = Sha256::digest(format!("{user}:{password}")).into();
        let (hash, known) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.right.get(&key).is_some_and(|until| *until > Instant::now()) {
                return Ok(user);
            }
            let known = state.users.get(&user);
            // For a user that does not exist somebody's hash is computed: or it would be found out by the time it takes.
            let Some(hash) = known.or(state.users.values().next()) else {
                return Err(unauthorized("wrong user name or password"));
            };
            (hash.clone(), known.is_some())
        };
        let _turn = self.turns.acquire().await.map_err(|closed| Refusal::internal(closed.to_string()))?;
        let expected = hash.clone();
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &expected)).await;
        match verified {
            Ok(Ok(true)) if known => {}
            Ok(Err(error)) if known => return Err(Refusal::internal(format!("hash of {user}: {error}"))),
            Err(panic) => return Err(Refusal::internal(panic.to_string())),
            Ok(_) => return Err(unauthorized("wrong user name or password")),
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The file may have changed while the hash was computed.
        if state.users.get(&user) == Some(&hash) {
            let now = Instant::now();
            if state.right.len() >= REMEMBERED_COUNT {
                state.right.retain(|_, until| *until > now);
            }
            if state.right.len() < REMEMBERED_COUNT {
                state.right.insert(key, now + REMEMBERED);
            }
        }
        Ok(user)
    }

    /// Reads the file again if it was changed. One that cannot be read changes nothing.
    fn refresh(&self) -> Result<(), Error> {
        let source = |source| Error::File { action: "inspect", path: self.path.clone(), source };
        let version = Version::of(&fs::metadata(&self.path).map_err(source)?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.version != version {
            state.version = version;
            let (users, version) = read(&self.path)?;
            *state = State { users: Arc::new(users), version, right: HashMap::new() };
        }
        Ok(())
    }
}

impl Version {
    fn of(metadata: &fs::Metadata) -> Self {
        Self(metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
    }
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, message)
        .with_header("www-authenticate", "Basic realm=\"tare registry\", charset=\"UTF-8\"")
}

/// User name and password of a header.
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, token) = header.split_once(' ')?;
    let bytes = BASE64_STANDARD.decode(token.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    let sane = !user.is_empty() && password.len() <= PASSWORD_LIMIT && !password.contains('\0');
    sane.then(|| (user.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> Result<(Users, Version), Error> {
    let source = |action| move |source| Error::File { action, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(source("open"))?;
    let version = Version::of(&file.metadata().map_err(source("inspect"))?);
    let mut text = String::new();
    (&mut file).take(FILE_LIMIT).read_to_string(&mut text).map_err(source("read"))?;
    let users = parse(&text).map_err(|(line, problem)| Error::Passwords { path: path.to_owned(), line, problem })?;
    Ok((users, version))
}

/// The users of a file; or the line that is wrong, counted from one, and why.
fn parse(text: &str) -> Result<Users, (usize, String)> {
    let mut users = Users::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem: String| (at + 1, problem);
        let (user, hash) =
            line.split_once(':').ok_or_else(|| wrong("expected USER:HASH, as `htpasswd -B` writes it".into()))?;
        let form = match hash {
            _ if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) => None,
            _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => Some("MD5"),
            _ if hash.starts_with("{SHA}") => Some("SHA-1"),
            _ if hash.starts_with("$5$") || hash.starts_with("$6$") || hash.starts_with("$y$") => Some("crypt(3)"),
            _ if hash.starts_with("$2") => Some("an old form of bcrypt"),
            _ => Some("crypt(3) or clear text"),
        };
        if let Some(form) = form {
            let problem = format!(
                "the password of {user:?} is kept as {form}, which is not accepted: only bcrypt is (`htpasswd -B`)"
            );
            return Err(wrong(problem));
        }
        let cost = hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
        match cost {
            Some(4..=COST_LIMIT) if hash.len() == 60 && !user.is_empty() => {}
            Some(cost) if cost > COST_LIMIT => {
                let problem = format!("the bcrypt hash of {user:?} has cost {cost}, at most {COST_LIMIT} is accepted");
                return Err(wrong(problem));
            }
            _ => return Err(wrong(format!("the bcrypt hash of {user:?} is damaged"))),
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bcrypt_is_accepted() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = parse(&format!("# users\n\nanna:{hash}\n")).unwrap();
        assert_eq!(users.get("anna"), Some(&hash));
        assert!(bcrypt::verify("secret", &hash.replacen("$2b$", "$2y$", 1)).unwrap());
        for (line, problem) in [
            ("anna", "USER:HASH"),
            ("anna:$apr1$x$y", "MD5"),
            ("anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("anna:$6$salt$hash", "crypt(3)"),
            ("anna:secret", "clear text"),
            ("anna:$2x$10$abc", "old form"),
            ("anna:$2b$10$abc", "damaged"),
            (&format!("anna:{}", hash.replacen("$04$", "$31$", 1)), "cost 31"),
            (&format!(":{hash}"), "damaged"),
        ] {
            let (number, text) = parse(&format!("\n{line}")).unwrap_err();
            assert!(number == 2 && text.contains(problem), "{line}: {text}");
            assert!(!text.contains("secret"), "a password is repeated: {text}");
        }
    }

    #[test]
    fn headers_are_taken_apart() {
        let header = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(credentials(&header("a:b:c")), Some(("a".into(), "b:c".into())));
        assert_eq!(credentials(&header("a:").replace("Basic", "bASIC")), Some(("a".into(), String::new())));
        for wrong in ["", "Basic", "Basic !", "Bearer YTpi", &header("ab"), &header(":b"), &header("a:\0")] {
            assert_eq!(credentials(wrong), None, "{wrong}");
        }
        assert_eq!(credentials(&header(&format!("a:{}", "x".repeat(2000)))), None);
    }
}
