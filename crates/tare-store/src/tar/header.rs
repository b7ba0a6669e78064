//! One header block: POSIX.1-2024 `pax`, "ustar Interchange Format", and GNU tar's `tar.h`.

use super::BLOCK;
use std::ops::Range;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;

/// What a tar archive is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with contents.
    File,
    /// Another name of a file earlier in the archive.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device node.
    CharacterDevice,
    /// A block device node.
    BlockDevice,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

/// What is wrong with an archive, with the offset of the header in the uncompressed stream where known.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream could not be read; includes damaged compression.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The stream ended inside of a header or a file.
    #[error("archive ends at byte {offset} in the middle of {what}")]
    Truncated {
        /// Where it ended.
        offset: u64,
        /// What was being read.
        what: &'static str,
    },
    /// A header's checksum is wrong: this is no tar archive, or it is damaged.
    #[error("header at byte {offset} has a wrong checksum")]
    Checksum {
        /// Where the header starts.
        offset: u64,
    },
    /// A field of a header does not parse.
    #[error("header at byte {offset} has a malformed {field}")]
    Field {
        /// Where the header starts.
        offset: u64,
        /// The field's name.
        field: &'static str,
    },
    /// A header extension is longer than any path or attribute can be.
    #[error("header extension at byte {offset} has {size} bytes, at most {limit} are taken")]
    Extension {
        /// Where the header starts.
        offset: u64,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// An entry of a type that layers do not have: volume labels, multi-volume archives, sparse files of unknown kinds.
    #[error("header at byte {offset} has the type {name}, which layers do not have")]
    Type {
        /// Where the header starts.
        offset: u64,
        /// The type in words.
        name: String,
    },
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between spaces and NULs, or GNU's base-256 with the first bit set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        // Two's complement over the whole field without its first bit.
        let negative = field[0] & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            let byte = if index == 0 && !negative { byte & 0x7f } else { *byte };
            value = value.checked_mul(256)? | i64::from(byte);
        }
        return Some(value);
    }
    let digits = field.trim_ascii_start();
    let digits = text(digits).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// The sum of all bytes with the checksum field as spaces; old tars summed signed bytes.
pub(super) fn checksums(block: &[u8; BLOCK]) -> (i64, i64) {
    let mut sums = (0, 0);
    for (index, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
        sums.0 += i64::from(byte);
        sums.1 += i64::from(byte.cast_signed());
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"-0000644", None),
            (b"0000649\0", None),
            (b"0x1F\0\0\0\0", None),
        ] {
            assert_eq!(number(field), value, "{field:x?}");
        }
    }
}
