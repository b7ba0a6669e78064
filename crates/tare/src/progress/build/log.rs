//! What a step's process wrote, for the moment when it fails.

use std::collections::VecDeque;
use std::time::Duration;

/// The end of an output, in lines.
#[derive(Debug)]
pub(super) struct Log {
    lines: VecDeque<Line>,
    /// Whether the last line goes on.
    open: bool,
    /// Whether what comes next goes over the last line: a carriage return came.
    returned: bool,
    /// Bytes of all lines, with what empty ones take.
    held: usize,
    /// How many bytes at most.
    limit: usize,
    /// Bytes that were forgotten.
    forgotten: usize,
}

/// A line of it.
#[derive(Debug)]
pub(super) struct Line {
    /// When it began, since the step did.
    pub(super) at: Duration,
    /// As it came, without its end.
    pub(super) bytes: Vec<u8>,
}

/// A longer line is nothing that anybody reads.
const LONGEST_LINE: usize = 64 << 10;
/// A flood of empty lines must not take all memory either.
const COST_OF_LINE: usize = size_of::<Line>();

impl Log {
    /// An empty one that keeps so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), open: false, returned: false, held: 0, limit, forgotten: 0 }
    }

    /// Takes what was written.
    pub(super) fn push(&mut self, at: Duration, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece {
                [text @ .., end @ (b'\n' | b'\r')] => (text, Some(end)),
                text => (text, None),
            };
            if !text.is_empty() {
                self.extend(at, text);
            }
            match end {
                Some(b'\r') => self.returned = true,
                Some(_) => {
                    self.last(at);
                    (self.open, self.returned) = (false, false);
                }
                None => {}
            }
            while self.held > self.limit && self.lines.len() > 1 {
                let first = self.lines.pop_front().map_or(0, |line| line.bytes.len());
                self.held -= first + COST_OF_LINE;
                self.forgotten += first + 1;
            }
        }
    }

    /// Goes on with the last line, or over it.
    fn extend(&mut self, at: Duration, text: &[u8]) {
        if std::mem::take(&mut self.returned) && self.open {
            let line = std::mem::take(&mut self.last(at).bytes);
            self.held -= line.len();
        }
        let line = &mut self.last(at).bytes;
        let kept = text.len().min(LONGEST_LINE - line.len());
        line.extend_from_slice(&text[..kept]);
        self.held += kept;
        self.forgotten += text.len() - kept;
    }

    /// The line that is being written.
    fn last(&mut self, at: Duration) -> &mut Line {
        if !std::mem::replace(&mut self.open, true) {
            self.lines.push_back(Line { at, bytes: Vec::new() });
            self.held += COST_OF_LINE;
        }
        self.lines.back_mut().expect("one was put there before it was opened")
    }

    /// The last lines, so many at most.
    pub(super) fn tail(&self, count: usize) -> impl Iterator<Item = &Line> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count))
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes that came and are not there any more.
    pub(super) fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &Log) -> Vec<String> {
        log.tail(usize::MAX).map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn lines_come_in_any_pieces() {
        let mut log = Log::new(1000);
        log.push(at(1), b"one\ntw");
        log.push(at(2), b"o\r");
        log.push(at(3), b"\nthree");
        assert_eq!(lines(&log), ["one", "two", "three"]);
        assert_eq!(log.tail(9).map(|line| line.at).collect::<Vec<_>>(), [at(1), at(1), at(3)]);
        log.push(at(4), b"\n\n");
        assert_eq!(lines(&log), ["one", "two", "three", ""]);
        assert_eq!(log.tail(1).count(), 1);
    }

    #[test]
    fn what_is_written_over_is_gone() {
        let mut log = Log::new(1000);
        log.push(at(1), b"10%\r20%");
        log.push(at(1), b"\r100%\ndone\r\n");
        assert_eq!(lines(&log), ["100%", "done"]);
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut log = Log::new(10 + 2 * COST_OF_LINE);
        log.push(at(1), b"0123456\n789\nabc\n");
        assert_eq!(lines(&log), ["789", "abc"]);
        assert_eq!(log.forgotten(), 8);
        log.push(at(1), &[b'\n'; 1000]);
        assert_eq!(lines(&log), ["", ""]);
        log.push(at(1), &vec![b'x'; 2 * LONGEST_LINE]);
        assert_eq!((log.len(), log.tail(1).next().unwrap().bytes.len()), (1, LONGEST_LINE));
        assert!(log.forgotten() > LONGEST_LINE);
    }
}
