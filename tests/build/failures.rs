//! Builds that fail: what they say, and what they leave.

use super::{Context, build, has, says, steps};
use crate::host::Host;

#[test]
fn a_failing_step_says_where_and_why() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(
        &host,
        "FROM BASE\nRUN echo first > /first\n\nRUN echo \"it does\"; echo not work >&2; exit 3\nRUN true\n",
    );
    let failed = build(&host, &context, &["-t", "web"]).fails(1);
    assert_eq!(failed.stdout, "");
    says(
        &failed,
        &[
            " it does\n",
            " not work\n",
            "------\n > [3/4] RUN echo \"it does\"; echo not work >&2; exit 3:\n",
            "Dockerfile:4\n--------------------\n   2 |     RUN echo first > /first\n   3 |\n   4 | >>> RUN echo \"it does\"; echo not work >&2; exit 3\n   5 |     RUN true\n--------------------\n",
            "ERROR: failed to build: failed to solve: process \"/bin/sh -c echo \\\"it does\\\"; echo not work >&2; exit 3\" did not complete successfully: exit code: 3\n",
        ],
    );
    host.tare(&["image", "inspect", "web"]).fails(1);
    // What went well before is not done again.
    let (ran, cached) = steps(&build(&host, &context, &["-t", "web"]).fails(1).stderr);
    assert!(has(&cached, "RUN echo first > /first"), "{ran:?} {cached:?}");
    // Quietly, the output is still there.
    let quiet = build(&host, &context, &["-q", "--progress=quiet"]).fails(1);
    assert_eq!(quiet.stdout, "");
    says(&quiet, &["it does\n", "not work\n", "exit code: 3\n"]);
}

#[test]
fn commands_that_are_not_there() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUN mak all\n");
    let shell = build(&host, &context, &[]).fails(1);
    says(&shell, &["mak: not found", "exit code: 127\n", "hint: exit code 127: the image has no such command"]);
    context.write("Dockerfile", &format!("FROM {}\nRUN [\"mak\", \"all\"]\n", host.image("busybox")));
    let exec = build(&host, &context, &[]).fails(1);
    says(&exec, &["Dockerfile:2\n", "hint: the image has no program \"mak\""]);
}

#[test]
fn sources_that_are_not_there() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[
            ("Dockerfile", "FROM BASE\nCOPY server.log /\n"),
            (".dockerignore", "# what is not sent\n\n*.log\n"),
            ("server.log", ""),
            ("package.json", ""),
        ],
    );
    let ignored = build(&host, &context, &[]).fails(1);
    says(
        &ignored,
        &[
            "Dockerfile:2\n",
            "\"/server.log\": not found",
            "hint: server.log is there, but line 3 of .dockerignore leaves it out: *.log\n",
        ],
    );
    let base = host.image("busybox");
    context.write("Dockerfile", &format!("FROM {base}\nCOPY pakage.json /\n"));
    says(
        &build(&host, &context, &[]).fails(1),
        &["\"/pakage.json\": not found", "hint: did you mean \"package.json\""],
    );
    context.write("Dockerfile", &format!("FROM {base}\nCOPY ../secret /\n"));
    says(&build(&host, &context, &[]).fails(1), &["\"/secret\": not found"]);
}

#[test]
fn texts_that_are_no_dockerfile() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUNN true\n");
    let unknown = build(&host, &context, &[]).fails(1);
    says(
        &unknown,
        &["Dockerfile:2\n", " | >>> RUNN true\n", "dockerfile parse error on line 2: unknown instruction: RUNN"],
    );
    for (text, expected) in [
        ("", "the Dockerfile cannot be empty"),
        ("# nothing\n", "file with no instructions"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM scratch\nCOPY --from=nobody /x /\n", "nobody"),
        ("FROM scratch\nRUN true\n", "/bin/sh"),
    ] {
        context.write("Dockerfile", text);
        says(
            &build(&host, &context, &["--network", "none"]).fails(1),
            &["ERROR: failed to build: failed to solve: ", expected],
        );
    }
    context.write("Dockerfile", "FROM 127.0.0.1:5000/nothing\n");
    says(&build(&host, &context, &[]).fails(1), &["Dockerfile:1\n", "127.0.0.1:5000/nothing", "not found"]);
}

#[test]
fn stages_that_are_not_there() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE AS build\nFROM BASE AS test\n");
    says(
        &build(&host, &context, &["--target", "buidl"]).fails(1),
        &["target stage \"buidl\" could not be found", "hint: did you mean `--target build`?"],
    );
}
