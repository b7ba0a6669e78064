//! `exec`

use super::attach::{Caught, Ended, check_terminal, detach_keys};
use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::parse::{Arity, Matches};
use crate::flags::{DETACH_KEYS, Flag, env};
use crate::terminal;
use crate::ui::Ui;
use tare_engine::container::life::ExecRequest;
use tare_engine::container::spec::Streams;

pub(crate) static VERB: Verb = Verb {
    name: "exec",
    names: &["container exec", "exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    flags: &[&[
        Flag::switch("detach", "Detached mode: run command in the background").short('d'),
        DETACH_KEYS,
        Flag::value("env", "list", "Set environment variables").short('e'),
        Flag::value("env-file", "list", "Read in a file of environment variables"),
        Flag::switch("interactive", "Keep STDIN open even if not attached").short('i'),
        Flag::switch("tty", "Allocate a pseudo-TTY").short('t'),
        Flag::value("user", "string", "Username or UID (format: \"<name|uid>[:<group|gid>]\")").short('u'),
        Flag::value("workdir", "string", "Working directory inside the container").short('w'),
        Flag::no_switch("privileged"),
    ]],
    arity: Arity::AtLeast(2),
    stops_at_first_argument: true,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let refuse = |text: String| Failure::new(text).with_code(125);
    let keys = detach_keys(m)?;
    m.read_all("env", env::check_variable)?;
    let detached = m.switch("detach")?;
    let terminal = m.switch("tty")?;
    let stdin = m.switch("interactive")? && !detached;
    check_terminal(stdin, terminal)?;
    let size = if terminal && !detached { terminal::size() } else { None };
    let request = ExecRequest {
        command: m.args[1..].to_vec(),
        env: env::environment(m.all("env-file"), m.all("env"), |name| std::env::var(name).ok()).map_err(refuse)?,
        working_dir: m.one("workdir").filter(|path| !path.is_empty()).map(str::to_owned),
        user: m.one("user").filter(|user| !user.is_empty()).map(str::to_owned),
        terminal,
        size,
        streams: Streams { stdin, stdout: !detached, stderr: !detached },
    };
    let engine = ui.engine()?;
    // Docker passes no signals on to a process of exec, so Ctrl-C ends this program only.
    let caught = Caught::before_start(terminal, stdin, false, keys)?;
    let session = engine.exec(&m.args[0], &request).map_err(|error| {
        let code = error.start_exit_code().and_then(|code| u8::try_from(code).ok());
        let failure = Failure::from(error);
        let code = code.unwrap_or(failure.code);
        failure.with_code(code)
    })?;
    if detached {
        return Ok(Exit::SUCCESS);
    }
    match caught.carry(session, &engine, None)? {
        Ended::Exited(code) => Ok(Exit(code)),
        Ended::Detached => Ok(Exit::SUCCESS),
    }
}
