//! `--chown` and the owner of WORKDIR: `user[:group]`, by number or by the names that the image knows.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tare_spec::ErrorKind;
use tare_sys::directory::Directory;

/// Bytes of an `/etc/passwd` or `/etc/group` that are read; BuildKit reads as many.
const SIZE: u64 = 10 << 20;

/// Why an owner is not known.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// A number that is no id.
    #[error("{text:?} is no user or group id: expected 0 to 4294967294")]
    Range {
        /// As it is written.
        text: String,
    },
    /// A name that the image does not know.
    #[error("no {what} {name:?} in {file} of the image")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// An entry whose ids are none.
    #[error("{what} {name:?} in {file} of the image has no usable id: {line:?}")]
    Entry {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it was found.
        file: &'static str,
        /// The line, cut to 200 characters.
        line: String,
    },
    /// A file of the image that cannot be read.
    #[error("cannot read {file} of the image")]
    Read {
        /// The file.
        file: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of the image that is larger than any real one.
    #[error("{file} of the image has more than {SIZE} bytes")]
    Size {
        /// The file.
        file: &'static str,
    },
    /// Nothing, or more than a user and a group.
    #[error("{text:?} is no owner: expected user[:group]")]
    Form {
        /// As it is written.
        text: String,
    },
}

impl OwnerError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Internal,
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::Range { .. } | Self::Entry { .. } | Self::Size { .. } | Self::Form { .. } => {
                ErrorKind::InvalidParameter
            }
        }
    }
}

/// A file that maps names to ids, and what its lines are about.
#[derive(Clone, Copy)]
struct Table {
    what: &'static str,
    file: &'static str,
}

const USERS: Table = Table { what: "user", file: "/etc/passwd" };
const GROUPS: Table = Table { what: "group", file: "/etc/group" };

/// User and group ids of `user[:group]`. Without a group it is the user's own, or for a number the same number; without a user
/// before the colon it is root. Only regular files of the image are read, and nothing blocks.
///
/// # Errors
/// [`OwnerError`]. A name that the image does not know is one, while BuildKit takes root.
pub fn resolve_owner(text: &str, root: Option<&Directory>) -> Result<(u32, u32), OwnerError> {
    let (user, group) = text.split_once(':').map_or((text, ""), |(user, group)| (user, group));
    if text.is_empty() || text == ":" || group.contains(':') {
        return Err(OwnerError::Form { text: text.chars().take(200).collect() });
    }
    let (uid, own) = match number(user)? {
        Some(id) => (id, id),
        // BuildKit takes these two without looking.
        None if matches!(user, "" | "root") => (0, 0),
        None => {
            let line = USERS.find(user, root)?;
            (USERS.id(user, &line, 2)?, USERS.id(user, &line, 3)?)
        }
    };
    let gid = match number(group)? {
        Some(id) => id,
        None if group.is_empty() => own,
        None if group == "root" => 0,
        None => GROUPS.id(group, &GROUPS.find(group, root)?, 2)?,
    };
    Ok((uid, gid))
}

/// `None` for what is no number at all.
fn number(text: &str) -> Result<Option<u32>, OwnerError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // chown(2) takes the largest number for "leave it".
    match text.parse() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(OwnerError::Range { text: text.chars().take(200).collect() }),
    }
}

impl Table {
    /// The line of a name, as its fields.
    fn find(self, name: &str, root: Option<&Directory>) -> Result<Vec<String>, OwnerError> {
        let Self { what, file } = self;
        let unknown = || OwnerError::Unknown { what, name: name.chars().take(200).collect(), file };
        let root = root.ok_or_else(unknown)?;
        let opened: File = match root.resolve_file(Path::new(file)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(unknown());
            }
            result => result.map_err(|source| OwnerError::Read { file, source })?,
        };
        let mut bytes = Vec::new();
        opened.take(SIZE + 1).read_to_end(&mut bytes).map_err(|source| OwnerError::Read { file, source })?;
        if bytes.len() as u64 > SIZE {
            return Err(OwnerError::Size { file });
        }
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut named = lines.filter(|line| line.split(|byte| *byte == b':').next() == Some(name.as_bytes()));
        let line = named.next().ok_or_else(unknown)?;
        Ok(line.split(|byte| *byte == b':').map(|field| String::from_utf8_lossy(field).into_owned()).collect())
    }

    fn id(self, name: &str, fields: &[String], index: usize) -> Result<u32, OwnerError> {
        let id = fields.get(index).and_then(|field| field.parse().ok()).filter(|id| *id != u32::MAX);
        id.ok_or_else(|| OwnerError::Entry {
            what: self.what,
            name: name.chars().take(200).collect(),
            file: self.file,
            line: fields.join(":").chars().take(200).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn image() -> (tempfile::TempDir, Directory) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        let users = "# comment\n\nroot:x:0:0:root:/root:/bin/sh\n  web:x:33:44::/:\nbroken:x:-1:0\nhuge:x:4294967296:1\nlast:x:4294967295:1\nshort:x:7\nä:x:8:9";
        std::fs::write(folder.path().join("etc/passwd"), users).unwrap();
        std::fs::write(folder.path().join("etc/group"), "staff:x:50:web,root\nbad:x:y:\n").unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        (folder, directory)
    }

    #[test]
    fn users_and_groups_are_numbers_or_names() {
        let (_folder, root) = image();
        for (text, expected) in [
            ("0", (0, 0)),
            ("1000", (1000, 1000)),
            ("1000:50", (1000, 50)),
            ("4294967294:0", (u32::MAX - 1, 0)),
            ("web", (33, 44)),
            ("web:", (33, 44)),
            ("web:staff", (33, 50)),
            ("5:staff", (5, 50)),
            ("web:0", (33, 0)),
            (":staff", (0, 50)),
            ("root:root", (0, 0)),
            ("ä", (8, 9)),
        ] {
            assert_eq!(resolve_owner(text, Some(&root)).unwrap(), expected, "{text}");
        }
        assert_eq!(resolve_owner("root:7", None).unwrap(), (0, 7));
    }

    #[test]
    fn no_mistake_means_root() {
        let (folder, root) = image();
        for text in ["4294967295", "4294967296", "0:4294967295", "-1", "99999999999999999999", "1:-1"] {
            assert!(matches!(resolve_owner(text, Some(&root)), Err(OwnerError::Range { .. })), "{text}");
        }
        for text in ["nobody", "web:nobody", "we", "webs", "comment"] {
            assert!(matches!(resolve_owner(text, Some(&root)), Err(OwnerError::Unknown { .. })), "{text}");
        }
        for text in ["broken", "huge", "last", "short", "web:bad"] {
            assert!(matches!(resolve_owner(text, Some(&root)), Err(OwnerError::Entry { .. })), "{text}");
        }
        for text in ["", ":", "a:b:c"] {
            assert!(matches!(resolve_owner(text, Some(&root)), Err(OwnerError::Form { .. })), "{text}");
        }
        assert!(matches!(resolve_owner("web", None), Err(OwnerError::Unknown { .. })));
        std::fs::remove_file(folder.path().join("etc/group")).unwrap();
        assert!(matches!(resolve_owner("1:staff", Some(&root)), Err(OwnerError::Unknown { what: "group", .. })));
    }

    #[test]
    fn only_small_regular_files_inside_are_read() {
        let (folder, root) = image();
        let passwd = folder.path().join("etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(resolve_owner("web", Some(&root)), Err(OwnerError::Read { .. })));
        std::fs::remove_file(&passwd).unwrap();
        symlink("../../../../../../etc/passwd", &passwd).unwrap();
        assert!(matches!(
            resolve_owner("root2", Some(&root)),
            Err(OwnerError::Read { .. } | OwnerError::Unknown { .. })
        ));
        std::fs::remove_file(&passwd).unwrap();
        File::create(&passwd).unwrap().set_len(SIZE + 1).unwrap();
        assert!(matches!(resolve_owner("web", Some(&root)), Err(OwnerError::Size { .. })));
    }
}
