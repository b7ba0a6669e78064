//! Several stages, and what they start from.

use super::{Context, build, built, has, inspect, run, says, steps};
use crate::host::Host;

#[test]
fn files_pass_from_stage_to_stage() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(
        &host,
        "ARG FROM=BASE\nFROM ${FROM} AS build\nRUN mkdir /out && echo made > /out/made && cp /bin/busybox /out/busybox\n\
         FROM ${FROM} AS unused\nRUN echo unused; exit 1\n\
         FROM scratch\nCOPY --from=build /out/ /\nCOPY --from=BASE /etc/passwd /passwd\nCMD [\"/busybox\", \"cat\", \"/made\", \"/passwd\"]\n",
    );
    let (ran, _) = steps(&built(&host, &context, "web"));
    assert!(!has(&ran, "RUN echo unused; exit 1"), "{ran:?}");
    assert!(run(&host, "web", &[]).starts_with("made\nroot:x:0:0:"));
    assert_eq!(inspect(&host, "web", "/RootFS/Layers").as_array().unwrap().len(), 2);
    let failed = build(&host, &context, &["--target", "unused"]).fails(1);
    says(&failed, &["unused 2/2] RUN echo unused; exit 1", "exit code: 1"]);
    build(&host, &context, &["-t", "build", "--target", "build"]).ok();
    assert_eq!(run(&host, "build", &["cat", "/out/made"]), "made");
}

#[test]
fn stages_run_at_the_same_time() {
    let Some(host) = Host::new() else { return };
    // Each waits for the other one: by a cache mount they see each other's files.
    let wait = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/meet touch /meet/{own}; until [ -e /meet/{other} ]; do :; done; echo {own} > /{own}\n"
        )
    };
    let text = format!(
        "FROM BASE AS one\n{}FROM BASE AS two\n{}FROM BASE\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
        wait("one", "two"),
        wait("two", "one")
    );
    let context = Context::of_dockerfile(&host, &text);
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["cat", "/one", "/two"]), "one\ntwo");
}

#[test]
fn labels_and_names_of_the_command_line() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nLABEL a=file b=file\n");
    build(&host, &context, &["-t", "one", "-t", "two:2", "--label", "a=line", "--label", "c"]).ok();
    assert_eq!(inspect(&host, "one", "/Config/Labels"), serde_json::json!({"a": "line", "b": "file", "c": ""}));
    assert_eq!(super::id(&host, "one"), super::id(&host, "two:2"));
}

#[test]
fn other_platforms_without_programs_of_theirs() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[("Dockerfile", "FROM scratch\nARG TARGETPLATFORM\nCOPY word /\nLABEL for=$TARGETPLATFORM\n"), ("word", "x")],
    );
    build(&host, &context, &["-t", "web", "--platform", "linux/arm64"]).ok();
    assert_eq!(inspect(&host, "web", "/Architecture"), "arm64");
    assert_eq!(inspect(&host, "web", "/Config/Labels/for"), "linux/arm64");
}
