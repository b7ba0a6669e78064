//! The names by which a layer removes what lower layers have (image specification, `layer.md`, "Whiteouts"),
//! and what overlayfs has instead of them (kernel documentation, `filesystems/overlayfs.rst`).

/// What the last component of an entry's path means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// A file like any other.
    Plain,
    /// Removes this name of the lower layers.
    Whiteout(&'a [u8]),
    /// Removes all that lower layers have in this folder.
    Opaque,
    /// Bookkeeping of aufs, which other engines leave out as well.
    Ignored,
    /// A whiteout of a name that no file has.
    Malformed,
}

/// The attribute that makes a folder of an upper layer hide those below.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Reads a path without its empty and `.` components.
pub(super) fn meaning<'a>(components: &[&'a [u8]]) -> Meaning<'a> {
    let Some((name, folders)) = components.split_last() else { return Meaning::Plain };
    if folders.iter().any(|folder| folder.starts_with(b".wh..wh.")) {
        return Meaning::Ignored;
    }
    match name.strip_prefix(b".wh.") {
        None => Meaning::Plain,
        Some(b".wh..opq") => Meaning::Opaque,
        Some(rest) if rest.starts_with(b".wh.") => Meaning::Ignored,
        Some(b"" | b"." | b"..") => Meaning::Malformed,
        Some(name) => Meaning::Whiteout(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_meanings() {
        for (path, expected) in [
            (&[&b"etc"[..], b"passwd"][..], Meaning::Plain),
            (&[], Meaning::Plain),
            (&[b"etc", b".wh.passwd"], Meaning::Whiteout(b"passwd")),
            (&[b".wh..hidden"], Meaning::Whiteout(b".hidden")),
            (&[b".wh...."], Meaning::Whiteout(b"...")),
            (&[b"etc", b".wh..wh..opq"], Meaning::Opaque),
            (&[b".wh..wh.plnk"], Meaning::Ignored),
            (&[b".wh..wh.plnk", b"12.34"], Meaning::Ignored),
            (&[b".wh..wh.aufs"], Meaning::Ignored),
            (&[b".wh."], Meaning::Malformed),
            (&[b".wh.."], Meaning::Malformed),
            (&[b".wh..."], Meaning::Malformed),
            (&[b".whale"], Meaning::Plain),
        ] {
            assert_eq!(meaning(path), expected, "{path:?}");
        }
    }
}
