//! `RUN --mount=type=ssh` with OpenSSH's agent and OpenSSH's client inside of the step.

use super::{Context, build, holders, run, says};
use crate::host::{Host, Running, eventually};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An agent that holds one key; ends when dropped.
struct Agent {
    _running: Running,
    socket: String,
}

impl Agent {
    fn start(host: &Host, name: &str) -> Self {
        let path = |name: String| host.folder().join(name).display().to_string();
        let (socket, key) = (path(format!("{name}.socket")), path(name.to_owned()));
        let running = host.command("ssh-agent", &["-D", "-a", &socket]).spawn();
        eventually("the agent listens", || {
            host.command("ssh-add", &["-l"]).env("SSH_AUTH_SOCK", &socket).output().stdout
                == "The agent has no identities.\n"
        });
        host.command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &key]).ok();
        host.command("ssh-add", &["-q", &key]).env("SSH_AUTH_SOCK", &socket).ok();
        Self { _running: running, socket }
    }

    /// `--ssh` for this agent under an id.
    fn flag(&self, id: &str) -> String {
        format!("{id}={}", self.socket)
    }
}

/// A context with `ssh-add` and all that it loads, to be copied to the root of an image.
fn with_client(host: &Host, dockerfile: &str) -> Context {
    let context = Context::of_dockerfile(host, dockerfile);
    let program = host.command("sh", &["-c", "command -v ssh-add"]).ok();
    let libraries = host.command("ldd", &[&program]).ok();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for path in paths.chain([program.as_str()]) {
        let target = context.file("client").join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
    context
}

/// `ssh-add` of a step, which has no PATH to it.
const COPY: &str = "FROM BASE\nCOPY client /\nENV PATH=/bin:/usr/bin\n";

#[test]
fn keys_sign_in_the_step_and_stay_outside() {
    let Some(host) = Host::new() else { return };
    let agent = Agent::start(&host, "anna");
    let context = with_client(
        &host,
        &format!(
            "{COPY}COPY anna.pub /anna.pub\n\
             RUN --mount=type=ssh,required=true ssh-add -l > /seen && ssh-add -T /anna.pub && \
             stat -c '%a %u:%g' $SSH_AUTH_SOCK > /mode && echo $SSH_AUTH_SOCK > /where\n\
             RUN test -z \"$SSH_AUTH_SOCK\" && test ! -e \"$(cat /where)\" && ! ssh-add -l\n\
             USER user\nRUN --mount=type=ssh,uid=1000,target=/tmp/agent ssh-add -T /anna.pub && test $SSH_AUTH_SOCK = /tmp/agent\n"
        ),
    );
    fs::copy(host.folder().join("anna.pub"), context.file("anna.pub")).unwrap();
    let before = fs::metadata(&agent.socket).unwrap();
    let flag = agent.flag("default");
    let output = build(&host, &context, &["-t", "web", "--ssh", &flag]).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let listed = host.command("ssh-add", &["-l"]).env("SSH_AUTH_SOCK", &agent.socket).ok();
    assert!(listed.contains("anna (ED25519)"), "{listed}");
    assert_eq!(run(&host, "web", &["cat", "/seen"]), listed);
    assert_eq!(run(&host, "web", &["cat", "/mode"]), "600 0:0");
    assert_eq!(run(&host, "web", &["cat", "/where"]), "/run/buildkit/ssh_agent.0");
    // Neither the socket nor the place for it is in the image, and the key is nowhere at all.
    assert_eq!(run(&host, "web", &["find", "/", "-xdev", "(", "-type", "s", "-o", "-path", "/run/buildkit*", ")"]), "");
    let key = fs::read_to_string(host.folder().join("anna")).unwrap();
    assert_eq!(holders(&host, key.lines().nth(2).unwrap()), "");
    // The host's own socket is as it was.
    let after = fs::metadata(&agent.socket).unwrap();
    assert_eq!((after.mode(), after.uid(), after.ino()), (before.mode(), before.uid(), before.ino()));
    // Who asks for what is done already needs no agent.
    drop(agent);
    let again = build(&host, &context, &["-t", "web"]).output();
    assert_eq!((again.code, again.stderr.matches(" CACHED\n").count()), (0, 5), "{}", again.stderr);
    host.assert_clean();
}

#[test]
fn several_agents_are_told_apart() {
    let Some(host) = Host::new() else { return };
    let (anna, bert) = (Agent::start(&host, "anna"), Agent::start(&host, "bert"));
    let context = with_client(
        &host,
        &format!(
            "{COPY}RUN --mount=type=ssh,id=anna --mount=type=ssh,id=bert ssh-add -l > /first; \
             SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l > /second\n"
        ),
    );
    let flags = [anna.flag("anna"), bert.flag("bert")];
    build(&host, &context, &["-t", "web", "--ssh", &flags[0], "--ssh", &flags[1]]).ok();
    // As BuildKit has it: the first one is the one that programs find by themselves.
    assert!(run(&host, "web", &["cat", "/first"]).ends_with("anna (ED25519)"));
    assert!(run(&host, "web", &["cat", "/second"]).ends_with("bert (ED25519)"));
}

#[test]
fn agents_that_are_not_there() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUN --mount=type=ssh,required=true true\n");
    let missing = build(&host, &context, &[]).fails(1);
    says(&missing, &["Dockerfile:2\n", "unset ssh forward key default", "hint: `--ssh default` lends the agent"]);
    let base = host.image("busybox");
    let named = format!("FROM {base}\nRUN --mount=type=ssh,id=work,required=true true\n");
    context.write("Dockerfile", &named);
    says(&build(&host, &context, &[]).fails(1), &["unset ssh forward key work", "`--ssh work=SOCKET`"]);
    // What is not required is not there.
    context.write("Dockerfile", &format!("FROM {base}\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n"));
    build(&host, &context, &[]).ok();

    says(&build(&host, &context, &["--ssh", "default"]).fails(1), &["make sure SSH_AUTH_SOCK is set"]);
    let nothing = host.folder().join("nothing").display().to_string();
    says(
        &build(&host, &context, &["--ssh", "default"]).env("SSH_AUTH_SOCK", &nothing).fails(1),
        &[&format!("open {nothing}: no such file or directory")],
    );
    // One whose agent has gone and left its socket.
    let deaf = host.folder().join("deaf");
    drop(std::os::unix::net::UnixListener::bind(&deaf).unwrap());
    let flag = format!("default={}", deaf.display());
    let failed = build(&host, &context, &["--no-cache", "--ssh", &flag]).fails(1);
    says(&failed, &["connect to the SSH agent at", &flag["default=".len()..], "Connection refused"]);
    assert!(Path::new(&deaf).exists());
    host.assert_clean();
}
