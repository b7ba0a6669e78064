//! Layers that were made here, compressed for their way to a registry.

use crate::Store;
use crate::error::{Context, Error, Result, is_full};
use crate::hash::Hasher;
use crate::temporary::TemporaryFile;
use flate2::{Compression, GzBuilder};
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use tare_spec::DiffId;
use tare_spec::digest::Algorithm;
use tare_spec::image::{Descriptor, media_type};
use tare_sys::writeback;

/// Uncompressed bytes of one gzip member. Each is compressed by itself, so that several processors share the
/// work and the result does not depend on how many there are; a reader takes the members as one stream
/// (RFC 1952, 2.2). The dictionary that a member begins without costs 0.6 % in size.
const MEMBER: usize = 4 << 20;

/// A third of the time of gzip's own default for a twentieth more bytes.
const LEVEL: u32 = 3;

/// Members that wait for a worker.
const AHEAD: usize = 2;

/// Bytes after which the disk begins to write what has been compressed.
const WRITEBACK: u64 = 8 << 20;

impl Store {
    /// The compressed form of a layer that has only its uncompressed one: made and kept. The same bytes each
    /// time. The caller holds a [`crate::Lease`].
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::NoSpace`]; [`Error::Damaged`], so that no damage of this disk gets a digest of its own.
    pub fn compress(&self, diff_id: &DiffId, layer: &Descriptor) -> Result<Descriptor> {
        let tar = self.layer_tar(diff_id, layer)?;
        let mut tar = Hashed { inner: tar, hasher: Hasher::new(diff_id.0.algorithm()), size: 0 };
        let mut file = TemporaryFile::create(&self.path("blobs/temporary"), "gzip")?;
        let path = file.path().to_owned();
        let mut writer = Hashed { inner: file.file(), hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let mut begun = 0;
        let outcome = gzip(&mut tar, &mut |member| {
            writer.write_all(member)?;
            if writer.size - begun >= WRITEBACK {
                writeback::start(&writer.inner, begun, writer.size - begun)?;
                begun = writer.size;
            }
            Ok(())
        });
        match outcome {
            Err(source) if is_full(&source) => {
                let what = format!("layer {diff_id}, compressed");
                return Err(Error::NoSpace { what, path: self.path("blobs"), source });
            }
            result => result.context("compress into", &path)?,
        }
        let actual = tar.hasher.finish();
        if actual != diff_id.0 {
            return Err(Error::Damaged { digest: diff_id.0.clone(), actual });
        }
        let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, writer.hasher.finish(), writer.size);
        file.persist(&self.blob_path(&descriptor.digest))?;
        Ok(descriptor)
    }
}

/// The way to a worker and back: a member, and what it was compressed to.
type Lane = (SyncSender<Vec<u8>>, Receiver<io::Result<Vec<u8>>>);

/// Compresses a stream with all processors, and hands the members on in order.
fn gzip(reader: &mut dyn Read, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    std::thread::scope(|scope| {
        // Members go to the workers in turn, and come back from them in turn.
        let lanes: Vec<Lane> = (0..workers)
            .map(|_| {
                let (to_worker, members) = mpsc::sync_channel::<Vec<u8>>(1);
                let (from_worker, compressed) = mpsc::sync_channel(1);
                scope.spawn(move || {
                    for member in members {
                        if from_worker.send(compress(&member)).is_err() {
                            return; // the writer has failed
                        }
                    }
                });
                (to_worker, compressed)
            })
            .collect();
        let gone = "a worker ends only when its lane is dropped";
        let (mut sent, mut written, mut ended) = (0, 0, false);
        while !ended || written < sent {
            // More than workers: the next is there when one of them is done.
            if !ended && sent - written < workers + AHEAD {
                let mut member = Vec::with_capacity(MEMBER);
                reader.take(MEMBER as u64).read_to_end(&mut member)?;
                ended = member.len() < MEMBER;
                // Nothing at all is one empty member.
                if !member.is_empty() || sent == 0 {
                    lanes[sent % workers].0.send(member).expect(gone);
                    sent += 1;
                }
            } else {
                write(&lanes[written % workers].1.recv().expect(gone)?)?;
                written += 1;
            }
        }
        Ok(())
    })
}

fn compress(member: &[u8]) -> io::Result<Vec<u8>> {
    // No time and no name in the header.
    let mut encoder = GzBuilder::new().write(Vec::with_capacity(member.len() / 2), Compression::new(LEVEL));
    encoder.write_all(member)?;
    encoder.finish()
}

struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_make_one_stream() {
        for size in [0, 1, MEMBER - 1, MEMBER, 5 * MEMBER + 7] {
            let bytes: Vec<u8> = (0..size).map(|index| (index / 7) as u8).collect();
            let mut compressed = Vec::new();
            gzip(&mut &bytes[..], &mut |member| compressed.write_all(member)).unwrap();
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(&compressed[..]).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{size}");
        }
    }
}
