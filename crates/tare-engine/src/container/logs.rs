//! What a container wrote.

use crate::container::Loaded;
use crate::container::stop::Target;
use crate::engine::Engine;
use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogsRequest {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many last lines.
    pub tail: Option<u64>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Up to this time.
    pub until: Option<Timestamp>,
}

/// A stream of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry: a line with its newline, or a part of a long one without.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Which stream it came from.
    pub stream: LogStream,
    /// When the monitor read it, as written in the log (RFC 3339 with nanoseconds).
    pub time: String,
    /// The bytes.
    pub line: Vec<u8>,
}

/// An entry as Docker's json-file writes it.
#[derive(Deserialize)]
struct Stored {
    log: String,
    stream: LogStream,
    time: String,
}

/// Takes entries until it breaks.
type Sink<'a> = dyn FnMut(&LogEntry) -> ControlFlow<()> + 'a;

impl Engine {
    /// Hands the log's entries to `sink` until they end or it breaks. With `follow` they end when the container has.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::File`] when the log cannot be read.
    pub fn logs(
        &self,
        name: &str,
        request: &LogsRequest,
        sink: &mut dyn FnMut(&LogEntry) -> ControlFlow<()>,
    ) -> Result<()> {
        let loaded = self.load(&self.resolve(name)?)?;
        let path = loaded.paths.log();
        let failed = |source| Error::file("read", &path, source);
        // Who follows must not miss what is written between its last read and its wait: watch, then look whether the
        // container runs, then read.
        let follow = if request.follow { self.follow(&loaded)? } else { None };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && follow.is_none() => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        if let Some(lines) = request.tail {
            seek_tail(&mut file, lines).map_err(failed)?;
        }
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut pending = Vec::new();
        let mut running = follow.is_some();
        loop {
            if read_entries(&mut reader, &mut pending, request, sink).map_err(failed)?.is_break() {
                return Ok(());
            }
            let Some(follow) = follow.as_ref().filter(|_| running) else { return Ok(()) };
            // After the end there is one more round, for what was written last.
            running = follow.wait(request.until)?;
        }
    }

    fn follow(&self, loaded: &Loaded) -> Result<Option<Follow>> {
        let Some(end) = self.target(loaded)?.and_then(Target::into_fd) else { return Ok(None) };
        let system = |errno: rustix::io::Errno| Error::System { action: "watch the log", source: errno.into() };
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(system)?;
        // There is none before the first output.
        let path = loaded.paths.log();
        let made = File::options().append(true).create(true).mode(0o600).open(&path);
        made.map_err(|source| Error::file("create", &path, source))?;
        inotify::add_watch(&changes, path, inotify::WatchFlags::MODIFY).map_err(system)?;
        Ok(Some(Follow { changes: File::from(changes), end }))
    }
}

/// A wait for more.
struct Follow {
    changes: File,
    /// Becomes readable when the container has ended.
    end: OwnedFd,
}

impl Follow {
    /// Waits until the log has grown; false when the container has ended or the time has come.
    fn wait(&self, until: Option<Timestamp>) -> Result<bool> {
        let mut watched = [
            PollFd::from_borrowed_fd(self.changes.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.end.as_fd(), PollFlags::IN),
        ];
        let failed = |source| Error::System { action: "wait for the log", source };
        let left = |until: Timestamp| until.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
        let timeout =
            until.map(left).map(|left| Timespec { tv_sec: left.as_secs(), tv_nsec: left.subsec_nanos().into() });
        let ready = rustix::io::retry_on_intr(|| poll(&mut watched, timeout.as_ref()));
        if ready.map_err(|errno| failed(errno.into()))? == 0
            || watched[1].revents().intersects(PollFlags::IN | PollFlags::HUP)
        {
            return Ok(false);
        }
        match (&self.changes).read(&mut [0; 4096]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
            _ => Ok(true),
        }
    }
}

/// Hands over all whole entries that are there; the begin of one that is being written stays in `pending`.
fn read_entries(
    reader: &mut BufReader<File>,
    pending: &mut Vec<u8>,
    request: &LogsRequest,
    sink: &mut Sink<'_>,
) -> io::Result<ControlFlow<()>> {
    loop {
        reader.read_until(b'\n', pending)?;
        if pending.last() != Some(&b'\n') {
            return Ok(ControlFlow::Continue(()));
        }
        // A line that is not an entry was cut by a full disk or a power cut: the others are worth no less.
        if let Ok(stored) = serde_json::from_slice::<Stored>(pending) {
            let flow = deliver(stored, request, sink);
            if flow.is_break() {
                return Ok(flow);
            }
        }
        pending.clear();
    }
}

fn deliver(stored: Stored, request: &LogsRequest, sink: &mut Sink<'_>) -> ControlFlow<()> {
    if request.since.is_some() || request.until.is_some() {
        let Ok(time) = stored.time.parse::<Timestamp>() else { return ControlFlow::Continue(()) };
        if request.since.is_some_and(|since| time < since) {
            return ControlFlow::Continue(());
        }
        if request.until.is_some_and(|until| time > until) {
            return ControlFlow::Break(());
        }
    }
    sink(&LogEntry { stream: stored.stream, time: stored.time, line: stored.log.into_bytes() })
}

/// Moves to the begin of the last so many lines, reading from the end.
fn seek_tail(file: &mut File, lines: u64) -> io::Result<()> {
    const BLOCK: u64 = 64 * 1024;
    let end = file.seek(SeekFrom::End(0))?;
    let mut position = end;
    let mut buffer = Vec::new();
    let mut found = 0;
    if lines == 0 {
        return Ok(());
    }
    while position > 0 {
        let start = position.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        file.by_ref().take(position - start).read_to_end(&mut buffer)?;
        for (index, _) in buffer.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The newline at the very end closes the last line and opens none.
            let line = start + index as u64 + 1;
            if line == end {
                continue;
            }
            found += 1;
            if found == lines {
                file.seek(SeekFrom::Start(line))?;
                return Ok(());
            }
        }
        position = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(lines: &[&str]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for (index, line) in lines.iter().enumerate() {
            writeln!(file, r#"{{"log":"{line}\n","stream":"stdout","time":"2026-11-23T10:00:0{index}.000000000Z"}}"#)
                .unwrap();
        }
        file.rewind().unwrap();
        file
    }

    fn read(mut file: File, request: &LogsRequest) -> String {
        if let Some(lines) = request.tail {
            seek_tail(&mut file, lines).unwrap();
        }
        let mut text = Vec::new();
        let mut sink = |entry: &LogEntry| {
            text.extend_from_slice(&entry.line);
            ControlFlow::Continue(())
        };
        let flow = read_entries(&mut BufReader::new(file), &mut Vec::new(), request, &mut sink).unwrap();
        assert!(flow.is_continue() || request.until.is_some());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn tail_counts_lines_from_the_end() {
        for (tail, expected) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (3, "a\nb\nc\n"), (9, "a\nb\nc\n")] {
            let request = LogsRequest { tail: Some(tail), ..LogsRequest::default() };
            assert_eq!(read(log(&["a", "b", "c"]), &request), expected, "{tail}");
        }
        let long = "x".repeat(50_000);
        let request = LogsRequest { tail: Some(2), ..LogsRequest::default() };
        assert_eq!(read(log(&["a", &long, &long]), &request).len(), 100_002);
    }

    #[test]
    fn times_bound_what_is_shown() {
        let time = |second: u8| Some(format!("2026-11-23T10:00:0{second}Z").parse().unwrap());
        let request = LogsRequest { since: time(1), until: time(2), ..LogsRequest::default() };
        assert_eq!(read(log(&["a", "b", "c", "d"]), &request), "b\nc\n");
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        let mut file = log(&["a"]);
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"{\"log\":\"cut\n").unwrap();
        file.rewind().unwrap();
        assert_eq!(read(file, &LogsRequest::default()), "a\n");
    }
}
