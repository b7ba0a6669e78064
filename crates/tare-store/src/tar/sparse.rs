//! Where the contents of a sparse file lie: GNU tar's old headers and its PAX records, versions 0.0, 0.1 and 1.0
//! (GNU tar manual, "Storing Sparse Files").

use super::BLOCK;
use super::header;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Runs of one file. GNU tar makes one for each run of data; a disk of 64 GiB in runs of 64 KiB has as many.
pub(super) const SEGMENTS: usize = 1 << 20;
/// Larger than any layer: what a header may claim without holding a byte of it.
const SIZE: u64 = 1 << 40;

/// Where GNU's own header has its first runs, whether more follow, and the file's size.
const FIRST: Range<usize> = 386..482;
const FIRST_CONTINUED: usize = 482;
const REAL_SIZE: Range<usize> = 483..495;
/// The same in each block that follows it.
const MORE: Range<usize> = 0..504;
const MORE_CONTINUED: usize = 504;
/// One run: twelve bytes for where, twelve for how many.
const PAIR: usize = 24;

/// A run of bytes of a sparse file that the archive holds. All between runs is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has, never 0.
    pub length: u64,
}

/// Runs in the making, checked one by one.
#[derive(Default)]
pub(super) struct Map {
    segments: Vec<Segment>,
    end: u64,
    stored: u64,
}

impl Map {
    /// Appends a run behind all earlier ones.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Option<()> {
        let end = offset.checked_add(length)?;
        if offset < self.end || end > SIZE || self.segments.len() == SEGMENTS {
            return None;
        }
        self.end = end;
        self.stored += length;
        if length > 0 {
            self.segments.push(Segment { offset, length });
        }
        Some(())
    }

    /// The runs of a file of `size` bytes of which the archive holds `stored`.
    pub(super) fn finish(self, size: u64, stored: u64) -> Option<Arc<[Segment]>> {
        (self.end <= size && size <= SIZE && self.stored == stored).then(|| self.segments.into())
    }

    /// The runs in GNU's own header; whether a block with more follows.
    pub(super) fn push_first(&mut self, block: &[u8; BLOCK]) -> Option<bool> {
        self.push_pairs(&block[FIRST])?;
        Some(block[FIRST_CONTINUED] != 0)
    }

    /// The runs in a block behind that header; whether another follows.
    pub(super) fn push_more(&mut self, block: &[u8; BLOCK]) -> Option<bool> {
        self.push_pairs(&block[MORE])?;
        Some(block[MORE_CONTINUED] != 0)
    }

    fn push_pairs(&mut self, pairs: &[u8]) -> Option<()> {
        for pair in pairs.chunks_exact(PAIR).take_while(|pair| pair[0] != 0) {
            let number = |field| u64::try_from(header::number(field)?).ok();
            self.push(number(&pair[..PAIR / 2])?, number(&pair[PAIR / 2..])?)?;
        }
        Some(())
    }

    /// `"offset,length,offset,length…"`.
    fn from_text(text: &[u8]) -> Option<Self> {
        let mut map = Self::default();
        let mut numbers = text.split(|byte| *byte == b',');
        while let Some(offset) = numbers.next().filter(|number| !number.is_empty()) {
            map.push(decimal(offset)?, decimal(numbers.next()?)?)?;
        }
        Some(map)
    }
}

/// The size that GNU's own header gives the file.
pub(super) fn real_size(block: &[u8; BLOCK]) -> Option<u64> {
    u64::try_from(header::number(&block[REAL_SIZE])?).ok()
}

/// What PAX records say of a sparse file.
pub(super) struct Records {
    /// Its name; the header's is made up.
    pub(super) name: Option<Vec<u8>>,
    /// Its size with holes.
    pub(super) size: u64,
    /// Its runs, or `None` when they stand in front of the contents.
    pub(super) map: Option<Map>,
}

impl Records {
    /// Takes the records of a sparse file out of all of an entry's. `Ok(None)` when there are none; the error is the
    /// record that is not understood.
    pub(super) fn take(pax: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Option<Self>, String> {
        let mut records = BTreeMap::new();
        while let Some(key) = pax.keys().find(|key| key.starts_with(PREFIX)).cloned() {
            records.insert(key[PREFIX.len()..].to_vec(), pax.remove(&key).unwrap_or_default());
        }
        if records.is_empty() {
            return Ok(None);
        }
        let mut text = |key: &str| records.remove(key.as_bytes());
        let version = (text("major"), text("minor"));
        let (name, map) = (text("name"), text("map"));
        let size = text("realsize").or_else(|| text("size"));
        let wrong = |what: &str| format!("sparse file ({what})");
        let map = match (version.0.as_deref(), version.1.as_deref(), map) {
            (Some(b"1"), Some(b"0"), _) => None,
            (None, None, map) | (Some(b"0"), Some(b"0" | b"1"), map) => {
                Some(Map::from_text(&map.unwrap_or_default()).ok_or_else(|| wrong("malformed map"))?)
            }
            (major, minor, _) => {
                let text = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or_default()).into_owned();
                return Err(wrong(&format!("version {}.{}", text(major), text(minor))));
            }
        };
        let size = size.as_deref().and_then(decimal).ok_or_else(|| wrong("without its size"))?;
        Ok(Some(Self { name, size, map }))
    }
}

/// How the keys begin.
pub(super) const PREFIX: &[u8] = b"GNU.sparse.";

/// Version 0.0 has a record for each number: they become the text of version 0.1. `None` when an offset follows an
/// offset, or a length a length.
pub(super) fn gather(records: &mut BTreeMap<Vec<u8>, Vec<u8>>, is_offset: bool, value: &[u8]) -> Option<()> {
    let map = records.entry([PREFIX, b"map"].concat()).or_default();
    // A comma stands behind each offset at once, so that the end says what must follow.
    if map.ends_with(b",") == is_offset || decimal(value).is_none() {
        return None;
    }
    if is_offset && !map.is_empty() {
        map.push(b',');
    }
    map.extend_from_slice(value);
    if is_offset {
        map.push(b',');
    }
    Some(())
}

/// Digits only; `str::parse` would take a sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Reader, TarError};

    /// A header as GNU tar writes it, with its checksum.
    fn header(kind: u8, size: usize, fill: impl Fn(&mut [u8; BLOCK])) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"disk");
        block[header::SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[header::MAGIC].copy_from_slice(b"ustar  \0");
        block[header::TYPE] = kind;
        fill(&mut block);
        let sum = format!("{:06o}\0 ", header::checksums(&block).0);
        block[header::CHECKSUM].copy_from_slice(sum.as_bytes());
        block
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn pax(records: &[(&str, &str)], size: usize, contents: &[u8]) -> Vec<u8> {
        let mut text = String::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let length = (bare..).find(|length| bare + length.to_string().len() == *length).unwrap();
            text += &format!("{length} {key}={value}\n");
        }
        let extension = header(b'x', text.len(), |_| {});
        [&extension[..], &padded(text.as_bytes()), &header(b'0', size, |_| {}), &padded(contents)].concat()
    }

    fn old(pairs: &[(u64, u64)], real: u64, contents: &[u8]) -> Vec<u8> {
        let number = |field: &mut [u8], value: u64| field.copy_from_slice(format!("{value:011o}\0").as_bytes());
        let fill = |block: &mut [u8], pairs: &[(u64, u64)]| {
            for (place, (offset, length)) in block.chunks_exact_mut(PAIR).zip(pairs) {
                number(&mut place[..12], *offset);
                number(&mut place[12..], *length);
            }
        };
        let mut bytes = header(b'S', contents.len(), |block| {
            fill(&mut block[FIRST], pairs);
            number(&mut block[REAL_SIZE], real);
            block[FIRST_CONTINUED] = u8::from(pairs.len() > 4);
        })
        .to_vec();
        let mut rest = pairs.get(4..).unwrap_or_default();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(21));
            let mut block = [0; BLOCK];
            fill(&mut block[MORE], now);
            block[MORE_CONTINUED] = u8::from(!later.is_empty());
            bytes.extend_from_slice(&block);
            rest = later;
        }
        [bytes, padded(contents)].concat()
    }

    type Runs = Vec<(u64, u64)>;

    /// Name, contents, runs of the only member.
    fn read(archive: &[u8]) -> Result<(Vec<u8>, Vec<u8>, Runs), TarError> {
        let mut reader = Reader::new(archive);
        let entry = reader.next_entry()?.expect("one member");
        let segments = entry.sparse.iter().flat_map(|segments| segments.iter());
        let segments = segments.map(|segment| (segment.offset, segment.length)).collect();
        let mut contents = Vec::new();
        let mut buffer = [0; 700];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                count => contents.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(contents.len() as u64, entry.size);
        assert!(reader.next_entry()?.is_none());
        Ok((entry.path, contents, segments))
    }

    #[test]
    fn all_versions_say_the_same() {
        let contents = [[b'a'; BLOCK], [b'b'; BLOCK], [b'c'; BLOCK]].concat();
        let stored = &contents[..2 * BLOCK + 100];
        let mut expected = vec![0; 5220];
        expected[..512].fill(b'a');
        expected[2048..2560].fill(b'b');
        expected[4096..4196].fill(b'c');
        let runs = [(0, 512), (2048, 512), (4096, 100)];
        let lines = "4\n0\n512\n2048\n512\n4096\n100\n5220\n0\n";
        let version_1 = [padded(lines.as_bytes()), stored.to_vec()].concat();
        let version_0: Vec<(&str, &str)> = std::iter::once(("GNU.sparse.size", "5220"))
            .chain(
                [("0", "512"), ("2048", "512"), ("4096", "100"), ("5220", "0")]
                    .iter()
                    .flat_map(|(offset, length)| [("GNU.sparse.offset", *offset), ("GNU.sparse.numbytes", *length)]),
            )
            .collect();
        let map = ("GNU.sparse.map", "0,512,2048,512,4096,100,5220,0");
        let name = ("GNU.sparse.name", "folder/name");
        for (what, archive, path) in [
            ("old", old(&[(0, 512), (2048, 512), (4096, 100), (5220, 0)], 5220, stored), "disk"),
            ("0.0", pax(&version_0, stored.len(), stored), "disk"),
            ("0.1", pax(&[("GNU.sparse.size", "5220"), map, name], stored.len(), stored), "folder/name"),
            (
                "1.0",
                pax(
                    &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), name, ("GNU.sparse.realsize", "5220")],
                    version_1.len(),
                    &version_1,
                ),
                "folder/name",
            ),
        ] {
            let (name, read, segments) = read(&archive).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(name, path.as_bytes(), "{what}");
            assert!(read == expected, "{what}");
            assert_eq!(segments, runs, "{what}");
        }
        let many: Vec<(u64, u64)> = (0..100).map(|index| (index * 1024, 4)).collect();
        assert_eq!(read(&old(&many, 1 << 20, &[7; 400])).unwrap().2, many);
        assert_eq!(read(&old(&[], 3000, &[])).unwrap().1, [0; 3000]);
    }

    #[test]
    fn contradictions_are_refused() {
        let map = |map: &'static str| pax(&[("GNU.sparse.size", "4096"), ("GNU.sparse.map", map)], 512, &[1; 512]);
        assert!(read(&map("1024,512")).is_ok());
        let lines = |text: &str| {
            let contents = [padded(text.as_bytes()), vec![1; 512]].concat();
            let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "4096")];
            pax(&records, contents.len(), &contents)
        };
        assert!(read(&lines("1\n1024\n512\n")).is_ok());
        for (what, archive) in [
            ("less data", map("0,1024")),
            ("more data", map("0,100")),
            ("overlap", map("0,256,255,256")),
            ("backwards", map("1024,256,0,256")),
            ("beyond the end", map("4000,512")),
            ("overflow", map("18446744073709551615,512")),
            ("half a pair", map("0,512,100")),
            ("a sign", map("+0,512")),
            ("size missing", pax(&[("GNU.sparse.map", "0,512")], 512, &[1; 512])),
            ("two offsets", pax(&[("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "1")], 512, &[1; 512])),
            ("a future version", pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")], 512, &[1; 512])),
            ("runs without end", lines("1000000\n0\n1\n")),
            ("more runs than there can be", lines("99999999999\n0\n1\n")),
            ("no number", lines("x\n")),
            ("old, without data", old(&[(0, 1024)], 4096, &[1; 512])),
        ] {
            let outcome = read(&archive);
            assert!(outcome.is_err(), "{what}: {outcome:?}");
        }
        let vast = format!("{}", (1_u64 << 40) + 1);
        let records = [("GNU.sparse.size", vast.as_str()), ("GNU.sparse.map", "0,512")];
        assert!(Reader::new(&pax(&records, 512, &[1; 512])[..]).next_entry().is_err());
    }
}
