//! Commands of RUN, CMD, ENTRYPOINT and HEALTHCHECK as words.

use super::mount::RunMount;
use crate::dockerfile::{Command, Healthcheck, Instruction, Problem, Run, duration};
use tare_spec::image;

/// Where BuildKit puts the script of a here-document.
const SCRIPTS: &str = "/dev/pipes";

/// Whether an instruction becomes a step.
pub(super) fn makes_files(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) => true,
        Instruction::Workdir(path) => path != "/",
        _ => false,
    }
}

/// A program and its arguments; no words mean none.
pub(super) fn with_shell(command: &Command, shell: Option<&[String]>) -> Option<Vec<String>> {
    match command {
        Command::Exec(words) => Some(words.clone()),
        Command::Shell(line) if line.is_empty() => None,
        Command::Shell(line) => Some(in_shell(line, shell)),
    }
}

fn in_shell(line: &str, shell: Option<&[String]>) -> Vec<String> {
    let shell = shell.map_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()], <[String]>::to_vec);
    shell.into_iter().chain([line.to_owned()]).collect()
}

/// The words of RUN, and the file that a script becomes which names its own interpreter.
pub(super) fn of_run(run: &Run, shell: Option<&[String]>) -> Result<(Vec<String>, Option<RunMount>), Problem> {
    let line = match &run.command {
        Command::Exec(_) if !run.documents.is_empty() => {
            return Err(Problem::Unsupported { feature: "a here-document in the JSON form of RUN".to_owned() });
        }
        Command::Exec(words) => return Ok((words.clone(), None)),
        Command::Shell(line) => line,
    };
    if line.is_empty() {
        return Ok(match run.documents.as_slice() {
            [] => (Vec::new(), None),
            [script, ..] if script.content.starts_with("#!") => {
                // The word may be any: as the name of a file it must not lead elsewhere.
                let is_plain =
                    |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let name = if is_plain(&script.name) { script.name.as_str() } else { "script" };
                let target = format!("{SCRIPTS}/{name}");
                let contents = script.content.clone();
                (in_shell(&target, shell), Some(RunMount::Script { target, contents }))
            }
            [script, ..] => (in_shell(&script.content, shell), None),
        });
    }
    let mut text = line.clone();
    for document in &run.documents {
        // The shell reads it as it stood; the tabs that `<<-` takes away are gone either way.
        text.push('\n');
        text.push_str(&document.content);
        text.push_str(&document.name);
    }
    Ok((in_shell(&text, shell), None))
}

/// What HEALTHCHECK puts into the configuration.
pub(super) fn healthcheck(check: &Healthcheck) -> Result<image::Healthcheck, Problem> {
    let test = match &check.command {
        None => vec!["NONE".to_owned()],
        Some(Command::Exec(words)) if words.is_empty() => {
            return Err(Problem::Arguments { instruction: "HEALTHCHECK", expected: "needs a command after CMD" });
        }
        Some(Command::Exec(words)) => ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect(),
        Some(Command::Shell(line)) if line.is_empty() => {
            return Err(Problem::Arguments { instruction: "HEALTHCHECK", expected: "needs a command after CMD" });
        }
        // CMD-SHELL means the image's shell when it is run.
        Some(Command::Shell(line)) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    // The parser has looked at all of them.
    let time = |text: &Option<String>| text.as_deref().map_or(Ok(0), duration);
    let retries = check.retries.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(image::Healthcheck {
        test,
        interval: time(&check.interval)?,
        timeout: time(&check.timeout)?,
        start_period: time(&check.start_period)?,
        start_interval: time(&check.start_interval)?,
        retries,
    })
}

/// As Go's `time.Duration` prints itself: `1m30s`, `1.5s`, `250ms`, `0s`.
pub(super) fn go_duration(nanoseconds: i64) -> String {
    let decimal = |value: f64, unit: &str| format!("{value}{unit}");
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => decimal(nanoseconds as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => decimal(nanoseconds as f64 / 1e6, "ms"),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = decimal((nanoseconds % 60_000_000_000) as f64 / 1e9, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (30_000_000_000, "30s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }
}
