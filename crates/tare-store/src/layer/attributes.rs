//! Which extended attributes of an archive a layer gets, decided once for all backends: what setxattr(2) would take on
//! ext4, so that a layer that one backend refuses is refused by all.

use super::tree::EntryError;
use crate::tar::{Entry, Kind};

/// `XATTR_NAME_MAX` of the kernel.
const NAME: usize = 255;
/// One less than `XATTR_SIZE_MAX`: what fits the field of an EROFS image.
const VALUE: usize = 65_535;
/// All names and values of one entry; listxattr(2) gives out 64 KiB of names at most, ext4 keeps 4 KiB.
const TOTAL: usize = 128 * 1024;

const CAPABILITY: &[u8] = b"security.capability";
/// The access rights of an ACL.
pub(crate) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// What files below a directory start with.
pub(crate) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// Drops the attributes that mean nothing here, refuses those that no kernel would take, and gives the entry the mode
/// that its ACL says.
pub(super) fn settle(entry: &mut Entry) -> Result<(), EntryError> {
    if entry.attributes.is_empty() {
        return Ok(());
    }
    let kind = entry.kind;
    entry.attributes.retain(|name, _| is_kept(name, kind));
    let mut total = 0;
    for (name, value) in &entry.attributes {
        let refused =
            |reason| EntryError::Attribute { name: String::from_utf8_lossy(name).chars().take(NAME).collect(), reason };
        total += name.len() + value.len();
        let bare = name.split(|byte| *byte == b'.').nth(1).unwrap_or_default();
        if name.len() > NAME || bare.is_empty() || name.contains(&0) {
            return Err(refused("its name is malformed"));
        }
        if value.len() > VALUE || total > TOTAL {
            return Err(refused("it is too large"));
        }
        // xattr(7): nobody may set these on links, devices and FIFOs.
        if name.starts_with(b"user.") && !matches!(kind, Kind::File | Kind::Directory) {
            return Err(refused("only files and directories have attributes of users"));
        }
        if name == CAPABILITY && !is_capability(value) {
            return Err(refused("it is no capability set of version 2 or 3"));
        }
        if name == ACL_DEFAULT && (kind != Kind::Directory || acl_mode(value).is_none()) {
            return Err(refused("it is no default ACL of a directory"));
        }
        if name == ACL_ACCESS && acl_mode(value).is_none() {
            return Err(refused("it is no ACL"));
        }
    }
    if let Some((mode, is_minimal)) = entry.attributes.get(ACL_ACCESS).and_then(|value| acl_mode(value)) {
        entry.mode = (entry.mode & !0o777) | mode;
        if is_minimal {
            entry.attributes.remove(ACL_ACCESS);
        }
    }
    Ok(())
}

/// Overlayfs reads its own attributes from every layer, and a hostile one could redirect it; labels and lists of the
/// machine that built the image mean nothing here; other name spaces no file system knows.
fn is_kept(name: &[u8], kind: Kind) -> bool {
    if name == ACL_ACCESS || name == ACL_DEFAULT {
        return kind != Kind::Symlink;
    }
    let known = [&b"user."[..], b"trusted.", b"security."].iter().any(|space| name.starts_with(space));
    known
        && !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
}

/// `struct vfs_ns_cap_data` of `linux/capability.h`, as far as the kernel looks at it.
fn is_capability(value: &[u8]) -> bool {
    let Some((magic, rest)) = value.split_first_chunk::<4>() else { return false };
    match u32::from_le_bytes(*magic) & 0xff00_0000 {
        0x0200_0000 => rest.len() == 16,
        0x0300_0000 => rest.len() == 20,
        _ => false,
    }
}

/// The permission bits that an ACL in its attribute's form stands for, and whether they say all; `None` for one that
/// the kernel refuses (`fs/posix_acl.c`, `posix_acl_valid`).
fn acl_mode(value: &[u8]) -> Option<(u32, bool)> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let (mut mode, mut mask, mut named, mut last) = (0, None, false, 0);
    let mut seen = 0;
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let rights = u32::from(u16::from_le_bytes([entry[2], entry[3]]));
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        // Owner, users, group, groups, mask, others: in this order, users and groups any number of times.
        let is_named = matches!(tag, 0x02 | 0x08);
        if rights > 7 || tag < last || (tag == last && !is_named) || (is_named && id == u32::MAX) {
            return None;
        }
        match tag {
            0x01 => mode |= rights << 6,
            0x04 => mode |= rights << 3,
            0x20 => mode |= rights,
            0x10 => mask = Some(rights),
            0x02 | 0x08 => named = true,
            _ => return None,
        }
        last = tag;
        seen |= tag;
    }
    if seen & 0x25 != 0x25 || (named && mask.is_none()) {
        return None;
    }
    if let Some(mask) = mask {
        mode = (mode & 0o707) | (mask << 3);
    }
    Some((mode, mask.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            value.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn access_lists_become_modes() {
        const NONE: u32 = u32::MAX;
        let minimal = [(1, 7, NONE), (4, 5, NONE), (0x20, 1, NONE)];
        assert_eq!(acl_mode(&acl(&minimal)), Some((0o751, true)));
        let named = [(1, 6, NONE), (2, 7, 33), (2, 4, 34), (4, 4, NONE), (8, 1, 9), (0x10, 5, NONE), (0x20, 0, NONE)];
        assert_eq!(acl_mode(&acl(&named)), Some((0o650, false)));
        for (what, wrong) in [
            ("empty", acl(&[])),
            ("no mask", acl(&[(1, 6, NONE), (2, 7, 33), (4, 4, NONE), (0x20, 0, NONE)])),
            ("order", acl(&[(4, 4, NONE), (1, 6, NONE), (0x20, 0, NONE)])),
            ("twice", acl(&[(1, 6, NONE), (1, 6, NONE), (4, 4, NONE), (0x20, 0, NONE)])),
            ("rights", acl(&[(1, 8, NONE), (4, 4, NONE), (0x20, 0, NONE)])),
            ("tag", acl(&[(1, 6, NONE), (3, 0, 1), (4, 4, NONE), (0x20, 0, NONE)])),
            ("cut", acl(&minimal)[..20].to_vec()),
            ("version", b"\x01\0\0\0".to_vec()),
        ] {
            assert_eq!(acl_mode(&wrong), None, "{what}");
        }
    }
}
