//! Writing an archive whose bytes depend on its members only.

use super::header::{self, Kind};
use super::{BLOCK, Time};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;

/// A member to write; owners' names are left out, as reproducible layers want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative path without a trailing slash.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// The twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Time of last change.
    pub mtime: Time,
    /// Bytes of content; 0 for anything but files.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Writes members in the order they are given.
pub struct Writer<W> {
    stream: W,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(stream: W) -> Self {
        Self { stream }
    }

    /// The same archive for somebody who wants a writer of his own.
    pub fn by_ref(&mut self) -> Writer<&mut W> {
        Writer { stream: &mut self.stream }
    }

    /// Appends a member with its contents.
    ///
    /// # Errors
    /// Of reading or writing; `UnexpectedEof` when the contents are shorter than `member.size`. Longer contents
    /// are cut.
    pub fn append<C: Read + ?Sized>(&mut self, member: &Member, contents: &mut C) -> io::Result<()> {
        if self.copied(member, contents)? != member.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(member.size)
    }

    /// Appends a member with a file's contents, which the kernel copies where the archive is a file as well
    /// ([`io::copy`]). When the file is shorter than `member.size` by now, zeros take the place of what is missing.
    ///
    /// # Errors
    /// Of reading or writing.
    pub fn append_file(&mut self, member: &Member, mut file: &File) -> io::Result<()> {
        let copied = self.copied(member, &mut file)?;
        io::copy(&mut io::repeat(0).take(member.size - copied), &mut self.stream)?;
        self.pad(member.size)
    }

    /// Writes a member's headers and as much of its contents as there is.
    fn copied<C: Read + ?Sized>(&mut self, member: &Member, contents: &mut C) -> io::Result<u64> {
        let mut path = member.path.clone();
        if member.kind == Kind::Directory {
            path.push(b'/');
        }
        let mut block = [0; BLOCK];
        let mut records = Vec::new();
        if !text(&mut block, header::NAME, &path) {
            record(&mut records, b"path", &path);
        }
        if !text(&mut block, header::LINK, &member.link) {
            record(&mut records, b"linkpath", &member.link);
        }
        number(&mut block, header::MODE, u64::from(member.mode));
        for (range, key, value) in
            [(header::UID, &b"uid"[..], u64::from(member.uid)), (header::GID, b"gid", u64::from(member.gid))]
        {
            if !number(&mut block, range, value) {
                record(&mut records, key, value.to_string().as_bytes());
            }
        }
        if !number(&mut block, header::SIZE, member.size) {
            record(&mut records, b"size", member.size.to_string().as_bytes());
        }
        let Time { seconds, nanoseconds } = member.mtime;
        let fits = u64::try_from(seconds).is_ok_and(|seconds| number(&mut block, header::MTIME, seconds));
        if !fits || nanoseconds != 0 {
            record(&mut records, b"mtime", decimal(member.mtime).as_bytes());
        }
        for (name, value) in &member.attributes {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if matches!(member.kind, Kind::CharacterDevice | Kind::BlockDevice)
            && !(number(&mut block, header::MAJOR, u64::from(member.device.0))
                && number(&mut block, header::MINOR, u64::from(member.device.1)))
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "device number too large for a tar header"));
        }
        if !records.is_empty() {
            let mut extension = [0; BLOCK];
            text(&mut extension, header::NAME, b"PaxHeader");
            number(&mut extension, header::MODE, 0o644);
            number(&mut extension, header::SIZE, records.len() as u64);
            self.header(&mut extension, b'x')?;
            self.stream.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let flag = match member.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharacterDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        self.header(&mut block, flag)?;
        io::copy(&mut contents.take(member.size), &mut self.stream)
    }

    /// Writes the end of the archive and gives the stream back.
    ///
    /// # Errors
    /// Of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.stream.write_all(&[0; 2 * BLOCK])?;
        Ok(self.stream)
    }

    /// Gives the stream back without ending the archive.
    pub(crate) fn into_inner(self) -> W {
        self.stream
    }

    fn header(&mut self, block: &mut [u8; BLOCK], flag: u8) -> io::Result<()> {
        block[header::TYPE] = flag;
        block[header::MAGIC].copy_from_slice(b"ustar\x0000");
        let sum = format!("{:06o}\0 ", header::checksums(block).0);
        block[header::CHECKSUM].copy_from_slice(sum.as_bytes());
        self.stream.write_all(block)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.stream.write_all(&[0; BLOCK][..padding as usize])
    }
}

/// Fills in a text field, or leaves a cut one and says that it needs a PAX record.
fn text(block: &mut [u8; BLOCK], range: Range<usize>, value: &[u8]) -> bool {
    let field = &mut block[range];
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
    length == value.len() && value.is_ascii()
}

/// Fills in an octal field with its closing NUL, or leaves zeros and says that it needs a PAX record.
fn number(block: &mut [u8; BLOCK], range: Range<usize>, value: u64) -> bool {
    let field = &mut block[range];
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}\0");
    if octal.len() > field.len() {
        field[..digits].fill(b'0');
        return false;
    }
    field.copy_from_slice(octal.as_bytes());
    true
}

/// `"<length> <key>=<value>\n"` where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while bare + length.to_string().len() != length {
        length = bare + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn decimal(time: Time) -> String {
    let (seconds, nanoseconds) = match time.seconds {
        // -1.5 s is stored as -2 s and 0.5 s.
        ..0 if time.nanoseconds != 0 => (time.seconds + 1, 1_000_000_000 - time.nanoseconds),
        seconds => (seconds, time.nanoseconds),
    };
    let sign = if time.seconds < 0 && seconds == 0 { "-" } else { "" };
    if nanoseconds == 0 { seconds.to_string() } else { format!("{sign}{seconds}.{nanoseconds:09}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Reader;

    #[test]
    fn what_is_written_is_read() {
        let mut attributes = BTreeMap::new();
        attributes.insert(b"security.capability".to_vec(), b"\x01\0\0\x02\n=\n\0".to_vec());
        let plain = Member {
            path: b"bin/server".to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o4755,
            uid: 7,
            gid: 8,
            mtime: Time { seconds: 1_700_000_000, nanoseconds: 0 },
            size: 3,
            device: (0, 0),
            attributes: BTreeMap::new(),
        };
        let members = [
            plain.clone(),
            Member { path: "ä".repeat(90).into_bytes(), attributes, uid: 4_000_000_000, ..plain.clone() },
            Member { mtime: Time { seconds: -2, nanoseconds: 500_000_000 }, ..plain.clone() },
            Member { mtime: Time { seconds: -1, nanoseconds: 1 }, ..plain.clone() },
            Member { kind: Kind::Symlink, link: vec![b'l'; 300], size: 0, ..plain.clone() },
            Member { kind: Kind::CharacterDevice, device: (5, 300), size: 0, ..plain.clone() },
            Member { kind: Kind::Directory, size: 0, ..plain },
        ];
        let mut writer = Writer::new(Vec::new());
        for member in &members {
            writer.append(member, &mut &b"abc"[..]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = Reader::new(&bytes[..]);
        for member in &members {
            let entry = reader.next_entry().unwrap().unwrap();
            assert_eq!((&entry.path, entry.kind, &entry.link), (&member.path, member.kind, &member.link));
            assert_eq!((entry.mode, entry.uid, entry.gid), (member.mode, member.uid, member.gid));
            assert_eq!((entry.mtime, entry.size), (member.mtime, member.size));
            assert_eq!((entry.device, &entry.attributes), (member.device, &member.attributes));
            let mut contents = [0; 10];
            assert_eq!(reader.read(&mut contents).unwrap() as u64, member.size);
        }
        assert_eq!(reader.next_entry().unwrap(), None);
    }
}
