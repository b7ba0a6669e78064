//! Where files and Dockerfiles come from.

use super::{Context, archive, build, built, run, says};
use crate::host::Host;
use std::os::unix::fs::symlink;

#[test]
fn standard_input_is_a_dockerfile_or_an_archive() {
    let Some(host) = Host::new() else { return };
    let base = host.image("busybox");
    let text = format!("FROM {base}\nRUN echo from stdin > /said\n");
    host.tare(&["build", "-t", "one", "-"]).input(text.as_bytes()).ok();
    assert_eq!(run(&host, "one", &["cat", "/said"]), "from stdin");

    let context = Context::new(
        &host,
        "context",
        &[
            ("Dockerfile", "FROM BASE\nCOPY word /said\n"),
            ("sub/Other", "FROM BASE\nCOPY word /other\n"),
            ("word", "in the archive\n"),
        ],
    );
    let tar = archive(&host, &context.folder);
    host.tare(&["build", "-t", "two", "-"]).input(tar.clone()).ok();
    assert_eq!(run(&host, "two", &["cat", "/said"]), "in the archive");
    host.tare(&["build", "-t", "three", "-f", "sub/Other", "-"]).input(tar.clone()).ok();
    assert_eq!(run(&host, "three", &["cat", "/other"]), "in the archive");
    let name = host.folder().join("archive.tar").display().to_string();
    host.command("gzip", &[&name]).ok();
    let compressed = std::fs::read(host.folder().join("archive.tar.gz")).unwrap();
    host.tare(&["build", "-t", "four", "-"]).input(compressed).ok();
    assert_eq!(super::id(&host, "four"), super::id(&host, "two"));

    let text = format!("FROM {base}\nCOPY word /said\n");
    build(&host, &context, &["-t", "five", "-f", "-"]).input(text).ok();
    assert_eq!(run(&host, "five", &["cat", "/said"]), "in the archive");

    let both = host.tare(&["build", "-f", "-", "-"]).fails(1);
    says(&both, &["ERROR: failed to build: invalid argument: can't use stdin for both build context and dockerfile"]);
    says(
        &host.tare(&["build", "-f", "missing", "-"]).input(tar).fails(1),
        &["failed to read dockerfile: open missing: no such file or directory"],
    );
    says(&host.tare(&["build", "-"]).fails(1), &["the Dockerfile cannot be empty"]);
}

#[test]
fn a_dockerfile_may_be_anywhere() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[("word", "of the context\n"), ("dockerfile", "FROM BASE\nCOPY word /small\n")],
    );
    built(&host, &context, "small");
    assert_eq!(run(&host, "small", &["cat", "/small"]), "of the context");
    let outside = Context::new(&host, "outside", &[("web.Dockerfile", "FROM BASE\nCOPY word /said\n")]);
    let path = outside.file("web.Dockerfile").display().to_string();
    build(&host, &context, &["-t", "web", "-f", &path]).ok();
    assert_eq!(run(&host, "web", &["cat", "/said"]), "of the context");
}

#[test]
fn a_missing_dockerfile_is_looked_for() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(&host, "context", &[("Containerfile", "FROM BASE\n")]);
    let missing = build(&host, &context, &[]).fails(1);
    let path = context.path();
    says(
        &missing,
        &[
            "ERROR: failed to build: failed to solve: failed to read dockerfile: open Dockerfile: no such file or directory\n",
            &format!("hint: {path} has Containerfile: `-f {path}/Containerfile` names it\n"),
        ],
    );
}

#[test]
fn ignored_files_stay_out() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[
            ("Dockerfile", "FROM BASE\nCOPY . /all/\n"),
            (".dockerignore", "**/*.log\n!keep.log\nnode_modules\n"),
            ("a.log", "x"),
            ("keep.log", "x"),
            ("sub/b.log", "x"),
            ("sub/c", "x"),
            ("node_modules/big", "xxxxxxxxxx"),
            ("other.Dockerfile", "FROM BASE\nCOPY . /all/\n"),
            ("other.Dockerfile.dockerignore", "*\n!sub\n"),
        ],
    );
    let list = |name: &str| run(&host, name, &["sh", "-c", "cd /all && find . -type f | sort"]);
    built(&host, &context, "web");
    let all = list("web");
    assert_eq!(
        all.lines().collect::<Vec<_>>(),
        [
            "./.dockerignore",
            "./Dockerfile",
            "./keep.log",
            "./other.Dockerfile",
            "./other.Dockerfile.dockerignore",
            "./sub/c"
        ]
    );
    let other = context.file("other.Dockerfile").display().to_string();
    build(&host, &context, &["-t", "other", "-f", &other]).ok();
    assert_eq!(list("other").lines().collect::<Vec<_>>(), ["./sub/b.log", "./sub/c"]);

    let explained = build(&host, &context, &["--explain-context"]).ok();
    let line = |name: &str| explained.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(explained.starts_with("Sent: "), "{explained}");
    assert!(line("sub/b.log").ends_with("line 1: **/*.log"), "{explained}");
    assert!(line("node_modules").ends_with("line 3: node_modules"), "{explained}");
    assert!(!line("keep.log").contains("line"), "{explained}");
}

#[test]
fn links_do_not_lead_out() {
    let Some(host) = Host::new() else { return };
    std::fs::write(host.folder().join("secret"), "s3cret").unwrap();
    let context = Context::new(&host, "context", &[("Dockerfile", "FROM BASE\nCOPY out/secret /secret\n")]);
    symlink("..", context.file("out")).unwrap();
    let failed = build(&host, &context, &[]).fails(1);
    assert!(!failed.stderr.contains("s3cret"), "{}", failed.stderr);
    // As a link it is a file like any other.
    let base = host.image("busybox");
    context.write("Dockerfile", &format!("FROM {base}\nCOPY . /all/\n"));
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["readlink", "/all/out"]), "..");
}

#[test]
fn names_stand_for_other_contexts() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM debian\nCOPY --from=assets word /word\n");
    let assets = Context::new(&host, "assets", &[("word", "elsewhere\n")]);
    let image = format!("debian=docker-image://{}", host.image("busybox"));
    let folder = format!("assets={}", assets.path());
    build(&host, &context, &["-t", "web", "--build-context", &image, "--build-context", &folder]).ok();
    assert_eq!(run(&host, "web", &["cat", "/word"]), "elsewhere");
}
