//! The folders of `examples/`, built as they are with real packages of Debian, npm and PyPI.
//!
//! They take what this machine's apt, npm and pip would take, through a proxy: a host has no other way out.

use super::{Context, has, id, local, run, steps};
use crate::host::{Host, Proxy, Registry};
use std::path::Path;
use std::time::Duration;

/// Hundreds of packages are unpacked, beside other tests.
const PATIENCE: Duration = Duration::from_secs(600);

/// A host with a Debian under the name that the examples start from.
fn with_debian() -> Option<(Host, Proxy)> {
    let host = Host::new()?;
    local::load(&host, "debian", "debian:13");
    let proxy = Proxy::start(&host);
    Some((host, proxy))
}

/// A copy of an example, to be changed.
fn example(host: &Host, name: &str) -> Context {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).display().to_string();
    let folder = host.folder().join(name);
    host.command("cp", &["-r", &source, &folder.display().to_string()]).ok();
    Context { folder }
}

/// Builds under a name; gives back the progress.
#[track_caller]
fn built(host: &Host, context: &Context, name: &str) -> String {
    let (path, proxy) = (context.path(), Proxy::flags());
    let proxy: Vec<&str> = proxy.iter().map(String::as_str).collect();
    let arguments = [&["build", "--progress=plain", "-t", name], &proxy[..], &[&path]].concat();
    let output = host.tare(&arguments).within(PATIENCE).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stderr
}

#[test]
fn a_web_server_in_node() {
    let Some((host, _proxy)) = with_debian() else { return };
    let context = example(&host, "node");
    let (ran, _) = steps(&built(&host, &context, "goals"));
    assert!(has(&ran, "RUN npm install --no-audit --no-fund") && has(&ran, "COPY . ."), "{ran:?}");
    let answers = |expected: &str| {
        host.tare(&["run", "-d", "--rm", "--name", "web", "-p", "3000:80", "goals"]).ok();
        let answer = host.get("http://127.0.0.1:3000/");
        assert!(answer.starts_with(expected), "{answer}");
        host.tare(&["stop", "web"]).ok();
    };
    answers("My goals: learn about containers. Up for ");

    // A changed source runs the last COPY, and nothing before it.
    let server = std::fs::read_to_string(context.file("server.js")).unwrap();
    context.write("server.js", &server.replace("learn about containers", "rest"));
    let (ran, cached) = steps(&built(&host, &context, "goals"));
    let made = |titles: &[String]| {
        let of_layers =
            titles.iter().filter_map(|title| title.split_once("] ").map(|(_, statement)| statement.to_owned()));
        of_layers.filter(|statement| !statement.starts_with("FROM ")).collect::<Vec<_>>()
    };
    assert_eq!(made(&ran), ["COPY . ."]);
    let cached = made(&cached);
    assert!(cached[0].starts_with("RUN apt-get update "), "{cached:?}");
    assert_eq!(cached[1..], ["WORKDIR /app", "COPY package.json ./", "RUN npm install --no-audit --no-fund"]);
    answers("My goals: rest. Up for ");

    // What another engine's registry got is what was built.
    let storage = host.folder().join("storage");
    let _registry = Registry::start(&host, &storage, false);
    let pushed = "127.0.0.1:5000/team/goals:1";
    let built = id(&host, "goals");
    host.tare(&["tag", "goals", pushed]).ok();
    host.tare(&["push", "-q", pushed]).ok();
    host.tare(&["rmi", "goals", pushed]).ok();
    host.tare(&["builder", "prune", "-a", "-f"]).ok();
    host.tare(&["pull", "-q", pushed]).ok();
    assert_eq!(id(&host, pushed), built);
    assert!(run(&host, pushed, &["cat", "server.js"]).contains("My goals: rest."));
}

#[test]
fn a_program_in_c_alone() {
    let Some((host, _proxy)) = with_debian() else { return };
    let context = example(&host, "static");
    built(&host, &context, "hello");
    assert_eq!(run(&host, "hello", &[]), "Hello, world. I am user 65534.");
    assert_eq!(run(&host, "hello", &["you"]), "Hello, you. I am user 65534.");
    // Nothing of Debian is in it.
    let files = host.folder().join("files");
    host.tare(&["build", "-q", "-o", &files.display().to_string(), &context.path()]).ok();
    let names: Vec<_> = std::fs::read_dir(files).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["hello"]);
}

#[test]
fn a_program_in_python() {
    let Some((host, _proxy)) = with_debian() else { return };
    let context = example(&host, "python");
    built(&host, &context, "goals");
    assert_eq!(run(&host, "goals", &[]), "My first goal: learn about containers");
    // pip's downloads are kept for the next build, and are not in the image.
    assert_eq!(run(&host, "goals", &["sh", "-c", "find /root/.cache 2>/dev/null; id -un"]), "nobody");
    let kept = host.tare(&["builder", "du", "--format", "{{.Type}}: {{.Description}}"]).ok();
    assert!(kept.contains("exec.cachemount: mount /root/.cache/pip from exec"), "{kept}");
    let files =
        host.command("find", &[&host.root().join("build/mounts").display().to_string(), "-path", "*/data/*"]).ok();
    context.write("requirements.txt", "# Nothing new to load.\niniconfig==2.0.0\n");
    let again = built(&host, &context, "goals");
    // pip keeps nothing of a mirror that says nothing of how long it may.
    let expected = if files.is_empty() { "Downloading iniconfig-2.0.0" } else { "Using cached iniconfig-2.0.0" };
    assert!(again.contains(expected), "{files}\n{again}");
    let (_, cached) = steps(&again);
    assert!(has(&cached, "RUN python3 -m venv /venv"), "{cached:?}");
}
