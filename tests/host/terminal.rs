//! A person's terminal: a pseudo-terminal with a program on it.

use super::{Stream, command};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::process::{Child, Command};

/// A program on a terminal of 40 rows and 100 columns; killed when dropped.
pub(crate) struct Terminal {
    what: String,
    child: Child,
    stream: Stream,
    /// The program's side, kept open so that its settings can be read after the program has gone.
    program_side: File,
}

impl Terminal {
    pub(super) fn spawn(mut command: Command) -> Self {
        let what = format!("{command:?}");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person_side = openpt(flags).unwrap();
        grantpt(&person_side).unwrap();
        unlockpt(&person_side).unwrap();
        let name = ptsname(&person_side, Vec::new()).unwrap().into_string().unwrap();
        let program_side = OpenOptions::new().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&program_side, size(40, 100)).unwrap();
        // No echo, so that what is typed is not mistaken for an answer.
        let mut modes = tcgetattr(&program_side).unwrap();
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&program_side, OptionalActions::Now, &modes).unwrap();
        command.stdin(program_side.try_clone().unwrap());
        command.stdout(program_side.try_clone().unwrap()).stderr(program_side.try_clone().unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        Self { what, child, stream: Stream::new(person_side), program_side }
    }

    /// Types.
    pub(crate) fn write(&self, text: &str) {
        self.stream.write(text.as_bytes());
    }

    /// Waits until `text` appears and gives back all up to its end.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.stream.expect(text)
    }

    /// What is shown and was not taken by [`Terminal::expect`].
    pub(crate) fn pending(&mut self) -> String {
        self.stream.pending()
    }

    /// Changes the window's size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(self.stream.descriptor(), size(rows, columns)).unwrap();
    }

    /// The terminal's settings as they are now.
    pub(crate) fn modes(&self) -> Termios {
        tcgetattr(&self.program_side).unwrap()
    }

    /// Lets the terminal show what is typed, as a person's does.
    pub(crate) fn set_echo(&self) {
        let mut modes = self.modes();
        modes.local_modes.insert(LocalModes::ECHO);
        tcsetattr(&self.program_side, OptionalActions::Now, &modes).unwrap();
    }

    /// Waits for the program's end and gives its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        command::wait(&mut self.child, &self.what)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(ws_row: u16, ws_col: u16) -> Winsize {
    Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }
}
