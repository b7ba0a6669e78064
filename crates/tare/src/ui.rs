//! What commands talk to: the person's terminal, and the engine when they need it.

use crate::failure::{Failure, Outcome};
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Stdout, Write};
use std::path::Path;
use tare_engine::{Engine, Options};

/// More than this is no answer that anybody types.
const LONGEST_ANSWER: u64 = 4096;

/// Standard output for data, standard error for everything else.
#[derive(Debug)]
pub(crate) struct Ui {
    options: Options,
    /// Data for the person or the next program. Flushed when the command ends. Not locked for good, because the
    /// threads of a pull write there, too.
    pub(crate) out: BufWriter<Stdout>,
}

impl Ui {
    /// For an engine on these directories.
    pub(crate) fn new(options: Options) -> Self {
        Self { options, out: BufWriter::with_capacity(1 << 15, io::stdout()) }
    }

    /// A failure with the best hint that can be found here.
    pub(crate) fn advise(&self, failure: Failure) -> Failure {
        failure.advised(&self.options)
    }

    /// Opens the engine.
    pub(crate) fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(self.options.clone())?)
    }

    /// Where the engine keeps what lasts.
    pub(crate) fn root(&self) -> &Path {
        &self.options.root
    }

    /// Writes a line of data that must be seen at once, for a program that reads us may wait for it.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// Asks on standard output, and takes `y` for a yes and everything else for a no.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool, Failure> {
        write!(self.out, "{question} [y/N] ")?;
        self.out.flush()?;
        let mut answer = String::new();
        // Whoever cannot be read has not agreed.
        let read = io::stdin().lock().take(LONGEST_ANSWER).read_line(&mut answer);
        Ok(read.is_ok() && answer.trim().eq_ignore_ascii_case("y"))
    }

    /// Tells the person something that is no error.
    pub(crate) fn warn(&mut self, text: &str) {
        note(&format!("WARNING: {text}\n"));
    }

    /// Does `act` for each name and goes on after an error, as Docker does: what `act` returns is printed.
    pub(crate) fn each(
        &mut self,
        names: &[String],
        mut act: impl FnMut(&mut Self, &str) -> Result<Option<String>, Failure>,
    ) -> Outcome {
        let mut exit = crate::failure::Exit::SUCCESS;
        for name in names {
            match act(self, name) {
                Ok(Some(line)) => self.line(&line)?,
                Ok(None) => {}
                Err(failure) => {
                    let failure = self.advise(failure);
                    note(&failure.message());
                    exit = crate::failure::Exit(failure.code);
                }
            }
        }
        Ok(exit)
    }
}

/// Writes to standard error. When nobody reads it there is nobody to tell, so a failure is ignored.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether a person reads standard error on a terminal.
pub(crate) fn person_reads_errors() -> bool {
    io::stderr().is_terminal()
}
