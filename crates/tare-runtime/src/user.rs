//! Users and groups by the container's own /etc/passwd and /etc/group; formats: passwd(5), group(5).
//!
//! Both files are the image's: they are reached inside the root, only regular files are read, and only so much of
//! them (CVE-2024-9676).

use crate::error::{Error, Step};
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno as Os;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

/// 8 MiB: a hundred thousand users.
const FILE_LIMIT: u64 = 8 << 20;

/// Docker's range; the kernel's last number means "no change".
const HIGHEST_ID: u64 = (1 << 31) - 1;

/// NGROUPS_MAX of linux/limits.h.
const MOST_GROUPS: usize = 65536;

/// SYSFS_MAGIC of linux/magic.h.
const SYSFS_MAGIC: rustix::fs::FsWord = 0x6265_6572;

/// What a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory; `/` for users that /etc/passwd does not know.
    pub home: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// Looks up `user[:group]`, each a name or a number, in the root directory `root`.
///
/// The rules are Docker's: a number needs no entry and has group 0 then; without a group the user's own group and
/// all groups that list it are taken.
///
/// # Errors
/// [`Error::User`] for what does not exist or is out of range, [`Error::Refused`] for files that are no regular files.
pub fn resolve(root: BorrowedFd<'_>, user: &str) -> Result<Account, Error> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = parse_id(user)?;
    let entry = find_user(root, |entry| entry.name == user || Some(entry.uid) == number)?;
    let mut account = match (&entry, number) {
        (Some(entry), _) => Account { uid: entry.uid, gid: entry.gid, groups: Vec::new(), home: entry.home.clone() },
        (None, Some(uid)) => Account { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None) => {
            return Err(Error::User {
                message: format!("unable to find user {user}: no matching entries in passwd file"),
            });
        }
    };
    match group {
        Some(group) => account.gid = find_group(root, group)?,
        None => {
            if let Some(entry) = entry {
                account.groups = groups_of(root, &entry.name)?;
            }
        }
    }
    Ok(account)
}

/// The account with these numbers, for its home directory. A /etc/passwd that is missing or odd does not matter.
pub(crate) fn with_ids(root: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<Account, Error> {
    let home = find_user(root, |entry| entry.uid == uid).ok().flatten().map_or("/".to_owned(), |entry| entry.home);
    Ok(Account { uid, gid, groups: Vec::new(), home })
}

/// `None` for names. Digits only are always a number, so that one too large does not become a name.
fn parse_id(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(number) if number <= HIGHEST_ID => Ok(Some(number as u32)),
        _ => Err(Error::User { message: format!("uids and gids must be in range 0-{HIGHEST_ID}: {text}") }),
    }
}

fn find_user(root: BorrowedFd<'_>, wanted: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, Error> {
    let mut found = None;
    each_line(root, "etc/passwd", |line| {
        found = parse_user(line).filter(|entry| wanted(entry));
        found.is_none()
    })?;
    Ok(found)
}

fn parse_user(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Some(Entry { name, uid, gid, home })
}

fn find_group(root: BorrowedFd<'_>, group: &str) -> Result<u32, Error> {
    let number = parse_id(group)?;
    let mut found = None;
    each_line(root, "etc/group", |line| {
        found =
            parse_group(line).filter(|(name, gid, _)| *name == group || Some(*gid) == number).map(|(_, gid, _)| gid);
        found.is_none()
    })?;
    found.or(number).ok_or_else(|| Error::User {
        message: format!("unable to find group {group}: no matching entries in group file"),
    })
}

fn groups_of(root: BorrowedFd<'_>, user: &str) -> Result<Vec<u32>, Error> {
    let mut groups = Vec::new();
    each_line(root, "etc/group", |line| {
        if let Some((_, gid, members)) = parse_group(line)
            && members.split(',').any(|member| member == user)
        {
            groups.push(gid);
        }
        groups.len() < MOST_GROUPS
    })?;
    Ok(groups)
}

fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// Calls `visit` for each line until it says false. A file that does not exist has no lines.
fn each_line(root: BorrowedFd<'_>, path: &str, mut visit: impl FnMut(&str) -> bool) -> Result<(), Error> {
    let failed = |error: Os| Error::step(Step::ReadUsers, format_args!("/{path}"))(error);
    // NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(Os::NOENT | Os::NOTDIR) => return Ok(()),
        result => result.map_err(failed)?,
    };
    let status = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Error::refused(Step::ReadUsers, format_args!("/{path}"), "is not a regular file"));
    }
    // Regular files too, as far as stat tells. We read with rights that the container has not, and reading some of them
    // (/proc/kmsg) takes from the host what was read.
    if matches!(rustix::fs::fstatfs(&file).map_err(failed)?.f_type, PROC_SUPER_MAGIC | SYSFS_MAGIC) {
        return Err(Error::refused(Step::ReadUsers, format_args!("/{path}"), "leads to a file of the kernel"));
    }
    if status.st_size as u64 > FILE_LIMIT {
        let reason = format!("has {} bytes, more than {FILE_LIMIT}", status.st_size);
        return Err(Error::refused(Step::ReadUsers, format_args!("/{path}"), reason));
    }
    let mut reader = BufReader::new(File::from(file).take(FILE_LIMIT));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(Error::step(Step::ReadUsers, format_args!("/{path}")))? == 0 {
            return Ok(());
        }
        if !visit(String::from_utf8_lossy(&line).trim_end()) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use tempfile::TempDir;

    fn root() -> TempDir {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# comment\nbad:x:nope:1::/\nweb:x:33:34:web:/var/www:/bin/sh\n";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:root,web\nvideo:x:44:web\n")
            .unwrap();
        root
    }

    fn look_up(root: &TempDir, user: &str) -> Result<Account, Error> {
        resolve(fs::File::open(root.path()).unwrap().as_fd(), user)
    }

    #[test]
    fn names_and_numbers_as_docker_takes_them() {
        let root = root();
        for (user, uid, gid, groups, home) in [
            ("web", 33, 34, vec![29, 44], "/var/www"),
            ("33", 33, 34, vec![29, 44], "/var/www"),
            ("web:video", 33, 44, vec![], "/var/www"),
            ("web:77", 33, 77, vec![], "/var/www"),
            ("1234", 1234, 0, vec![], "/"),
            ("1234:audio", 1234, 29, vec![], "/"),
            (":audio", 0, 29, vec![], "/root"),
        ] {
            let expected = Account { uid, gid, groups, home: home.to_owned() };
            assert_eq!(look_up(&root, user).unwrap(), expected, "{user}");
        }
    }

    #[test]
    fn what_does_not_exist_is_said_in_dockers_words() {
        let root = root();
        let message = |user: &str| look_up(&root, user).unwrap_err().to_string();
        assert_eq!(message("nobody"), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(message("web:none"), "unable to find group none: no matching entries in group file");
        // GO-2025-3528: an overflow must not become root.
        for number in ["4294967296", "2147483648", "99999999999999999999999", "0:4294967296"] {
            assert!(message(number).starts_with("uids and gids must be in range 0-2147483647"), "{number}");
        }
        let empty = TempDir::new().unwrap();
        assert!(look_up(&empty, "web").is_err());
        assert_eq!(look_up(&empty, "7").unwrap().uid, 7);
    }

    /// CVE-2024-9676.
    #[test]
    fn only_regular_files_inside_the_root_are_read() {
        let root = root();
        let passwd = root.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, Mode::from_raw_mode(0o600)).unwrap();
        assert!(look_up(&root, "web").unwrap_err().to_string().contains("not a regular file"));
        fs::remove_file(&passwd).unwrap();
        fs::File::create(&passwd).unwrap().set_len(FILE_LIMIT + 1).unwrap();
        assert!(look_up(&root, "web").unwrap_err().to_string().contains("more than"));
        fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/etc/shadow-of-the-host", &passwd).unwrap();
        assert!(look_up(&root, "web").is_err());
    }
}
