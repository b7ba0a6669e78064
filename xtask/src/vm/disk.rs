//! A disk that loses what was not flushed when the power goes: a server of the NBD protocol on a file.
//!
//! Writes stay in memory until the client flushes, or writes with FUA; a cut takes them, or all but some blocks, or parts of
//! blocks, for a disk may write what it has in any order. The protocol is
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>, the part without extensions.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What a file system writes at least.
const BLOCK: u64 = 4096;
/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;
/// The largest request that is taken; QEMU sends none above 32 MiB.
const LARGEST: u32 = 64 << 20;

const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// NBD_FLAG_FIXED_NEWSTYLE and NBD_FLAG_NO_ZEROES.
const HANDSHAKE_FLAGS: u16 = 3;
/// NBD_FLAG_HAS_FLAGS, NBD_FLAG_SEND_FLUSH and NBD_FLAG_SEND_FUA.
const TRANSMISSION_FLAGS: u16 = 1 | 4 | 8;
const FUA: u16 = 1;

/// The disk: its file has what is safe.
pub(super) struct Disk {
    file: File,
    size: u64,
    unsafe_blocks: BTreeMap<u64, Vec<u8>>,
    pub(super) flushes: u64,
    /// The power goes with this write, counted down; 0 when it has gone.
    pub(super) writes_left: Option<u64>,
}

/// What the power does to writes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// All of them are lost.
    All,
    /// Each block is lost, written, or written up to some sector, by chance.
    Some,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path).with_context(|| path.display().to_string())?;
        let size = file.metadata()?.len();
        Ok(Self { file, size, unsafe_blocks: BTreeMap::new(), flushes: 0, writes_left: None })
    }

    fn block(&self, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = self.unsafe_blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        self.file.read_exact_at(&mut block, number * BLOCK)?;
        Ok(block)
    }

    /// Calls `part` with each block that a range touches, and with where in it and in the range they meet.
    fn blocks(
        offset: u64,
        length: usize,
        mut part: impl FnMut(u64, usize, usize, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let count = (BLOCK as usize - within).min(length - done);
            part(at / BLOCK, within, done, count)?;
            done += count;
        }
        Ok(())
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        Self::blocks(offset, length, |number, within, at, count| {
            bytes[at..at + count].copy_from_slice(&self.block(number)?[within..within + count]);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Self::blocks(offset, bytes.len(), |number, within, at, count| {
            let mut block = self.block(number)?;
            block[within..within + count].copy_from_slice(&bytes[at..at + count]);
            self.unsafe_blocks.insert(number, block);
            Ok(())
        })?;
        self.writes_left = self.writes_left.map(|left| left.saturating_sub(1));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        for (number, block) in std::mem::take(&mut self.unsafe_blocks) {
            self.file.write_all_at(&block, number * BLOCK)?;
        }
        Ok(())
    }

    /// Takes the power away. Returns how many blocks were not safe.
    pub(super) fn cut(&mut self, loss: Loss, chance: &mut impl FnMut() -> u64) -> Result<usize> {
        self.writes_left = None;
        let lost = std::mem::take(&mut self.unsafe_blocks);
        let count = lost.len();
        if let Loss::Some = loss {
            for (number, block) in lost {
                let sectors = match chance() % 4 {
                    0 => 0,
                    1 => chance() as usize % (BLOCK as usize / SECTOR),
                    _ => BLOCK as usize / SECTOR,
                };
                self.file.write_all_at(&block[..sectors * SECTOR], number * BLOCK)?;
            }
        }
        Ok(count)
    }
}

/// Serves one client to its end.
pub(super) fn serve(listener: &UnixListener, disk: &Arc<Mutex<Disk>>) -> Result<()> {
    let (mut client, _) = listener.accept()?;
    let size = disk.lock().unwrap_or_else(PoisonError::into_inner).size;
    if !shake_hands(&mut client, size)? {
        return Ok(());
    }
    loop {
        let mut header = [0; 28];
        match client.read_exact(&mut header) {
            // Killed, which is what this is for.
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            result => result?,
        }
        if number(&header[..4]) != u64::from(REQUEST_MAGIC) {
            bail!("no NBD request");
        }
        let (flags, kind) = (number(&header[4..6]) as u16, number(&header[6..8]));
        let (offset, length) = (number(&header[16..24]), number(&header[24..28]) as u32);
        if length > LARGEST || offset.checked_add(length.into()).is_none_or(|end| end > size) {
            bail!("an NBD request of {length} bytes at {offset}");
        }
        let mut bytes = vec![0; if kind == 1 { length as usize } else { 0 }];
        if client.read_exact(&mut bytes).is_err() {
            return Ok(());
        }
        let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = Vec::new();
        match kind {
            0 => answer = disk.read(offset, length as usize)?,
            1 => {
                disk.write(offset, &bytes)?;
                if disk.writes_left == Some(0) {
                    drop(disk);
                    // Without power it answers nobody any more.
                    io::copy(&mut client, &mut io::sink()).ok();
                    return Ok(());
                }
                if flags & FUA != 0 {
                    disk.flush()?;
                }
            }
            2 => return Ok(()),
            3 => disk.flush()?,
            other => bail!("NBD command {other} was not offered"),
        }
        drop(disk);
        let head = [&REPLY_MAGIC.to_be_bytes()[..], &[0; 4], &header[8..16], &answer].concat();
        if client.write_all(&head).is_err() {
            return Ok(());
        }
    }
}

/// Tells the client what there is. Whether it wants it.
fn shake_hands(client: &mut UnixStream, size: u64) -> Result<bool> {
    client.write_all(&[&b"NBDMAGICIHAVEOPT"[..], &HANDSHAKE_FLAGS.to_be_bytes()].concat())?;
    client.read_exact(&mut [0; 4])?;
    loop {
        let mut header = [0; 16];
        client.read_exact(&mut header)?;
        let (option, length) = (number(&header[8..12]) as u32, number(&header[12..16]));
        if number(&header[..8]) != OPTION_MAGIC || length > 65536 {
            bail!("no NBD option");
        }
        client.read_exact(&mut vec![0; length as usize])?;
        let export = [&size.to_be_bytes()[..], &TRANSMISSION_FLAGS.to_be_bytes()].concat();
        let mut reply = |kind: u32, data: &[u8]| {
            let head = [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()];
            client.write_all(&[&head.concat()[..], &(data.len() as u32).to_be_bytes(), data].concat())
        };
        match option {
            // NBD_OPT_EXPORT_NAME
            1 => {
                client.write_all(&export)?;
                return Ok(true);
            }
            // NBD_OPT_ABORT
            2 => return Ok(false),
            // NBD_OPT_INFO and NBD_OPT_GO: NBD_REP_INFO with NBD_INFO_EXPORT, then NBD_REP_ACK
            6 | 7 => {
                reply(3, &[&[0, 0][..], &export].concat())?;
                reply(1, &[])?;
                if option == 7 {
                    return Ok(true);
                }
            }
            // NBD_REP_ERR_UNSUP
            _ => reply(0x8000_0001, &[])?,
        }
    }
}

/// Big-endian, of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_flushed_is_safe() {
        let path = std::env::temp_dir().join(format!("tare-xtask-disk-{}", std::process::id()));
        std::fs::write(&path, vec![0; 4 * BLOCK as usize]).unwrap();
        let mut disk = Disk::open(&path).unwrap();
        disk.write(100, b"kept").unwrap();
        disk.flush().unwrap();
        disk.write(BLOCK - 2, b"lost").unwrap();
        assert_eq!(disk.read(BLOCK - 2, 4).unwrap(), b"lost");
        assert_eq!(disk.cut(Loss::All, &mut || 0).unwrap(), 2);
        assert_eq!(disk.read(BLOCK - 2, 4).unwrap(), [0; 4]);
        assert_eq!(disk.read(100, 4).unwrap(), b"kept");
        disk.write(0, &[1; 2048]).unwrap();
        let mut dice = [1, 2].into_iter();
        disk.cut(Loss::Some, &mut || dice.next().unwrap()).unwrap();
        assert_eq!(disk.read(1022, 4).unwrap(), [1, 1, 0, 0]);
        std::fs::remove_file(path).unwrap();
    }
}
