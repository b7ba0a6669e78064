//! Reading an archive as a stream.

use super::BLOCK;
use super::header::{self, Kind, TarError};
use super::sparse::{self, Map, Records, Segment};
use std::collections::BTreeMap;
use std::io::{BufRead, Seek};
use std::sync::Arc;

/// A path may have 4096 bytes (`PATH_MAX`); with the header's own padding twice that is generous.
const LONG_NAME: u64 = 8192;
/// All PAX records of one entry: an extended attribute has at most 64 KiB (`XATTR_SIZE_MAX`).
const PAX: u64 = 1024 * 1024;

/// A point in time: seconds since 1970 and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 ‥ 999,999,999.
    pub nanoseconds: u32,
}

/// One member of an archive, without its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as written, never empty, without NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a link, as written.
    pub link: Vec<u8>,
    /// The twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Time of last change of the contents.
    pub mtime: Time,
    /// Bytes of content, holes of sparse files included; 0 for anything but files.
    pub size: u64,
    /// Which bytes of a sparse file the archive holds.
    pub sparse: Option<Arc<[Segment]>>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes from `SCHILY.xattr.*` records.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What the headers before an entry's own say of it.
#[derive(Default)]
struct Extended {
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Reads members one after the other: [`Reader::next_entry`], then the contents through [`Reader::read`].
pub struct Reader<R> {
    stream: R,
    offset: u64,
    /// Content bytes of the current entry that are still unread.
    remaining: u64,
    /// Padding after them.
    padding: u64,
    /// Where the reader of a sparse file is.
    expansion: Option<Expansion>,
}

/// A sparse file being read with its holes.
struct Expansion {
    segments: Arc<[Segment]>,
    next: usize,
    at: u64,
    size: u64,
}

impl<R: BufRead> Reader<R> {
    /// Starts at the beginning of an uncompressed archive.
    pub fn new(stream: R) -> Self {
        Self { stream, offset: 0, remaining: 0, padding: 0, expansion: None }
    }

    /// Bytes of the archive that have been read. Right after [`Reader::next_entry`], where the contents begin: a
    /// multiple of [`BLOCK`].
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The stream behind the archive, to read what follows its end.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// Leaves the current member's contents out without reading them. Does not find out whether they are there:
    /// compare [`Reader::offset`] and the member's size with the archive's.
    ///
    /// # Errors
    /// [`TarError::Read`].
    pub fn pass_over(&mut self) -> Result<(), TarError>
    where
        R: Seek,
    {
        let offset = self.offset;
        let failed = |source| TarError::Read { offset, source };
        let distance = std::mem::take(&mut self.remaining) + std::mem::take(&mut self.padding);
        let too_far = || failed(std::io::ErrorKind::FileTooLarge.into());
        let step = i64::try_from(distance).map_err(|_| too_far())?;
        self.offset = offset.checked_add(distance).ok_or_else(too_far)?;
        self.stream.seek_relative(step).map_err(failed)
    }

    /// The next member, or `None` at the end: two blocks of zeros, or the end of the stream.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended: Option<Extended> = None;
        self.expansion = None;
        loop {
            let (remaining, padding) = (std::mem::take(&mut self.remaining), std::mem::take(&mut self.padding));
            self.skip(remaining, "a file")?;
            match self.skip(padding, "a file") {
                // umoci leaves the end of an archive out, its last padding included, and Go's reader accepts it.
                Err(TarError::Truncated { .. }) if extended.is_none() => return Ok(None),
                result => result?,
            }
            let offset = self.offset;
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return match extended {
                    None => Ok(None),
                    Some(_) => Err(TarError::Truncated { offset, what: "an extended header" }),
                };
            }
            if block == [0; BLOCK] {
                // One block of zeros is an end as good as two; a header after it is damage.
                let another = self.block(&mut block)? && block != [0; BLOCK];
                return if another { Err(TarError::Checksum { offset }) } else { Ok(None) };
            }
            let number = |range, field| header::number(&block[range]).ok_or(TarError::Field { offset, field });
            let checksum = number(header::CHECKSUM, "checksum").map_err(|_| TarError::Checksum { offset })?;
            let sums = header::checksums(&block);
            if checksum != sums.0 && checksum != sums.1 {
                return Err(TarError::Checksum { offset });
            }
            let size =
                u64::try_from(number(header::SIZE, "size")?).map_err(|_| TarError::Field { offset, field: "size" })?;
            match block[header::TYPE] {
                b'x' => {
                    let records = self.extension(offset, size, PAX)?;
                    parse_pax(&records, &mut extended.get_or_insert_default().pax)
                        .ok_or(TarError::Field { offset, field: "PAX record" })?;
                }
                // Records for all that follows; no engine applies them, image builders write comments in them.
                b'g' => drop(self.extension(offset, size, PAX)?),
                b'L' => extended.get_or_insert_default().name = Some(self.long(offset, size)?),
                b'K' => extended.get_or_insert_default().link = Some(self.long(offset, size)?),
                _ => return self.entry(offset, &block, size, extended.unwrap_or_default()).map(Some),
            }
        }
    }

    fn entry(&mut self, offset: u64, block: &[u8; BLOCK], size: u64, extended: Extended) -> Result<Entry, TarError> {
        let Extended { mut pax, name: long_name, link: long_link } = extended;
        let field = |field| TarError::Field { offset, field };
        let number = |range, name| header::number(&block[range]).ok_or(field(name));
        let id = |value: i64, name| u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or(field(name));
        let mut records = Records::take(&mut pax).map_err(|name| TarError::Type { offset, name })?;
        let ustar = &block[header::MAGIC] == b"ustar\x0000";
        let real_name = records.as_mut().and_then(|records| records.name.take());
        let mut path = match (real_name, pax.remove(&b"path"[..]), long_name) {
            (Some(path), _, _) | (None, Some(path), _) | (None, None, Some(path)) => path,
            (None, None, None) => {
                let (prefix, name) = (header::text(&block[header::PREFIX]), header::text(&block[header::NAME]));
                if ustar && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
            }
        };
        let link = match (pax.remove(&b"linkpath"[..]), long_link) {
            (Some(link), _) | (None, Some(link)) => link,
            (None, None) => header::text(&block[header::LINK]).to_vec(),
        };
        if path.is_empty() || path.contains(&0) {
            return Err(field("path"));
        }
        if link.contains(&0) {
            return Err(field("link target"));
        }
        let kind = match block[header::TYPE] {
            // Before POSIX a directory was a file with a slash behind its name.
            0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | OLD_SPARSE => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(TarError::Type { offset, name: format!("{:?}", char::from(other)) });
            }
        };
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let decimal = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|value| value.parse::<i64>().ok());
        let size = match pax.remove(&b"size"[..]) {
            Some(size) => decimal(&size).and_then(|size| u64::try_from(size).ok()).ok_or(field("PAX size"))?,
            None => size,
        };
        let uid = match pax.remove(&b"uid"[..]) {
            Some(uid) => decimal(&uid).ok_or(field("PAX uid"))?,
            None => number(header::UID, "uid")?,
        };
        let gid = match pax.remove(&b"gid"[..]) {
            Some(gid) => decimal(&gid).ok_or(field("PAX gid"))?,
            None => number(header::GID, "gid")?,
        };
        let mtime = match pax.remove(&b"mtime"[..]) {
            Some(mtime) => parse_time(&mtime).ok_or(field("PAX mtime"))?,
            None => Time { seconds: number(header::MTIME, "mtime")?, nanoseconds: 0 },
        };
        let device = match kind {
            Kind::CharacterDevice | Kind::BlockDevice => (
                id(number(header::MAJOR, "device major")?, "device major")?,
                id(number(header::MINOR, "device minor")?, "device minor")?,
            ),
            _ => (0, 0),
        };
        // Links and nodes have no contents whatever their size field says (old tars filled it in).
        let size = if matches!(block[header::TYPE], 0 | b'0' | b'7' | OLD_SPARSE) { size } else { 0 };
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        if size.checked_add(self.padding).is_none() {
            return Err(field("size"));
        }
        let sparse = if block[header::TYPE] == OLD_SPARSE {
            Some(self.old_sparse(block).and_then(|sparse| sparse.ok_or(field("sparse map")))?)
        } else if let Some(records) = records.filter(|_| kind == Kind::File) {
            Some(self.new_sparse(records).and_then(|sparse| sparse.ok_or(field("sparse map")))?)
        } else {
            None
        };
        let attributes = pax
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value)))
            .collect();
        Ok(Entry {
            path,
            kind,
            link,
            mode: (number(header::MODE, "mode")? & 0o7777) as u32,
            uid: id(uid, "uid")?,
            gid: id(gid, "gid")?,
            mtime,
            size: match &sparse {
                Some((size, _)) => *size,
                None if kind == Kind::File => size,
                None => 0,
            },
            sparse: sparse.map(|(_, segments)| segments),
            device,
            attributes,
        })
    }

    /// Runs in the header and in blocks behind it that the size does not count.
    fn old_sparse(&mut self, header: &[u8; BLOCK]) -> Result<Option<Sparse>, TarError> {
        let mut map = Map::default();
        let Some(mut more) = map.push_first(header) else { return Ok(None) };
        // A block without runs would let a stream of them go on for ever.
        for _ in 0..sparse::SEGMENTS / 21 {
            if !more {
                return Ok(self.expand(map, sparse::real_size(header)));
            }
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(TarError::Truncated { offset: self.offset, what: "a sparse map" });
            }
            let Some(continued) = map.push_more(&block) else { return Ok(None) };
            more = continued;
        }
        Ok(None)
    }

    /// Runs in PAX records, or as lines in front of the contents.
    fn new_sparse(&mut self, records: Records) -> Result<Option<Sparse>, TarError> {
        let map = match records.map {
            Some(map) => Some(map),
            None => self.sparse_lines()?,
        };
        Ok(map.and_then(|map| self.expand(map, Some(records.size))))
    }

    /// How many runs, then for each where and how long, a decimal number a line, filled up to whole blocks.
    fn sparse_lines(&mut self) -> Result<Option<Map>, TarError> {
        let mut map = Map::default();
        let (mut count, mut offset, mut line) = (None, None, Vec::new());
        let mut block = [0; BLOCK];
        while count != Some(0) {
            if self.remaining < BLOCK as u64 {
                return Ok(None);
            }
            self.remaining -= BLOCK as u64;
            if !self.block(&mut block)? {
                return Err(TarError::Truncated { offset: self.offset, what: "a sparse map" });
            }
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let Some(number) = sparse::decimal(&line) else { return Ok(None) };
                line.clear();
                match (count, offset.take()) {
                    (None, _) if number > sparse::SEGMENTS as u64 => return Ok(None),
                    (None, _) => count = Some(number),
                    (Some(_), None) => offset = Some(number),
                    (Some(left), Some(offset)) => {
                        if map.push(offset, number).is_none() {
                            return Ok(None);
                        }
                        count = Some(left - 1);
                    }
                }
                if count == Some(0) {
                    break;
                }
            }
            if line.len() > BLOCK {
                return Ok(None);
            }
        }
        Ok(Some(map))
    }

    fn expand(&mut self, map: Map, size: Option<u64>) -> Option<Sparse> {
        let size = size?;
        let segments = map.finish(size, self.remaining)?;
        self.expansion = Some(Expansion { segments: Arc::clone(&segments), next: 0, at: 0, size });
        Some((size, segments))
    }

    /// One block, or `false` at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(TarError::Truncated { offset: self.offset, what: "a header" }),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn extension(&mut self, offset: u64, size: u64, limit: u64) -> Result<Vec<u8>, TarError> {
        if size > limit {
            return Err(TarError::Extension { offset, size, limit });
        }
        let mut data = vec![0; size as usize];
        let mut filled = 0;
        while filled < data.len() {
            match self.read_some(&mut data[filled..])? {
                0 => return Err(TarError::Truncated { offset: self.offset, what: "an extended header" }),
                count => filled += count,
            }
        }
        self.skip(size.wrapping_neg() % BLOCK as u64, "an extended header")?;
        Ok(data)
    }

    fn long(&mut self, offset: u64, size: u64) -> Result<Vec<u8>, TarError> {
        Ok(header::text(&self.extension(offset, size, LONG_NAME)?).to_vec())
    }

    fn skip(&mut self, mut count: u64, what: &'static str) -> Result<(), TarError> {
        while count > 0 {
            let there = match self.stream.fill_buf() {
                Ok(buffer) => buffer.len(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            };
            if there == 0 {
                return Err(TarError::Truncated { offset: self.offset, what });
            }
            let skipped = usize::try_from(count).unwrap_or(usize::MAX).min(there);
            self.stream.consume(skipped);
            self.offset += skipped as u64;
            count -= skipped as u64;
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.stream.read(buffer) {
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            }
        }
    }

    /// Contents of the current member, holes of a sparse file as zeros: how many bytes were read, 0 at its end.
    ///
    /// # Errors
    /// [`TarError::Read`], and [`TarError::Truncated`] when the archive ends before the member does.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let Some(expansion) = &mut self.expansion else { return self.read_stored(buffer) };
        let segment = expansion.segments.get(expansion.next).copied();
        let hole = segment.map_or(expansion.size, |segment| segment.offset).saturating_sub(expansion.at);
        if hole > 0 {
            let count = usize::try_from(hole).unwrap_or(usize::MAX).min(buffer.len());
            buffer[..count].fill(0);
            expansion.at += count as u64;
            return Ok(count);
        }
        let Some(Segment { offset, length }) = segment else { return Ok(0) };
        let left = usize::try_from(offset + length - expansion.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.read_stored(&mut buffer[..left])?;
        if let Some(expansion) = &mut self.expansion {
            expansion.at += count as u64;
            expansion.next += usize::from(expansion.at == offset + length);
        }
        Ok(count)
    }

    /// Contents of the current member as the archive has them: the runs of a sparse file one behind the other. Not
    /// to be mixed with [`Reader::read`] for one member.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.read_some(&mut buffer[..wanted])? {
            0 => Err(TarError::Truncated { offset: self.offset, what: "a file" }),
            count => {
                self.remaining -= count as u64;
                Ok(count)
            }
        }
    }
}

/// A sparse file's size and runs.
type Sparse = (u64, Arc<[Segment]>);

/// The type of GNU tar's own sparse files.
const OLD_SPARSE: u8 = b'S';

/// `"<length> <key>=<value>\n"`, repeated; the length counts itself. A later record of a key wins.
fn parse_pax(mut data: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Option<()> {
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
        let record = data.get(space + 1..length)?;
        data = &data[length..];
        let record = record.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() {
            return None;
        }
        if let Some(number @ (b"offset" | b"numbytes")) = key.strip_prefix(sparse::PREFIX) {
            sparse::gather(records, number == b"offset", value)?;
            continue;
        }
        // An empty value deletes an earlier one, except where an attribute itself may be empty.
        if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
            records.remove(key);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    Some(())
}

/// Decimal seconds with an optional fraction and sign.
fn parse_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut nanoseconds: u32 = 0;
    for index in 0..9 {
        let digit = fraction.as_bytes().get(index).map_or(0, |digit| u32::from(digit - b'0'));
        nanoseconds = nanoseconds * 10 + digit;
    }
    if negative && nanoseconds > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_hold_any_byte() {
        let mut records = BTreeMap::new();
        parse_pax(b"12 path=a/b\n26 SCHILY.xattr.a=x\ny\n=zz\n", &mut records).unwrap();
        assert_eq!(records[&b"path"[..]], b"a/b");
        assert_eq!(records[&b"SCHILY.xattr.a"[..]], b"x\ny\n=zz");
        parse_pax(b"8 path=\n", &mut records).unwrap();
        assert!(!records.contains_key(&b"path"[..]));
        for wrong in
            [&b"12 path=a/b"[..], b"99 path=a/b\n", b"3 a\n", b"x path=a\n", b"5 =a\n", b"-1 a=b\n", b"0 a=b\n"]
        {
            assert_eq!(parse_pax(wrong, &mut BTreeMap::new()), None, "{wrong:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let time = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        for (text, expected) in [
            ("0", time(0, 0)),
            ("1350244992.023960108", time(1_350_244_992, 23_960_108)),
            ("1.5", time(1, 500_000_000)),
            ("1.0000000019", time(1, 1)),
            ("-1.5", time(-2, 500_000_000)),
            ("-0.25", time(-1, 750_000_000)),
            ("", None),
            ("1.x", None),
            ("1.-5", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), expected, "{text}");
        }
    }
}
