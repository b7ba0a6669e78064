//! `login`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::terminal::{self, Answer};
use crate::ui::{Ui, note};
use std::io::{self, IsTerminal, Read};
use tare_engine::login::{self, Kept};
use tare_spec::reference::DEFAULT_REGISTRY;

pub(crate) static VERB: Verb = Verb {
    name: "login",
    names: &["login"],
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    flags: &[&[
        Flag::value("password", "string", "Password or Personal Access Token (PAT), or \"-\" to read from stdin")
            .short('p'),
        Flag::switch("password-stdin", "Take the Password or Personal Access Token (PAT) from stdin"),
        Flag::value("username", "string", "Username").short('u'),
    ]],
    arity: Arity::AtMost(1),
    stops_at_first_argument: false,
    run,
};

/// Far above any password or token.
const PASSWORD_LIMIT: u64 = 64 << 10;

/// Exit code of a person's Ctrl-C.
const INTERRUPTED: Exit = Exit(130);

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let given = Given::read(m)?;
    let server = registry(m.args.first().map_or("", String::as_str));
    if given.username.is_none() && given.password.is_none() && !given.stdin {
        match login::kept(&server)? {
            Kept::Password { username, accepted } => {
                note(&format!(
                    "Authenticating with existing credentials... [Username: {username}]\n\n Info -> To login with a different account, run 'tare logout' followed by 'tare login'\n\n\n"
                ));
                if accepted {
                    ui.line("Login Succeeded")?;
                    return Ok(Exit::SUCCESS);
                }
                note("Stored credentials invalid or expired\n");
            }
            Kept::Nothing | Kept::Token => {}
        }
    }
    let password = if given.stdin { Some(secret_of(&mut io::stdin().lock())?) } else { given.password };
    if (given.username.is_none() || password.is_none()) && !io::stdin().is_terminal() {
        return Err(Failure::new("cannot perform an interactive login from a non-TTY device"));
    }
    let username = match given.username {
        Some(username) => username,
        None => {
            if server == DEFAULT_REGISTRY {
                ui.line(ABOUT_DOCKER_HUB)?;
            }
            match terminal::ask("Username: ", true)? {
                Answer::Interrupted => return Ok(INTERRUPTED),
                Answer::Line(line) if line.trim().is_empty() => return Err(Failure::new("username is required")),
                Answer::Line(line) => line.trim().to_owned(),
            }
        }
    };
    let password = match password {
        Some(password) => password,
        None => match terminal::ask("Password: ", false)? {
            Answer::Interrupted => return Ok(INTERRUPTED),
            Answer::Line(line) if line.is_empty() => return Err(Failure::new("password is required")),
            Answer::Line(line) => line,
        },
    };
    let logged_in = login::login(&server, &username, &password)?;
    if !logged_in.secure {
        note(&format!(
            "WARNING! The password went to {server} without a trusted certificate: others may have read it.\n"
        ));
    }
    if let Some(path) = logged_in.unencrypted {
        note(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
            path.display()
        ));
    }
    ui.line("Login Succeeded")?;
    Ok(Exit::SUCCESS)
}

const ABOUT_DOCKER_HUB: &str = "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.\nYou can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/\n";

/// What the command line says.
struct Given {
    username: Option<String>,
    password: Option<String>,
    /// Whether standard input has the password.
    stdin: bool,
}

impl Given {
    fn read(m: &Matches) -> Result<Self, Failure> {
        let (username, password) = (m.one("username"), m.one("password"));
        let stdin = m.switch("password-stdin")? || password == Some("-");
        if stdin && password.is_some_and(|password| password != "-") {
            return Err(Failure::new("conflicting options: cannot specify both --password and --password-stdin"));
        }
        if stdin && username.is_none() {
            return Err(Failure::new("the --password-stdin option requires --username to be set"));
        }
        if username.is_some_and(|username| username.trim().is_empty()) {
            return Err(Failure::new("username is empty"));
        }
        if password == Some("") {
            return Err(Failure::new("password is empty"));
        }
        let password = password.filter(|_| !stdin);
        if password.is_some() {
            note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        }
        Ok(Self {
            username: username.map(|username| username.trim().to_owned()),
            password: password.map(str::to_owned),
            stdin,
        })
    }
}

/// The secret without the line's end behind it; everything else may belong to it.
fn secret_of(input: &mut dyn Read) -> Result<String, Failure> {
    let mut text = String::new();
    input
        .take(PASSWORD_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("read the password from standard input: {error}")))?;
    let secret = text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r'])).unwrap_or(&text);
    if secret.trim().is_empty() { Err(Failure::new("password is empty")) } else { Ok(secret.to_owned()) }
}

/// The registry that a server's name or URL means, as references name it.
pub(super) fn registry(server: &str) -> String {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match rest.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_by_name_or_url() {
        for (server, expected) in [
            ("", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000"),
            ("ghcr.io/someone", "ghcr.io"),
        ] {
            assert_eq!(registry(server), expected, "{server}");
        }
    }

    #[test]
    fn only_the_lines_end_is_cut_from_a_secret() {
        let secret = |text: &str| secret_of(&mut text.as_bytes()).map_err(|failure| failure.message());
        for (text, expected) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), (" a b\n\n", " a b\n")] {
            assert_eq!(secret(text).as_deref(), Ok(expected));
        }
        assert_eq!(secret("\n").unwrap_err(), "Error: password is empty\n");
    }
}
