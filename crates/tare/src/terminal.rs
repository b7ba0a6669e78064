//! The person's terminal: its size, and raw mode that always ends.

use crate::signals::{Signals, WINDOW_CHANGED};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

/// Width of help texts: the terminal's, or what Docker takes without one.
pub(crate) fn width() -> usize {
    let size = termios::tcgetwinsize(rustix::stdio::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0).unwrap_or(80)
}

/// Rows and columns of the terminal, asked of standard output and then of standard input.
pub(crate) fn size() -> Option<(u16, u16)> {
    [rustix::stdio::stdout(), rustix::stdio::stdin()]
        .into_iter()
        .find_map(|fd| termios::tcgetwinsize(fd).ok())
        .filter(|size| size.ws_row > 0 && size.ws_col > 0)
        .map(|size| (size.ws_row, size.ws_col))
}

/// Rows and columns of the terminal that standard error is.
pub(crate) fn size_for_errors() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// What the terminal was before raw mode.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input's terminal in raw mode: every key goes to the container. Ends when dropped, and on a panic.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Enters raw mode.
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                print(info);
            }));
        });
        let before = termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// What a person typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A line without its end.
    Line(String),
    /// A signal to end.
    Interrupted,
}

/// Asks on standard output for a line from the terminal, which shows what is typed only where it is to be `seen`.
pub(crate) fn ask(question: &str, seen: bool) -> io::Result<Answer> {
    let mut out = io::stdout().lock();
    // Caught, so that a terminal never stays without echo; all before the question, which may be answered at once.
    let mut signals = Signals::of_terminal()?;
    let hidden = if seen { None } else { Some(NoEcho::enter()?) };
    out.write_all(question.as_bytes())?;
    out.flush()?;
    let answer = read_line(&mut signals);
    drop(hidden);
    // The end of the line was not shown either.
    if !seen || matches!(answer, Ok(Answer::Interrupted)) {
        out.write_all(b"\n")?;
    }
    answer
}

/// More than this is no answer that anybody types.
const LONGEST_ANSWER: usize = 4096;

fn read_line(signals: &mut Signals) -> io::Result<Answer> {
    let mut line: Vec<u8> = Vec::new();
    while !line.ends_with(b"\n") && line.len() < LONGEST_ANSWER {
        let stdin = rustix::stdio::stdin();
        let caught = signals.as_fd();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&caught, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let (input, signal) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if signal && signals.take().iter().any(|&signal| signal != WINDOW_CHANGED) {
            return Ok(Answer::Interrupted);
        }
        if input {
            let mut byte = [0];
            if rustix::io::read(stdin, &mut byte)? == 0 {
                break;
            }
            line.push(byte[0]);
        }
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Answer::Line(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Standard input's terminal does not show what is typed, until this is dropped.
struct NoEcho(());

impl NoEcho {
    fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(rustix::stdio::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        // Flush: what was typed before the question is no answer to it.
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(()))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}
