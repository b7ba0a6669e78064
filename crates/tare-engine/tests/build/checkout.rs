//! What git brings, from a server of this machine.

use crate::host::{Host, loopback_up, until};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use tare_build::executor::{Checkout, Executor, ExecutorError, GitSource};
use tare_spec::ErrorKind;

crate::cases! {
    references_of_all_kinds_are_found, a_folder_of_it_stays_inside, the_git_folder_stays_if_it_is_wanted,
    submodules_come_with_it, submodules_lead_nowhere_else, nothing_of_the_hosts_configuration_counts,
    what_is_not_there_is_named, a_cancelled_fetch_ends, without_git_it_says_so, without_git,
}

/// The port of git's own protocol (RFC: `git://`), free in a network namespace of our own.
const PORT: u16 = 9418;

/// Repositories, and a server for them; ended when dropped.
struct Server {
    folder: PathBuf,
    daemon: Child,
}

impl Server {
    fn start(host: &Host) -> Self {
        loopback_up();
        let folder = host.path("served");
        fs::create_dir(&folder).unwrap();
        // By its own name: ended, `git daemon` would leave it behind.
        let programs = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        let programs = PathBuf::from(String::from_utf8(programs).unwrap().trim());
        let daemon = Command::new(programs.join("git-daemon"))
            .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--base-path={}", folder.display()))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        until("git daemon does not listen", || TcpStream::connect(("127.0.0.1", PORT)).is_ok());
        Self { folder, daemon }
    }

    /// Runs git in a repository.
    fn git(&self, repository: &str, arguments: &[&str]) -> String {
        let folder = self.folder.join(repository);
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("git");
        command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "me").env(format!("GIT_{who}_EMAIL"), "me@example.org");
            command.env(format!("GIT_{who}_DATE"), "2020-01-01T00:00:00Z");
        }
        let output = command.args(["-c", "protocol.file.allow=always"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits all that is there; its digits.
    fn commit(&self, repository: &str, message: &str) -> String {
        self.git(repository, &["add", "-A"]);
        self.git(repository, &["commit", "-q", "--allow-empty", "-m", message]);
        self.git(repository, &["rev-parse", "HEAD"])
    }

    /// A repository with two commits, the second one on `main`, tagged `v2`.
    fn repository(&self, name: &str) -> [String; 2] {
        self.git(name, &["init", "-q", "-b", "main"]);
        let folder = self.folder.join(name);
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(folder.join("sub/file"), "first").unwrap();
        let first = self.commit(name, "first");
        fs::write(folder.join("sub/file"), "second").unwrap();
        let second = self.commit(name, "second");
        self.git(name, &["tag", "-a", "v2", "-m", "annotated"]);
        self.git(name, &["branch", "side/way", &first]);
        [first, second]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn source(fragment: &str) -> GitSource {
    GitSource::parse(&format!("git://127.0.0.1/{fragment}")).unwrap().unwrap()
}

fn check_out(host: &Host, fragment: &str) -> Result<Checkout, ExecutorError> {
    host.executor().checkout(&source(fragment))
}

fn contents(checkout: &Checkout, path: &str) -> String {
    fs::read_to_string(checkout.folder.join(path)).unwrap()
}

fn references_of_all_kinds_are_found() {
    let host = Host::new();
    let server = Server::start(&host);
    let [first, second] = server.repository("a");
    let tag = server.git("a", &["rev-parse", "v2"]);
    for (fragment, commit, text) in [
        ("a", &second, "second"),
        ("a#main", &second, "second"),
        ("a#v2", &second, "second"),
        ("a#refs/tags/v2", &second, "second"),
        ("a?tag=v2", &second, "second"),
        ("a#side/way", &first, "first"),
        ("a?branch=side/way", &first, "first"),
        (&format!("a#{first}"), &first, "first"),
        (&format!("a?commit={second}"), &second, "second"),
        (&format!("a?checksum={}", &second[..12]), &second, "second"),
        (&format!("a?tag=v2&checksum={tag}"), &second, "second"),
    ] {
        let checkout = check_out(&host, fragment).unwrap_or_else(|error| panic!("{fragment}: {error}"));
        assert_eq!((&checkout.commit, contents(&checkout, "sub/file").as_str()), (commit, text), "{fragment}");
        let names: Vec<_> = fs::read_dir(&checkout.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["sub"], "{fragment}");
        let found = fs::metadata(checkout.folder.join("sub/file")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o644, 0));
        let folder = checkout.folder.clone();
        drop(checkout);
        assert!(!folder.exists());
    }
    let error = check_out(&host, &format!("a?branch=main&checksum={first}")).err().unwrap();
    assert!(error.to_string().contains(&format!("expected commit {first}, got {second}")), "{error}");
    // A commit that has no name any more, and one that nobody knows.
    server.git("a", &["branch", "-D", "side/way"]);
    assert_eq!(check_out(&host, &format!("a#{first}")).unwrap().commit, first);
    let error = check_out(&host, &format!("a#{}", "0".repeat(40))).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unavailable), "{error}");
    host.assert_clean();
}

/// CVE-2026-33748: a folder of the repository that is a link.
fn a_folder_of_it_stays_inside() {
    let host = Host::new();
    let server = Server::start(&host);
    server.repository("a");
    let folder = server.folder.join("a");
    fs::create_dir(host.path("outside")).unwrap();
    symlink(host.path("outside"), folder.join("absolute")).unwrap();
    symlink("../".repeat(12), folder.join("up")).unwrap();
    symlink("/proc/self/root", folder.join("magic")).unwrap();
    symlink("sub", folder.join("good")).unwrap();
    symlink("/sub", folder.join("rooted")).unwrap();
    server.commit("a", "links");
    for path in ["sub", "good", "rooted", "/sub", "good/../sub"] {
        let checkout = check_out(&host, &format!("a#main:{path}")).unwrap();
        assert_eq!(contents(&checkout, "file"), "second", "{path}");
        assert!(checkout.folder.ends_with("tree/sub"));
    }
    for path in ["absolute", "up/etc", "magic", "magic/etc", "sub/file", "none", ".git"] {
        let error = check_out(&host, &format!("a#main:{path}")).err().unwrap();
        assert_eq!(error.kind, ErrorKind::InvalidParameter, "{path}: {error}");
    }
    // As far up as there is: the top of the checkout.
    assert_eq!(contents(&check_out(&host, "a#main:up").unwrap(), "sub/file"), "second");
    let by_hand = GitSource { folder: "../../../../../..".to_owned(), ..source("a") };
    assert_eq!(contents(&host.executor().checkout(&by_hand).unwrap(), "sub/file"), "second");
    host.assert_clean();
}

fn the_git_folder_stays_if_it_is_wanted() {
    let host = Host::new();
    let server = Server::start(&host);
    let [_, second] = server.repository("a");
    let checkout = check_out(&host, "a?tag=v2&keep-git-dir=1").unwrap();
    let git = |checkout: &Checkout, arguments: &[&str]| {
        let mut command = Command::new("git");
        let output = command.arg("-C").arg(&checkout.folder).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // The index says nothing of times: two are the same.
    let index = |checkout: &Checkout| fs::read(checkout.folder.join(".git/index")).unwrap();
    let again = check_out(&host, "a?tag=v2&keep-git-dir=1").unwrap();
    assert!(index(&checkout) == index(&again));
    assert_eq!(git(&checkout, &["rev-parse", "HEAD"]), second);
    assert_eq!(git(&checkout, &["describe", "--tags"]), "v2");
    assert_eq!(git(&checkout, &["status", "--porcelain"]), "");
    assert_eq!(git(&checkout, &["config", "remote.origin.url"]), "git://127.0.0.1/a");
    for name in ["logs", "hooks", "FETCH_HEAD"] {
        assert!(!checkout.folder.join(".git").join(name).exists(), "{name}");
    }
}

fn submodules_come_with_it() {
    let host = Host::new();
    let server = Server::start(&host);
    server.repository("inner");
    server.git("outer", &["init", "-q", "-b", "main"]);
    let inner = server.folder.join("inner").display().to_string();
    server.git("outer", &["submodule", "-q", "add", &inner, "deep/inner"]);
    server.git("outer", &["config", "-f", ".gitmodules", "submodule.deep/inner.url", "../inner"]);
    server.commit("outer", "with a submodule");
    let checkout = check_out(&host, "outer").unwrap();
    assert_eq!(contents(&checkout, "deep/inner/sub/file"), "second");
    assert!(!checkout.folder.join("deep/inner/.git").exists() && !checkout.folder.join(".git").exists());
    // With git's folder two are the same, and git finds no change in them.
    let index = || {
        let checkout = check_out(&host, "outer?keep-git-dir=1").unwrap();
        let folder = checkout.folder.join(".git/modules/deep/inner");
        assert!(!folder.join("logs").exists() && !folder.join("FETCH_HEAD").exists());
        let files = [folder.join("index"), checkout.folder.join(".git/index")].map(|path| fs::read(path).unwrap());
        // It writes the index anew.
        let status = Command::new("git").arg("-C").arg(&checkout.folder).args(["status", "--porcelain"]).output();
        assert_eq!(String::from_utf8(status.unwrap().stdout).unwrap(), "");
        files
    };
    assert!(index() == index());
}

fn submodules_lead_nowhere_else() {
    let host = Host::new();
    let server = Server::start(&host);
    server.repository("inner");
    server.git("outer", &["init", "-q", "-b", "main"]);
    let inner = server.folder.join("inner").display().to_string();
    server.git("outer", &["submodule", "-q", "add", &inner, "inner"]);
    let ran = host.path("ran");
    for url in [
        inner.clone(),
        format!("file://{inner}"),
        format!("ext::sh -c 'touch {}'", ran.display()),
        format!("-u{}", ran.display()),
        format!("ssh://-oProxyCommand=touch${{IFS}}{}/x", ran.display()),
    ] {
        server.git("outer", &["config", "-f", ".gitmodules", "submodule.inner.url", &url]);
        server.commit("outer", "hostile");
        let error = check_out(&host, "outer").err();
        assert!(error.is_some(), "{url}");
        assert!(!ran.exists(), "{url}");
    }
    host.assert_clean();
}

fn nothing_of_the_hosts_configuration_counts() {
    let host = Host::new();
    let server = Server::start(&host);
    server.repository("a");
    // Hooks and attributes of the repository itself are not run, whoever committed them.
    let (ran, folder) = (host.path("ran"), server.folder.join("a"));
    fs::create_dir_all(folder.join(".githooks")).unwrap();
    let hook = format!("#!/bin/sh\ntouch {}\n", ran.display());
    fs::write(folder.join(".githooks/post-checkout"), hook).unwrap();
    fs::set_permissions(folder.join(".githooks/post-checkout"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    fs::write(folder.join(".gitattributes"), "* filter=evil\n").unwrap();
    fs::write(folder.join(".gitconfig"), format!("[filter \"evil\"]\nsmudge = touch {}\n", ran.display())).unwrap();
    server.commit("a", "hostile");
    let checkout = check_out(&host, "a").unwrap();
    assert_eq!(contents(&checkout, "sub/file"), "second");
    assert!(!ran.exists());
}

fn what_is_not_there_is_named() {
    let host = Host::new();
    let server = Server::start(&host);
    server.repository("a");
    let error = check_out(&host, "a#no-such-branch").err().unwrap();
    assert!(error.kind == ErrorKind::NotFound && error.to_string().contains("no-such-branch"), "{error}");
    assert!(check_out(&host, "none").is_err());
    for hostile in [
        GitSource { remote: "--upload-pack=touch x".to_owned(), ..GitSource::default() },
        GitSource { remote: "ext::sh -c true".to_owned(), ..GitSource::default() },
        GitSource { reference: Some("--upload-pack=x".to_owned()), ..source("a") },
        GitSource { remote: server.folder.join("a").display().to_string(), ..GitSource::default() },
    ] {
        let error = host.executor().checkout(&hostile).err().unwrap();
        assert_eq!(error.kind, ErrorKind::InvalidParameter, "{error}");
    }
    drop(server);
    let error = check_out(&host, "a").err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    host.assert_clean();
}

fn a_cancelled_fetch_ends() {
    let host = Host::new();
    loopback_up();
    // One that takes connections and never answers.
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let executor = host.executor();
    let name = format!("silent-{}", std::process::id());
    std::thread::scope(|scope| {
        let checkout = scope.spawn(|| executor.checkout(&source(&name)));
        let _connection = listener.accept().unwrap();
        executor.cancel();
        assert_eq!(checkout.join().unwrap().err().unwrap().kind, ErrorKind::Cancelled);
    });
    let lives =
        |path: &Path| fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name));
    until("git goes on", || !fs::read_dir("/proc").unwrap().flatten().any(|entry| lives(&entry.path())));
    host.assert_clean();
}

fn without_git_it_says_so() {
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).args(["--exact", "without_git"]).env("PATH", "/nonexistent").status().unwrap();
    assert!(status.success());
}

/// Run by the case above.
fn without_git() {
    if std::env::var("PATH").as_deref() != Ok("/nonexistent") {
        return;
    }
    let host = Host::new();
    let error = host.executor().checkout(&source("a")).err().unwrap();
    assert!(error.to_string().contains("no program git"), "{error}");
    let failure = error.error.downcast::<tare_engine::Error>().unwrap();
    assert!(failure.hint().unwrap().contains("apt-get install git"));
    host.assert_clean();
}
