//! The log of a container in Docker's json-file form: one JSON object a line,
//! `{"log":"text\n","stream":"stdout","time":"2026-11-23T10:00:00.123456789Z"}`.
//!
//! Docker's limits hold: a line longer than [`MAX_ENTRY`] becomes several entries of which only the last ends with a
//! newline, and bytes that are not UTF-8 become U+FFFD.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// The most bytes of a line in one entry (moby's `defaultBufSize`).
pub const MAX_ENTRY: usize = 16 * 1024;

/// Which of the two streams an entry came from. A terminal has only `Stdout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A log that is written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// Open since the first output: most short runs have none.
    file: Option<File>,
    /// What of a line was read before its newline, for each stream.
    partial: [Vec<u8>; 2],
    out: Vec<u8>,
    /// Whether a write failed already.
    failed: bool,
    /// Whether the last write failed and may have left a part of a line.
    torn: bool,
}

impl LogFile {
    /// The log at `path`. Its first entry opens it for appending and makes it when absent, readable by its owner only.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, partial: [Vec::new(), Vec::new()], out: Vec::new(), failed: false, torn: false }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        use std::os::unix::fs::OpenOptionsExt;
        match &mut self.file {
            Some(file) => Ok(file),
            empty => Ok(empty.insert(File::options().append(true).create(true).mode(0o600).open(&self.path)?)),
        }
    }

    /// Adds what was read from a stream. Whole lines are written at once, in one write(2).
    ///
    /// # Errors
    /// open(2)'s and write(2)'s; a full disk loses these lines and no others. Only the first failure is an error: a container that
    /// filled the disk could make its monitor report as many as it writes bytes.
    pub fn append(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        let now = jiff::Timestamp::now();
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.add(stream, &bytes[..=end], true, now);
            bytes = &bytes[end + 1..];
        }
        self.add(stream, bytes, false, now);
        self.write_out()
    }

    /// Writes what was read without a newline at the end.
    ///
    /// # Errors
    /// As [`LogFile::append`].
    pub fn finish(&mut self) -> io::Result<()> {
        let now = jiff::Timestamp::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                entry(&mut self.out, stream, &rest, now);
            }
        }
        self.write_out()
    }

    fn add(&mut self, stream: Stream, mut bytes: &[u8], complete: bool, now: jiff::Timestamp) {
        let partial = &mut self.partial[stream as usize];
        while partial.len() + bytes.len() > MAX_ENTRY {
            let (head, tail) = bytes.split_at(MAX_ENTRY - partial.len());
            partial.extend_from_slice(head);
            entry(&mut self.out, stream, partial, now);
            partial.clear();
            bytes = tail;
        }
        if !complete {
            partial.extend_from_slice(bytes);
        } else if partial.is_empty() {
            entry(&mut self.out, stream, bytes, now);
        } else {
            partial.extend_from_slice(bytes);
            entry(&mut self.out, stream, partial, now);
            partial.clear();
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        if self.torn {
            // Readers pass over the line that was cut, and not over the one that follows it.
            self.out.insert(0, b'\n');
        }
        let out = std::mem::take(&mut self.out);
        let result = self.open().and_then(|file| file.write_all(&out));
        self.out = out;
        self.torn = result.is_err();
        self.out.clear();
        match result {
            Err(_) if std::mem::replace(&mut self.failed, true) => Ok(()),
            result => result,
        }
    }
}

/// Appends one entry as Docker writes it.
fn entry(out: &mut Vec<u8>, stream: Stream, line: &[u8], time: jiff::Timestamp) {
    out.extend_from_slice(b"{\"log\":");
    serde_json::to_writer(&mut *out, &String::from_utf8_lossy(line)).expect("a string and a vector cannot fail");
    writeln!(out, ",\"stream\":\"{}\",\"time\":\"{time:.9}\"}}", stream.name())
        .expect("writing to a vector cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[(Stream, &[u8])]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::new(path.clone());
        for (stream, bytes) in parts {
            log.append(*stream, bytes).unwrap();
        }
        log.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(value["time"].as_str().unwrap().len(), "2026-11-23T10:00:00.123456789Z".len());
                (value["stream"].as_str().unwrap().to_owned(), value["log"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    fn pair(stream: &str, line: &str) -> (String, String) {
        (stream.to_owned(), line.to_owned())
    }

    #[test]
    fn lines_are_joined_and_streams_kept_apart() {
        let entries = written(&[
            (Stream::Stdout, b"one\ntw"),
            (Stream::Stderr, b"oops\n"),
            (Stream::Stdout, b"o\nrest \"quoted\""),
        ]);
        let expected = [
            pair("stdout", "one\n"),
            pair("stderr", "oops\n"),
            pair("stdout", "two\n"),
            pair("stdout", "rest \"quoted\""),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn long_lines_are_cut_and_only_the_last_part_ends_the_line() {
        let mut long = vec![b'x'; MAX_ENTRY * 2 + 5];
        long.push(b'\n');
        let lengths: Vec<usize> = written(&[(Stream::Stdout, &long)]).iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [MAX_ENTRY, MAX_ENTRY, 6]);
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        assert_eq!(written(&[(Stream::Stdout, b"a\xffb\n")]), [pair("stdout", "a\u{fffd}b\n")]);
    }

    #[test]
    fn a_full_disk_is_reported_once() {
        let mut log = LogFile::new("/dev/full".into());
        assert_eq!(log.append(Stream::Stdout, b"a\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        log.append(Stream::Stdout, b"b\n").unwrap();
        log.finish().unwrap();
    }
}
