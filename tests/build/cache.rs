//! What is built again and what is not.

use super::{Context, build, built, has, id, run, steps};
use crate::host::Host;
use std::fs::File;
use std::time::{Duration, SystemTime};

const DOCKERFILE: &str = "FROM BASE\nRUN echo first > /first\nCOPY one /one\nRUN cat /one > /seen\nCOPY two /two\n";

fn context(host: &Host) -> Context {
    Context::new(host, "context", &[("Dockerfile", DOCKERFILE), ("one", "1\n"), ("two", "2\n")])
}

#[test]
fn a_changed_file_rebuilds_its_copy_and_what_follows() {
    let Some(host) = Host::new() else { return };
    let context = context(&host);
    let (ran, cached) = steps(&built(&host, &context, "web"));
    assert!(has(&ran, "RUN echo first > /first") && has(&ran, "COPY two /two") && !has(&cached, "COPY one /one"));
    let first = id(&host, "web");

    let (ran, cached) = steps(&built(&host, &context, "web"));
    assert!(has(&cached, "RUN echo first > /first") && has(&cached, "COPY two /two"), "{ran:?} {cached:?}");
    assert_eq!(id(&host, "web"), first);

    // A time is no content.
    let hour = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(context.file("one")).unwrap().set_modified(hour).unwrap();
    let (_, cached) = steps(&built(&host, &context, "web"));
    assert!(has(&cached, "COPY one /one") && has(&cached, "COPY two /two"), "{cached:?}");

    context.write("one", "changed\n");
    let output = build(&host, &context, &["-t", "web", "--explain"]).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let (ran, cached) = steps(&output.stderr);
    assert!(has(&cached, "RUN echo first > /first"), "{cached:?}");
    assert!(has(&ran, "COPY one /one") && has(&ran, "RUN cat /one > /seen") && has(&ran, "COPY two /two"), "{ran:?}");
    let why = |statement: &str| output.stdout.lines().find(|line| line.contains(statement)).unwrap().to_owned();
    assert!(output.stdout.starts_with("STEP"), "{}", output.stdout);
    assert!(why("RUN echo first").contains("yes"), "{}", output.stdout);
    assert!(why("COPY one").contains(" no ") && why("COPY one").contains("one changed"), "{}", output.stdout);
    assert_eq!(run(&host, "web", &["cat", "/seen"]), "changed");

    // Back as it was: nothing was forgotten.
    context.write("one", "1\n");
    let (_, cached) = steps(&built(&host, &context, "web"));
    assert!(has(&cached, "RUN cat /one > /seen") && has(&cached, "COPY two /two"), "{cached:?}");
    assert_eq!(id(&host, "web"), first);
}

#[test]
fn what_must_not_be_cached_is_not() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(
        &host,
        "FROM BASE AS one\nRUN cat /proc/sys/kernel/random/uuid > /chance\nFROM BASE AS two\n\
         RUN echo two > /two\nCOPY --from=one /chance /chance\n",
    );
    built(&host, &context, "web");
    let first = run(&host, "web", &["cat", "/chance"]);
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["cat", "/chance"]), first);
    let filtered = build(&host, &context, &["-t", "web", "--no-cache-filter", "one"]).output();
    let (ran, cached) = steps(&filtered.stderr);
    assert!(has(&cached, "RUN echo two > /two"), "{ran:?} {cached:?}");
    let second = run(&host, "web", &["cat", "/chance"]);
    assert_ne!(second, first);
    let (ran, cached) = steps(&build(&host, &context, &["-t", "web", "--no-cache"]).output().stderr);
    assert!(has(&ran, "RUN echo two > /two") && !has(&cached, "RUN echo two > /two"));
    assert_ne!(run(&host, "web", &["cat", "/chance"]), second);
}

#[test]
fn arguments_and_environment_are_part_of_what_is_cached() {
    let Some(host) = Host::new() else { return };
    let context =
        Context::of_dockerfile(&host, "FROM BASE\nARG A=default\nRUN echo \"$A\" > /a\nARG B\nRUN echo \"$B\" > /b\n");
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["cat", "/a", "/b"]), "default");
    build(&host, &context, &["-t", "web", "--build-arg", "B=2"]).ok();
    let (ran, cached) =
        steps(&build(&host, &context, &["-t", "web", "--build-arg", "B"]).env("B", "3").output().stderr);
    assert!(has(&cached, "RUN echo \"$A\" > /a") && has(&ran, "RUN echo \"$B\" > /b"), "{ran:?} {cached:?}");
    assert_eq!(run(&host, "web", &["cat", "/a", "/b"]), "default\n3");
}

#[test]
fn the_same_gives_the_same_image_everywhere() {
    let Some(host) = Host::new() else { return };
    let context = context(&host);
    let elsewhere = Context::new(&host, "elsewhere", &[("Dockerfile", DOCKERFILE), ("two", "2\n"), ("one", "1\n")]);
    let here = build(&host, &context, &["-q", "--progress=quiet"]).ok();
    let path = elsewhere.path();
    let there = host.tare_at(&host.folder().join("other-root"), &["build", "-q", &path]).ok();
    assert_eq!(here, there);
    let uncached = host.tare(&["build", "-q", "--no-cache", &path]).ok();
    assert_eq!(here, uncached);
    let at = |epoch: &str| host.tare(&["build", "-q", "--no-cache", &path]).env("SOURCE_DATE_EPOCH", epoch).ok();
    let early = at("1000000000");
    assert_eq!(early, at("1000000000"));
    assert_ne!(early, here);
    assert!(super::inspect(&host, &early, "/Created").as_str().unwrap().starts_with("2001-09-09T01:46:40"));
    assert_eq!(run(&host, &early, &["stat", "-c", "%Y", "/one"]), "1000000000");
}

#[test]
fn verify_finds_what_chance_made() {
    let Some(host) = Host::new() else { return };
    let context = context(&host);
    let verified = build(&host, &context, &["-t", "web", "--verify"]).output();
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    assert!(
        verified.stderr.contains(&format!("Verified: both builds gave {}", id(&host, "web"))),
        "{}",
        verified.stderr
    );
    context.write(
        "Dockerfile",
        &format!("FROM {}\nRUN cat /proc/sys/kernel/random/uuid > /chance\n", host.image("busybox")),
    );
    let differs = build(&host, &context, &["-t", "other", "--verify"]).fails(1);
    assert!(differs.stdout.contains("/chance") && differs.stdout.contains("random/uuid"), "{}", differs.stdout);
    assert!(differs.stderr.contains("ERROR: the two builds differ"), "{}", differs.stderr);
    host.tare(&["image", "inspect", "other"]).fails(1);
}
