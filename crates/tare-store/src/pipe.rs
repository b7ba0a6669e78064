//! A pipe in memory between who makes an archive and who takes it in. It holds some pieces and no more; each side hears
//! when the other has gone.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many pieces wait to be read.
const WAITING: usize = 4;

/// Why the reader has no more: the writer has gone without saying that it was done.
#[derive(Debug, thiserror::Error)]
#[error("the archive was given up before its end")]
struct Abandoned;

/// The end that is written to. Dropped, it tells the reader that the rest is missing.
pub struct PipeWriter {
    pieces: SyncSender<Option<Vec<u8>>>,
    /// Pieces that were read, to be filled again.
    empty: Receiver<Vec<u8>>,
}

/// The end that is read from.
pub(crate) struct PipeReader<'a> {
    pieces: Receiver<Option<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    abandoned: &'a AtomicBool,
}

/// A pipe; `abandoned` says afterwards whether the reader has missed the end.
pub(crate) fn new(abandoned: &AtomicBool) -> (PipeWriter, PipeReader<'_>) {
    let (pieces, incoming) = sync_channel(WAITING);
    let (back, empty) = sync_channel(WAITING + 2);
    let reader = PipeReader { pieces: incoming, empty: back, piece: Vec::new(), at: 0, ended: false, abandoned };
    (PipeWriter { pieces, empty }, reader)
}

impl PipeWriter {
    /// Says that all was written.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.send(None)
    }

    fn send(&self, piece: Option<Vec<u8>>) -> io::Result<()> {
        self.pieces.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut piece = self.empty.try_recv().unwrap_or_default();
        piece.clear();
        piece.extend_from_slice(bytes);
        self.send(Some(piece))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PipeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended {
            let read = std::mem::take(&mut self.piece);
            // A writer that has gone wants none back.
            let _ = self.empty.try_send(read);
            match self.pieces.recv() {
                Ok(Some(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(None) => (self.ended, self.at) = (true, 0),
                Err(_) => {
                    self.at = 0;
                    self.abandoned.store(true, Ordering::Relaxed);
                    return Err(io::Error::other(Abandoned));
                }
            }
        }
        let count = (&self.piece[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_then_the_end() {
        let abandoned = AtomicBool::new(false);
        let (mut writer, mut reader) = new(&abandoned);
        let expected: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        let sent = expected.clone();
        let writing = std::thread::spawn(move || {
            sent.chunks(777).try_for_each(|piece| writer.write_all(piece)).and_then(|()| writer.finish())
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == expected);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        writing.join().unwrap().unwrap();
    }

    #[test]
    fn each_side_hears_that_the_other_has_gone() {
        let abandoned = AtomicBool::new(false);
        let (mut writer, mut reader) = new(&abandoned);
        writer.write_all(b"begun").unwrap();
        drop(writer);
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!(
            (read.as_slice(), error.to_string().as_str()),
            (&b"begun"[..], "the archive was given up before its end")
        );
        assert!(reader.read(&mut [0; 8]).is_err() && abandoned.into_inner(), "it stays so");
        let abandoned = AtomicBool::new(false);
        let (mut writer, reader) = new(&abandoned);
        drop(reader);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
