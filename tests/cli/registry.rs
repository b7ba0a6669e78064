//! Logins and pushes: what is asked, what is kept, what is shown.

use crate::host::{Host, Running};
use rustix::termios::LocalModes;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// `user` with the password `secret`.
const USERS: &str = "user:$2y$05$/B/scfMGnjLetqmgX3/ujuRY9aK0r2Ko87aBDqLtGv9EBlVGHeuZ2\n";

/// A registry that lets in nobody else; killed when dropped. Its address comes with it.
fn guarded(host: &Host) -> (Running, String) {
    let users = host.folder().join("htpasswd");
    fs::write(&users, USERS).unwrap();
    let users = users.display().to_string();
    let storage = host.folder().join("guarded").display().to_string();
    let serve = ["registry", "serve", "-q", "--addr", "127.0.0.1:0", "--root", &storage, "--htpasswd", &users];
    let mut running = host.tare(&serve).spawn();
    let line = running.stdout.expect("\n");
    (running, line.trim().replace("http://", ""))
}

#[test]
fn a_login_is_kept_until_the_logout() {
    let Some(host) = Host::new() else { return };
    let (_registry, address) = guarded(&host);
    let wrong = host.tare(&["login", "-u", "user", "--password-stdin", &address]).input("guess\n").fails(1);
    assert!(wrong.stderr.contains("unauthorized"), "{}", wrong.stderr);
    assert!(!host.folder().join(".docker/config.json").exists());
    let login = host.tare(&["login", "-u", "user", "--password-stdin", &address]).input("secret\n").output();
    assert_eq!((login.code, login.stdout.as_str()), (0, "Login Succeeded\n"), "{}", login.stderr);
    assert!(login.stderr.contains("WARNING! Your credentials are stored unencrypted in '"), "{}", login.stderr);
    let file = host.folder().join(".docker/config.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("dXNlcjpzZWNyZXQ="));
    let again = host.tare(&["login", &address]).output();
    assert_eq!((again.code, again.stdout.as_str()), (0, "Login Succeeded\n"), "{}", again.stderr);
    assert!(
        again.stderr.starts_with("Authenticating with existing credentials... [Username: user]"),
        "{}",
        again.stderr
    );

    let image = host.pull("busybox");
    let target = format!("{address}/team/web:1");
    host.tare(&["tag", &image, &target]).ok();
    let push = host.tare(&["push", &target]).ok();
    assert!(push.starts_with(&format!("The push refers to repository [{address}/team/web]\n")), "{push}");
    assert!(push.contains(": Preparing\n") && push.contains(": Pushed\n"), "{push}");
    let digest =
        push.lines().last().unwrap().strip_prefix("1: digest: ").unwrap().split(' ').next().unwrap().to_owned();
    assert!(push.lines().last().unwrap().contains(" size: "), "{push}");
    let again = host.tare(&["push", "-a", &format!("{address}/team/web")]).ok();
    assert!(again.contains(": Layer already exists\n"), "{again}");
    assert_eq!(host.tare(&["push", "-q", &target]).ok(), target);

    let logout = host.tare(&["logout", &address]).ok();
    assert_eq!(logout, format!("Removing login credentials for {address}"));
    let refused = host.tare(&["push", &target]).fails(1);
    assert!(refused.stderr.contains("hint: `tare login`"), "{}", refused.stderr);
    host.tare(&["login", "-u", "user", "-p", "secret", &address]).ok();
    host.tare(&["rmi", &image, &target]).ok();
    let pulled = host.tare(&["pull", "-a", &format!("{address}/team/web")]).ok();
    assert!(pulled.starts_with("1: Pulling from team/web\n") && pulled.contains(&digest), "{pulled}");
    assert!(
        pulled.ends_with(&format!("Status: Downloaded newer image for {address}/team/web\n{address}/team/web")),
        "{pulled}"
    );
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let Some(host) = Host::new() else { return };
    let (_registry, address) = guarded(&host);
    let mut terminal = host.terminal(&["login", &address]);
    terminal.expect("Username: ");
    terminal.set_echo();
    terminal.write("user\n");
    terminal.expect("Password: ");
    assert!(!terminal.modes().local_modes.contains(LocalModes::ECHO));
    terminal.write("secret\n");
    let shown = terminal.expect("Login Succeeded");
    assert_eq!(terminal.wait(), 0);
    assert!(shown.contains("stored unencrypted") && !shown.contains("secret"), "{shown}");
    assert!(terminal.modes().local_modes.contains(LocalModes::ECHO));
    let silent = host.tare(&["login", "-u", "user", &address]).fails(1);
    assert!(silent.stderr.contains("cannot perform an interactive login from a non-TTY device"), "{}", silent.stderr);
}

#[test]
fn an_interrupted_question_leaves_the_terminal_as_it_was() {
    let Some(host) = Host::new() else { return };
    let mut terminal = host.terminal(&["login", "127.0.0.1:1"]);
    terminal.expect("Username: ");
    terminal.set_echo();
    terminal.write("user\n");
    terminal.expect("Password: ");
    terminal.write("\x03");
    assert_eq!(terminal.wait(), 130);
    assert!(terminal.modes().local_modes.contains(LocalModes::ECHO));
}

#[test]
fn what_cannot_be_pushed_says_why() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["tag", &image, "127.0.0.1:5000/busybox:v2"]).ok();
    let missing = host.tare(&["push", "127.0.0.1:5000/busybox:v3"]).fails(1);
    assert!(
        missing.stderr.contains("hint: there is `127.0.0.1:5000/busybox:latest`, `127.0.0.1:5000/busybox:v2` here"),
        "{}",
        missing.stderr
    );
    let inspected = host.tare(&["history", "127.0.0.1:5000/busybox:v3"]).fails(1);
    assert!(inspected.stderr.contains("hint: there is `127.0.0.1:5000/busybox:latest`"), "{}", inspected.stderr);
    let unknown = host.tare(&["push", "127.0.0.1:5000/none"]).fails(1);
    assert!(unknown.stderr.contains("hint: `tare tag IMAGE 127.0.0.1:5000/none:latest`"), "{}", unknown.stderr);
    let all = host.tare(&["push", "-a", "127.0.0.1:5000/busybox:v2"]).fails(1);
    assert!(all.stderr.contains("tag can't be used with --all-tags/-a"), "{}", all.stderr);
    let other = host.tare(&["push", "--platform", "linux/arm64", &image]).fails(1);
    assert!(other.stderr.contains("does not match the specified platform"), "{}", other.stderr);
}

#[test]
fn layers_change_in_place_on_a_terminal_and_fit_it() {
    let Some(host) = Host::new() else { return };
    let image = host.image("web");
    let mut terminal = host.terminal(&["pull", &image]);
    terminal.resize(24, 60);
    terminal.expect("latest: Pulling from web\r\n");
    let shown = terminal.expect(&format!("Status: Downloaded newer image for {image}:latest"));
    assert_eq!(terminal.wait(), 0);
    assert!(
        shown.contains("\x1b[J") && shown.contains(": Pull complete\r\n") && shown.contains("Digest: sha256:"),
        "{shown:?}"
    );
    // The window may have been resized only after the first lines.
    assert!(shown.split("\r\n").all(|line| line.chars().count() <= 100), "{shown:?}");
    let plain = host.tare(&["pull", &image]).ok();
    assert!(plain.contains(": Already exists\n") && !plain.contains('\x1b'), "{plain}");
}
