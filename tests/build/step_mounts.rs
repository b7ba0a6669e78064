//! `RUN --mount`: caches, secrets, files of elsewhere.

use super::{Context, build, built, holders, run, says};
use crate::host::Host;

#[test]
fn secrets_reach_steps_and_nothing_else() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(
        &host,
        "FROM BASE\nRUN --mount=type=secret,id=token,required=true sha256sum < /run/secrets/token > /sum\n\
         RUN --mount=type=secret,id=env,env=NPM_TOKEN echo ${#NPM_TOKEN} > /length\nRUN ls /run/secrets 2>/dev/null; true\n",
    );
    let secret = "s3cret-that-nobody-else-has";
    let file = host.folder().join("token");
    std::fs::write(&file, secret).unwrap();
    let flag = format!("id=token,src={}", file.display());
    let flags = ["-t", "web", "--secret", &flag, "--secret", "id=env,env=TOKEN_OF_ENVIRONMENT"];
    let output = build(&host, &context, &flags).env("TOKEN_OF_ENVIRONMENT", "another-s3cret-that-nobody-has").output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(run(&host, "web", &["cat", "/length"]), "30");
    assert_eq!(holders(&host, secret) + &holders(&host, "another-s3cret-that-nobody-has"), "");
    assert!(!output.stderr.contains(secret), "{}", output.stderr);
    // Another value is no other build.
    std::fs::write(&file, "another").unwrap();
    let again = build(&host, &context, &flags).env("TOKEN_OF_ENVIRONMENT", "x").output();
    assert!(again.stderr.matches(" CACHED\n").count() >= 3, "{}", again.stderr);
    let without = build(&host, &context, &["--no-cache"]).fails(1);
    says(&without, &["token: not found", "hint: `--secret id=token,src=FILE`"]);
}

#[test]
fn caches_outlive_builds() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[
            (
                "Dockerfile",
                "FROM BASE\nCOPY word /word\nRUN --mount=type=cache,target=/cache cat /word >> /cache/words; cp /cache/words /seen; ls /cache\n",
            ),
            ("word", "one\n"),
        ],
    );
    built(&host, &context, "web");
    context.write("word", "two\n");
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["cat", "/seen"]), "one\ntwo");
    // The folder was made for the mount only.
    host.tare(&["run", "--rm", "--network", "none", "web", "test", "-e", "/cache"]).fails(1);
    host.tare(&["builder", "prune", "-a", "-f"]).ok();
    context.write("word", "three\n");
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["cat", "/seen"]), "three");
}

#[test]
fn files_of_the_context_and_of_stages_are_seen() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[
            (
                "Dockerfile",
                "FROM BASE AS made\nRUN echo made > /made\nFROM BASE\nRUN --mount=target=/src --mount=from=made,source=/made,target=/made \
                 --mount=type=tmpfs,target=/tmp/t cat /src/word /made > /seen && touch /tmp/t/x && ! touch /src/x\nRUN ls /src /made 2>/dev/null; true\n",
            ),
            ("word", "word\n"),
        ],
    );
    built(&host, &context, "web");
    assert_eq!(run(&host, "web", &["cat", "/seen"]), "word\nmade");
    assert!(!context.file("x").exists());
    assert_eq!(run(&host, "web", &["sh", "-c", "ls -A /src /tmp/t 2>/dev/null; true"]), "");
}

#[test]
fn privileges_must_be_allowed() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUN --security=insecure true\n");
    says(&build(&host, &context, &[]).fails(1), &["security.insecure is not allowed"]);
    build(&host, &context, &["--allow", "security.insecure"]).ok();
    context.write("Dockerfile", &format!("FROM {}\nRUN --network=host true\n", host.image("busybox")));
    says(&build(&host, &context, &[]).fails(1), &["network.host is not allowed"]);
    build(&host, &context, &["--allow", "network.host"]).ok();
}

#[test]
fn steps_have_the_network_that_is_asked_for() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(
        &host,
        "FROM BASE\nRUN cat /proc/net/dev | grep -c : > /interfaces; grep db /etc/hosts > /hosts; ulimit -n > /files\n",
    );
    let flags = ["-t", "web", "--network", "none", "--add-host", "db=10.9.8.7", "--ulimit", "nofile=123:456"];
    build(&host, &context, &flags).ok();
    assert_eq!(run(&host, "web", &["cat", "/interfaces", "/hosts", "/files"]), "1\n10.9.8.7\tdb\n123");
}

#[test]
fn a_cache_begins_with_what_another_stage_has() {
    let Some(host) = Host::new() else { return };
    let mount = "RUN --mount=type=cache,id=seeded,target=/cache,from=seed,source=data,sharing=locked";
    let dockerfile = |text: &str| {
        format!(
            "FROM BASE AS seed\nRUN mkdir -p /data/sub && echo {text} > /data/sub/file && chown 7:8 /data/sub/file && chmod 4750 /data/sub/file\n\
             FROM BASE\n{mount} stat -c '%u:%g %a' /cache/sub/file && cat /cache/sub/file && echo more >> /cache/sub/file\n\
             {mount} cat /cache/sub/file > /seen\n"
        )
    };
    let context = Context::of_dockerfile(&host, &dockerfile("one"));
    let output = build(&host, &context, &["-t", "web"]).output();
    says(&output, &[" 7:8 4750", " one"]);
    assert_eq!(run(&host, "web", &["cat", "/seen"]), "one\nmore");
    // Of another beginning it is another cache.
    context.write("Dockerfile", &dockerfile("two").replace("BASE", &host.image("busybox")));
    build(&host, &context, &["-t", "web"]).ok();
    assert_eq!(run(&host, "web", &["cat", "/seen"]), "two\nmore");
    context.write(
        "Dockerfile",
        &dockerfile("two").replace("BASE", &host.image("busybox")).replace("source=data", "source=none"),
    );
    let failed = build(&host, &context, &[]).fails(1);
    says(&failed, &["cannot open what the cache begins with at none: No such file or directory"]);
}
