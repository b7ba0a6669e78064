//! `logs`

use crate::cli::Verb;
use crate::duration;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::ui::Ui;
use jiff::Timestamp;
use std::io::{self, Write};
use std::ops::ControlFlow;
use tare_engine::container::logs::{LogEntry, LogStream, LogsRequest};

pub(crate) static VERB: Verb = Verb {
    name: "logs",
    names: &["container logs", "logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    flags: &[&[
        Flag::switch("follow", "Follow log output").short('f'),
        Flag::value(
            "since",
            "string",
            "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        Flag::value("tail", "string", "Number of lines to show from the end of the logs (default \"all\")").short('n'),
        Flag::switch("timestamps", "Show timestamps").short('t'),
        Flag::value(
            "until",
            "string",
            "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        Flag::no_switch("details"),
    ]],
    arity: Arity::Exactly(1),
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let now = Timestamp::now();
    let moment = |flag: &str| {
        m.one(flag)
            .filter(|text| !text.is_empty())
            .map(|text| duration::moment(text, now).map_err(|error| Failure::new(format!("{flag}: {error}"))))
            .transpose()
    };
    let request = LogsRequest {
        follow: m.switch("follow")?,
        tail: m.one("tail").and_then(tail),
        since: moment("since")?,
        until: moment("until")?,
    };
    let mut writer = Writer { timestamps: m.switch("timestamps")?, follow: request.follow, within: [false; 2] };
    let engine = ui.engine()?;
    let mut result = Ok(());
    engine.logs(&m.args[0], &request, &mut |entry| {
        result = writer.write(entry, &mut ui.out);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    Ok(Exit::SUCCESS)
}

/// Lines to show; as for Docker, anything that is no number means all.
fn tail(text: &str) -> Option<u64> {
    text.parse().ok()
}

struct Writer {
    timestamps: bool,
    follow: bool,
    /// Whether a stream's last entry had no newline, so that the next one goes on with its line.
    within: [bool; 2],
}

impl Writer {
    fn write(&mut self, entry: &LogEntry, out: &mut impl Write) -> io::Result<()> {
        match entry.stream {
            LogStream::Stdout => self.write_entry(entry, 0, out)?,
            LogStream::Stderr => {
                // Both streams may end in one terminal, where their order must stay.
                out.flush()?;
                self.write_entry(entry, 1, &mut io::stderr())?;
            }
        }
        if self.follow { out.flush() } else { Ok(()) }
    }

    fn write_entry(&mut self, entry: &LogEntry, stream: usize, out: &mut impl Write) -> io::Result<()> {
        if self.timestamps && !self.within[stream] {
            out.write_all(entry.time.as_bytes())?;
            out.write_all(b" ")?;
        }
        self.within[stream] = entry.line.last() != Some(&b'\n');
        out.write_all(&entry.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_long_line_have_one_time() {
        let mut writer = Writer { timestamps: true, follow: false, within: [false; 2] };
        let mut out = Vec::new();
        for (time, line) in [("T1", "a"), ("T2", "b\n"), ("T3", "c\n")] {
            let entry = LogEntry { stream: LogStream::Stdout, time: time.into(), line: line.into() };
            writer.write(&entry, &mut out).unwrap();
        }
        assert_eq!(out, b"T1 ab\nT3 c\n");
    }

    #[test]
    fn tails_that_are_no_number_mean_all() {
        assert_eq!((tail("5"), tail("0"), tail("all"), tail("-1"), tail("x")), (Some(5), Some(0), None, None, None));
    }
}
