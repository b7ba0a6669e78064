//! What a word that stands for a git repository means, in the forms that `docker build` and `ADD` know:
//!
//! ```text
//! https://host/path.git   http://…   ssh://user@host/path   git://host/path   user@host:path   github.com/owner/name
//!     #reference:folder   or   ?ref=…&branch=…&tag=…&subdir=…&commit=…&checksum=…&keep-git-dir=…
//! ```
//!
//! Nothing of it can be taken for an option by git or by what git starts (CVE-2017-1000117, CVE-2018-17456).

use super::GitSource;
use tare_spec::ErrorKind;

/// The most bytes of any part: far above honest names, below what a command line holds.
const LIMIT: usize = 4096;

/// A word that stands for a git repository and makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGitSource {
    /// The address of the repository.
    #[error("invalid git repository {remote:?}: expected an http, https, ssh or git URL, or user@host:path")]
    Remote {
        /// The address, without user information.
        remote: String,
    },
    /// The branch, tag or commit.
    #[error("invalid git reference {reference:?}: expected a branch, a tag or a commit (git-check-ref-format(1))")]
    Reference {
        /// What was given.
        reference: String,
    },
    /// The folder.
    #[error("invalid folder {folder:?} of a git repository")]
    Folder {
        /// What was given.
        folder: String,
    },
    /// The commit that it must be.
    #[error("invalid git commit {checksum:?}: expected 7 to 64 hexadecimal digits")]
    Checksum {
        /// What was given.
        checksum: String,
    },
    /// A question that nobody knows.
    #[error("unexpected query {name:?} of a git URL")]
    Query {
        /// Its name.
        name: String,
    },
    /// A question without an answer, or with one that means nothing.
    #[error("invalid value {value:?} of {name} of a git URL")]
    Value {
        /// The question.
        name: String,
        /// The answer.
        value: String,
    },
    /// Two words for one thing.
    #[error("{name} of a git URL is given twice: {first:?} and {second:?}")]
    Conflict {
        /// What it is.
        name: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Something that is known and not supported.
    #[error("{what} of a git URL is not supported")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
}

impl InvalidGitSource {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::NotImplemented,
            Self::Remote { .. }
            | Self::Reference { .. }
            | Self::Folder { .. }
            | Self::Checksum { .. }
            | Self::Query { .. }
            | Self::Value { .. }
            | Self::Conflict { .. } => ErrorKind::InvalidParameter,
        }
    }
}

impl GitSource {
    /// What a word means, if it stands for a git repository at all: paths and URLs of other things do not.
    ///
    /// A URL of `http` or `https` does if its path ends in `.git`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Result<Self, InvalidGitSource>> {
        let (address, fragment) = match word.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (word, None),
        };
        let full = match address.strip_prefix("github.com/") {
            Some(_) => format!("https://{address}"),
            None => address.to_owned(),
        };
        let (remote, query) = match full.split_once("://") {
            Some((scheme, rest)) => {
                let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
                let scheme = scheme.to_ascii_lowercase();
                match scheme.as_str() {
                    "ssh" | "git" => {}
                    "http" | "https" if rest.ends_with(".git") || address.starts_with("github.com/") => {}
                    _ => return None,
                }
                (format!("{scheme}://{rest}"), query)
            }
            None if is_scp(&full) => (full.clone(), None),
            None => return None,
        };
        Some(Self::of_parts(remote, fragment, query))
    }

    fn of_parts(remote: String, fragment: Option<&str>, query: Option<&str>) -> Result<Self, InvalidGitSource> {
        let mut source = Self { remote, ..Self::default() };
        if let Some(fragment) = fragment {
            let fragment = decoded(fragment, false);
            let (reference, folder) = fragment.split_once(':').unwrap_or((&fragment, ""));
            source.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
            folder.clone_into(&mut source.folder);
        }
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            source.ask(&decoded(name, true), decoded(value, true))?;
        }
        if let (None, Some(checksum)) = (&source.reference, &source.checksum) {
            // Only a whole one can be asked for; of another one it is looked whether the remote's HEAD is it.
            source.reference = Some(checksum.clone()).filter(|checksum| is_commit(checksum));
        }
        source.check()?;
        source.folder = clean(&source.folder);
        source.checksum = source.checksum.map(|checksum| checksum.to_ascii_lowercase());
        Ok(source)
    }

    /// Takes one question of a query.
    fn ask(&mut self, name: &str, value: String) -> Result<(), InvalidGitSource> {
        let wrong = |value: String| Err(InvalidGitSource::Value { name: name.to_owned(), value });
        if value.is_empty() && !matches!(name, "keep-git-dir" | "submodules") {
            return match name {
                "ref" | "tag" | "branch" | "subdir" | "commit" | "checksum" => wrong(value),
                _ => Err(InvalidGitSource::Query { name: name.to_owned() }),
            };
        }
        let below = |folder: &str| if value.starts_with(folder) { value.clone() } else { format!("{folder}{value}") };
        match name {
            "ref" => set(&mut self.reference, "the reference", value),
            "tag" => set(&mut self.reference, "the reference", below("refs/tags/")),
            "branch" => set(&mut self.reference, "the reference", below("refs/heads/")),
            "commit" | "checksum" => set(&mut self.checksum, "the commit", value),
            "subdir" => {
                let mut folder = Some(std::mem::take(&mut self.folder)).filter(|folder| !folder.is_empty());
                set(&mut folder, "the folder", value)?;
                self.folder = folder.unwrap_or_default();
                Ok(())
            }
            "keep-git-dir" => match truth(&value) {
                Some(keep) => {
                    self.keep_git_dir = keep;
                    Ok(())
                }
                None => wrong(value),
            },
            "submodules" => match truth(&value) {
                Some(true) => Ok(()),
                Some(false) => Err(InvalidGitSource::Unsupported { what: "submodules=false" }),
                None => wrong(value),
            },
            _ => Err(InvalidGitSource::Query { name: name.to_owned() }),
        }
    }

    /// Makes sure that nothing of it can be taken for anything else than what it is.
    ///
    /// # Errors
    /// [`InvalidGitSource`], which names what is wrong.
    pub fn check(&self) -> Result<(), InvalidGitSource> {
        if !is_remote(&self.remote) {
            return Err(InvalidGitSource::Remote { remote: self.shown() });
        }
        if let Some(reference) = self.reference.as_ref().filter(|reference| !is_reference(reference)) {
            return Err(InvalidGitSource::Reference { reference: cut(reference) });
        }
        if self.folder.len() > LIMIT || self.folder.contains('\0') {
            return Err(InvalidGitSource::Folder { folder: cut(&self.folder) });
        }
        let is_digits =
            |text: &str| (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self.checksum.as_ref().filter(|checksum| !is_digits(checksum)) {
            Some(checksum) => Err(InvalidGitSource::Checksum { checksum: cut(checksum) }),
            None => Ok(()),
        }
    }

    /// The address for messages: without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        cut(&tare_spec::url::without_users(&self.remote))
    }

    /// Whether the reference is a whole commit, which need not be looked up.
    #[must_use]
    pub fn names_commit(&self) -> bool {
        self.reference.as_deref().is_some_and(is_commit)
    }
}

fn set(place: &mut Option<String>, name: &'static str, value: String) -> Result<(), InvalidGitSource> {
    match place {
        Some(first) if *first != value => {
            Err(InvalidGitSource::Conflict { name, first: cut(first), second: cut(&value) })
        }
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// The words of Go's `strconv.ParseBool`; nothing at all means yes.
fn truth(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A whole commit: the digits of SHA-1 or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `user@host:path`, where a path of this machine would have a slash before the colon.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let is_word = |word: &str, more: &[u8]| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    is_word(user, b"-_") && is_word(host, b"-.") && !path.is_empty()
}

/// Whether git takes it for an address, and nobody for anything else.
fn is_remote(remote: &str) -> bool {
    // Also the blanks beyond ASCII: no address has them, and nobody sees them where it is shown.
    if remote.len() > LIMIT || remote.contains(|sign: char| sign.is_control() || sign.is_whitespace()) {
        return false;
    }
    match remote.split_once("://") {
        Some((scheme, rest)) => {
            let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
            let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            let path = &rest[authority.len()..];
            matches!(scheme, "http" | "https" | "ssh" | "git")
                && !host.is_empty()
                && !host.starts_with('-')
                && !user.starts_with('-')
                && path.len() > 1
                && !path.starts_with("/-")
        }
        None => is_scp(remote) && !remote.split(['@', ':']).any(|part| part.starts_with('-')),
    }
}

/// The rules of git-check-ref-format(1), for names that may be short, and without what fetch takes for something else.
fn is_reference(name: &str) -> bool {
    let is_forbidden = |byte: u8| byte.is_ascii_control() || b" ~^:?*[\\".contains(&byte);
    !name.is_empty()
        && name.len() <= LIMIT
        && name != "@"
        && !name.starts_with(['-', '+', '/'])
        && !name.ends_with(['/', '.'])
        && !name.bytes().any(is_forbidden)
        && !["..", "@{", "//"].iter().any(|part| name.contains(part))
        && !name.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"))
}

/// A relative path without empty parts, `.` and `..`, which does not lead out.
fn clean(folder: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Percent-decodes; of queries also `+` as a blank.
fn decoded(text: &str, is_query: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(if is_query && bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(remote: &str, reference: &str, folder: &str) -> GitSource {
        let reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        GitSource { remote: remote.to_owned(), reference, folder: folder.to_owned(), ..GitSource::default() }
    }

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn words_for_repositories_are_understood() {
        for (word, remote, reference, folder) in [
            ("https://host/a/b.git", "https://host/a/b.git", "", ""),
            ("http://host:8080/b.git#main", "http://host:8080/b.git", "main", ""),
            ("https://host/b.git#:sub/folder", "https://host/b.git", "", "sub/folder"),
            ("https://host/b.git#v1.0:/sub//./x/../y/", "https://host/b.git", "v1.0", "sub/y"),
            ("https://host/b.git#a:../../etc", "https://host/b.git", "a", "etc"),
            ("https://host/b.git#feature%2Fx", "https://host/b.git", "feature/x", ""),
            ("https://host/b.git#", "https://host/b.git", "", ""),
            ("https://user:secret@host/b.git", "https://user:secret@host/b.git", "", ""),
            ("GIT://host/b", "git://host/b", "", ""),
            ("ssh://git@host:22/~me/b", "ssh://git@host:22/~me/b", "", ""),
            ("git@host:owner/b.git#main:x", "git@host:owner/b.git", "main", "x"),
            ("me@192.0.2.1:/srv/b", "me@192.0.2.1:/srv/b", "", ""),
            ("github.com/owner/name", "https://github.com/owner/name", "", ""),
            ("github.com/owner/name.git#main", "https://github.com/owner/name.git", "main", ""),
            ("https://host/b.git?ref=main&subdir=x", "https://host/b.git", "main", "x"),
            ("https://host/b.git?branch=main", "https://host/b.git", "refs/heads/main", ""),
            ("https://host/b.git?tag=refs/tags/v1", "https://host/b.git", "refs/tags/v1", ""),
            ("https://host/b.git?ref=a%2Fb+c", "", "", ""),
            ("ssh://git@host/b?ref=main", "ssh://git@host/b", "main", ""),
            ("https://host/b.git?ref=main#main", "https://host/b.git", "main", ""),
            ("https://host/b.git?submodules", "https://host/b.git", "", ""),
        ] {
            let parsed = GitSource::parse(word).unwrap_or_else(|| panic!("{word} is none"));
            match remote {
                "" => assert!(parsed.is_err(), "{word}"),
                _ => assert_eq!(parsed, Ok(source(remote, reference, folder)), "{word}"),
            }
        }
    }

    #[test]
    fn commits_and_git_folders_can_be_asked_for() {
        let parsed = |query: &str| GitSource::parse(&format!("https://host/b.git?{query}")).unwrap();
        let whole = parsed(&format!("commit={COMMIT}")).unwrap();
        assert_eq!((whole.reference.as_deref(), whole.checksum.as_deref()), (Some(COMMIT), Some(COMMIT)));
        assert!(whole.names_commit());
        let begun = parsed("checksum=ABCDEF12&branch=x").unwrap();
        assert_eq!((begun.reference.as_deref(), begun.checksum.as_deref()), (Some("refs/heads/x"), Some("abcdef12")));
        assert_eq!(parsed("checksum=abcdef12").unwrap().reference, None);
        for (query, keep) in [("keep-git-dir", true), ("keep-git-dir=1", true), ("keep-git-dir=False", false)] {
            assert_eq!(parsed(query).unwrap().keep_git_dir, keep, "{query}");
        }
    }

    #[test]
    fn other_words_are_none() {
        for word in [
            "",
            ".",
            "./a",
            "../a.git",
            "/a/b.git",
            "a",
            "a.git",
            "-",
            "folder/with@sign:x",
            "https://host/a.tar.gz",
            "https://host/",
            "http://host/b.git/info",
            "ftp://host/b.git",
            "file:///b.git",
            "ext::sh -c x",
            "C:\\a",
            "host:path",
            "github.com",
            "docker-image://x",
            "@host:x",
            "a@:x",
            "a@host:",
        ] {
            assert_eq!(GitSource::parse(word), None, "{word}");
        }
    }

    /// CVE-2017-1000117, CVE-2018-17456: what begins with a dash would be an option of ssh or git.
    #[test]
    fn options_are_refused_wherever_they_hide() {
        for word in [
            "ssh://-oProxyCommand=x/b",
            "ssh://-x@host/b",
            "ssh://host/-b",
            "-u@host:x",
            "git@-oProxyCommand=x:b",
            "git@host:-x",
            "https://host/b.git#--upload-pack=x",
            "https://host/b.git#-x",
            "https://host/b.git#+main",
            "https://host/b.git#a:b:\0",
            "https://host/b.git#a..b",
            "https://host/b.git#a b",
            "https://host/b.git#a^{tree}",
            "https://host/b.git#a@{1}",
            "https://host/b.git#.hidden",
            "https://host/b.git#a.lock",
            "https://host/b.git?ref=%2Dx",
            "https://host/b.git?ref=a:b",
            "https://host/b.git?commit=xyz",
            "https://host/b.git?commit=abc",
            "https://host/b.git?ref=",
            "https://host/b.git?unknown=1",
            "https://host/b.git?unknown",
            "https://host/b.git?ref=a#b",
            "https://host/b.git?branch=a&tag=a",
            "https://host/b.git?ref=a&ref=b",
            "https://host/b.git?subdir=a#:b",
            "https://host/b.git?keep-git-dir=maybe",
            "https://host/b.git?submodules=false",
            "https:///b.git",
            "git://host",
            "ssh://host\n/b",
            "git@host:a\u{a0}b",
            "ssh://host/\u{2003}",
        ] {
            let parsed = GitSource::parse(word);
            assert!(matches!(parsed, Some(Err(_)) | None), "{word:?}: {parsed:?}");
            assert!(parsed.is_some() || word.starts_with('-') || word.contains("@-"), "{word:?} is none");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = |remote| source(remote, "", "").shown();
        assert_eq!(shown("https://me:secret@host/b.git"), "https://host/b.git");
        assert_eq!(shown("https://a@b:secret@host/b.git"), "https://host/b.git");
        assert_eq!(shown("git@host:b"), "git@host:b");
    }
}
