//! How a build is shown.

use super::{Context, build, says};
use crate::host::Host;
use serde_json::Value;

const DOCKERFILE: &str = "FROM BASE AS Build\nRUN echo out; echo err >&2\n";

#[test]
fn plain_progress_is_buildkits() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, DOCKERFILE);
    let output = build(&host, &context, &[]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    says(
        &output,
        &["#1 [internal] load build definition from Dockerfile\n", "[build 2/2] RUN echo out; echo err >&2\n"],
    );
    let number = output
        .stderr
        .lines()
        .find(|line| line.ends_with("RUN echo out; echo err >&2"))
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let of_step: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with(&format!("{number} "))).collect();
    assert_eq!(of_step.len(), 4, "{}", output.stderr);
    assert!(of_step[1].starts_with(&format!("{number} 0.")) && of_step[1].ends_with(" out"), "{of_step:?}");
    assert!(of_step[2].ends_with(" err") && of_step[3].starts_with(&format!("{number} DONE 0.")), "{of_step:?}");
    says(&output, &[" 1 warning found", " - StageNameCasing: ", "   1 | >>> FROM "]);
    // Without a terminal that is what auto means.
    let path = context.path();
    let automatic = host.tare(&["build", &path]).output();
    assert!(automatic.stderr.contains(" CACHED\n") && !automatic.stderr.contains('\x1b'), "{}", automatic.stderr);
}

#[test]
fn rawjson_is_an_object_a_line() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, DOCKERFILE);
    let path = context.path();
    let output = host.tare(&["build", "--progress=rawjson", &path]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    let messages: Vec<Value> = output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all = |field: &str| {
        messages.iter().filter_map(|message| message[field].as_array().cloned()).flatten().collect::<Vec<_>>()
    };
    let run =
        all("vertexes").into_iter().rfind(|vertex| vertex["name"].as_str().unwrap().contains("RUN echo")).unwrap();
    assert!(run["completed"].is_string() && run["started"].is_string(), "{run}");
    let logs: Vec<Value> = all("logs").into_iter().filter(|log| log["vertex"] == run["digest"]).collect();
    assert!(logs.iter().any(|log| log["data"] == "b3V0Cg==" && log["stream"] == 1), "{logs:?}");
    assert!(logs.iter().any(|log| log["data"] == "ZXJyCg==" && log["stream"] == 2), "{logs:?}");
}

#[test]
fn on_a_terminal_it_is_live() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUN true\nRUN exit 5\n");
    let path = context.path();
    let mut terminal = host.terminal(&["build", "-t", "web", &path]);
    terminal.expect("[+] Building 0.");
    terminal.expect("=> ERROR [3/3] RUN exit 5");
    terminal.expect("ERROR: failed to build: failed to solve: process \"/bin/sh -c exit 5\" did not complete successfully: exit code: 5");
    assert_eq!(terminal.wait(), 1);
}

#[test]
fn checks_need_no_build() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE AS Build\nRUN exit 1\n");
    let checked = build(&host, &context, &["--check"]).fails(1);
    assert!(
        checked.stdout.starts_with("Check complete, 1 warning has been found!\n\nWARNING: StageNameCasing"),
        "{}",
        checked.stdout
    );
    let path = context.path();
    let json = host.tare(&["build", "--call", "check,format=json,ignorestatus=true", &path]).ok();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["warnings"][0]["ruleName"], "StageNameCasing");
    assert!(host.tare(&["build", "--call=targets", &path]).ok().contains("build (default)"));
    context.write("Dockerfile", &format!("FROM {}\n", host.image("busybox")));
    assert_eq!(build(&host, &context, &["--check"]).ok(), "Check complete, no warnings found.");
}
