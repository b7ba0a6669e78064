//! Contexts, images and repositories made to attack whoever builds with them; the numbers are those of the table of attacks.

use crate::build::local::{build, built, context, path, shown, with_busybox};
use crate::host::Host;
use std::fs;
use std::os::unix::fs::symlink;

/// A folder of the host with a secret, which nothing may read or write.
fn outside(host: &Host) -> String {
    context(host, "outside", &[("secret", "of the host")])
}

#[track_caller]
fn assert_untouched(host: &Host) {
    let names: Vec<_> =
        fs::read_dir(host.folder().join("outside")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(fs::read_to_string(host.folder().join("outside/secret")).unwrap(), "of the host");
}

/// Links of a context lead nowhere but into the context: COPY, bind mounts, the Dockerfile and the rules.
#[test]
fn links_of_contexts_stay_inside() {
    let Some(host) = with_busybox() else { return };
    let outside = outside(&host);
    let folder = context(&host, "context", &[("Dockerfile", "FROM busybox:1\n")]);
    let root = host.folder().join("context");
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../outside", root.join("up")).unwrap();
    symlink("../outside/secret", root.join("file")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    for source in ["absolute/secret", "up/secret", "file", &format!("magic{outside}/secret"), "../outside/secret"] {
        for dockerfile in [
            format!("FROM busybox:1\nCOPY {source} /stolen\n"),
            format!("FROM busybox:1\nRUN --network=none --mount=source={source},target=/m cat /m\n"),
        ] {
            let failed = build(&host, &["-f", "-", &folder]).input(dockerfile.clone()).fails(1);
            assert!(!failed.stderr.contains("of the host"), "{dockerfile}: {}", failed.stderr);
        }
    }
    // Copied with the whole, they are links; followed by what runs, they lead into the image.
    let whole = "FROM busybox:1\nCOPY . /all\nRUN --network=none --mount=target=/m ! cat /m/file /m/up/secret /all/absolute/secret 2>/dev/null\n";
    let output = build(&host, &["-t", "app", "-f", "-", &folder]).input(whole).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    for name in ["Dockerfile", ".dockerignore"] {
        let hostile = context(&host, &format!("hostile{name}"), &[("Dockerfile", "FROM busybox:1\nCOPY . /\n")]);
        let link = host.folder().join(format!("hostile{name}")).join(name);
        let _ = fs::remove_file(&link);
        symlink(format!("{outside}/secret"), &link).unwrap();
        let told = build(&host, &[&hostile]).output();
        assert!(!told.stderr.contains("of the host"), "{name}: {}", told.stderr);
    }
    assert_untouched(&host);
}

/// Row 12: links of an image lead COPY, WORKDIR and mounts nowhere but into the image.
#[test]
fn links_of_images_stay_inside() {
    let Some(host) = with_busybox() else { return };
    let outside = outside(&host);
    let climb = format!("../../../../../../../../../..{outside}");
    let evil = format!(
        "FROM busybox:1\nRUN --network=none ln -s {outside} /absolute; ln -s {climb} /up; ln -s /proc/1/root{outside} /magic\n"
    );
    let folder = context(&host, "context", &[("Dockerfile", &evil), ("a", "written")]);
    built(&host, &["-t", "evil", &folder]);
    for link in ["absolute", "up", "magic"] {
        for statement in [
            format!("COPY a /{link}/made"),
            format!("COPY a /{link}/secret"),
            format!("COPY --link a /{link}/made"),
            format!("WORKDIR /{link}/made"),
            format!("ADD <<x /{link}/\nx\nx"),
            format!("COPY --from=evil /{link}/secret /stolen"),
            format!("RUN --network=none --mount=from=evil,source={link},target=/m ! cat /m/secret"),
            format!("RUN --network=none --mount=type=cache,target=/{link}/made echo x > /{link}/made/x"),
            format!("RUN --network=none --mount=type=tmpfs,target=/{link}/made true"),
            format!("RUN --network=none --mount=target=/{link}/made true"),
            format!("RUN --network=none --mount=type=secret,id=s,target=/{link}/made true"),
        ] {
            let dockerfile = format!("FROM evil\n{statement}\n");
            // It may work inside of the image, or be refused.
            let told = build(&host, &["--secret", "id=s,env=HOME", "-f", "-", &folder]).input(dockerfile).output();
            assert!(!told.stderr.contains("of the host"), "{statement}: {}", told.stderr);
            assert_untouched(&host);
        }
    }
}

/// Row 12: a cache folder whose contents are links, seen by the next build.
#[test]
fn links_in_caches_stay_inside() {
    let Some(host) = with_busybox() else { return };
    let outside = outside(&host);
    let dockerfile = format!(
        "FROM busybox:1\nRUN --network=none --mount=type=cache,target=/c ln -s {outside} /c/link\nRUN --network=none --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/link/made true\n"
    );
    let folder = context(&host, "context", &[("Dockerfile", &dockerfile)]);
    build(&host, &[&folder]).output();
    assert_untouched(&host);
    // Given back without following them.
    host.tare(&["builder", "prune", "-a", "-f"]).ok();
    assert_untouched(&host);
}

/// Row 13: nothing privileged happens that the person has not allowed.
#[test]
fn steps_have_no_privilege_that_was_not_asked_for() {
    let Some(host) = with_busybox() else { return };
    // Each attempt that works says so.
    let script = "grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; mknod /b b 8 0 2>/dev/null && head -c1 /b 2>/dev/null && echo read; (echo 1 > /proc/sys/kernel/panic) 2>/dev/null && echo wrote; ls /dev | tr '\\n' ' '";
    let dockerfile = format!("FROM busybox:1\nRUN --network=none ({script}) > /seen\n");
    let folder = context(&host, "context", &[("Dockerfile", &dockerfile)]);
    built(&host, &["-t", "app", &folder]);
    let seen = shown(&host, "app", &["cat", "/seen"]);
    let of_run = shown(&host, "busybox:1", &["sh", "-c", script]);
    assert!(!["mounted", "read\n", "wrote"].iter().any(|word| seen.contains(word)), "{seen}");
    assert!(seen.contains("00000000a80425fb") && seen.contains("Seccomp:\t2"), "{seen}");
    let word = |text: &str| {
        text.lines().filter(|line| line.starts_with("Cap") || line.starts_with("Sec")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(word(&seen), word(&of_run), "as `tare run`");
    for (flag, name) in [("--security=insecure", "security.insecure"), ("--network=host", "network.host")] {
        let asking = context(&host, "asking", &[("Dockerfile", &format!("FROM busybox:1\nRUN {flag} touch /x\n"))]);
        let refused = build(&host, &[&asking]).fails(1);
        assert!(refused.stderr.contains(&format!("{name} is not allowed")), "{}", refused.stderr);
        // Neither does an image ask for it that a stage starts from.
        let trigger =
            context(&host, "trigger", &[("Dockerfile", &format!("FROM busybox:1\nONBUILD RUN {flag} touch /x\n"))]);
        built(&host, &["-t", "trigger", &trigger]);
        let child = context(&host, "child", &[("Dockerfile", "FROM trigger\n")]);
        let refused = build(&host, &[&child]).fails(1);
        assert!(refused.stderr.contains(&format!("{name} is not allowed")), "{}", refused.stderr);
    }
}

/// Row 14, CVE-2026-33748: the sub-folder of a git source is a link that leads out of the checkout.
#[test]
fn folders_of_repositories_stay_inside() {
    let Some(host) = with_busybox() else { return };
    let outside = outside(&host);
    fs::write(host.folder().join("outside/Dockerfile"), "FROM busybox:1\nCOPY secret /stolen\n").unwrap();
    let folder = context(&host, "repo", &[("inside/Dockerfile", "FROM busybox:1\n")]);
    let root = host.folder().join("repo");
    symlink(&outside, root.join("absolute")).unwrap();
    symlink(format!("../../../../../../../..{outside}"), root.join("up")).unwrap();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-C", &folder];
        host.command("git", &[&identity, arguments].concat()).ok()
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "evil"]);
    // By itself: killed through `git`, it would stay.
    let daemon = format!("{}/git-daemon", host.command("git", &["--exec-path"]).ok());
    let base = format!("--base-path={}", path(&host, ""));
    let _server =
        host.command(&daemon, &["--reuseaddr", "--export-all", "--listen=127.0.0.1", "--port=9418", &base]).spawn();
    crate::host::eventually("the git server answers", || {
        host.command("git", &["ls-remote", "git://127.0.0.1/repo"]).output().code == 0
    });
    let adding = |sub: &str| {
        format!("FROM busybox:1\nADD git://127.0.0.1/repo#main:{sub} /src\nRUN --network=none cat /src/*\n")
    };
    let inside = build(&host, &["-"]).input(adding("inside")).output();
    assert_eq!(inside.code, 0, "{}", inside.stderr);
    for sub in ["absolute", "up", "../outside", "inside/../../outside"] {
        let failed = build(&host, &["-"]).input(adding(sub)).fails(1);
        assert!(!failed.stderr.contains("of the host"), "{sub}: {}", failed.stderr);
        // As the context, too.
        let failed = build(&host, &["-t", "stolen", &format!("git://127.0.0.1/repo#main:{sub}")]).fails(1);
        assert!(!failed.stderr.contains("of the host"), "{sub}: {}", failed.stderr);
    }
}

/// Row 15, CVE-2024-24557: an image with the files of another one and an evil configuration gives its results to nobody.
#[test]
fn a_forged_configuration_does_not_poison_the_cache() {
    let Some(host) = with_busybox() else { return };
    let evil = context(
        &host,
        "evil",
        &[("Dockerfile", "FROM busybox:1\nSHELL [\"/bin/sh\", \"-c\", \"echo evil > /result #\"]\nENV A=1\n")],
    );
    built(&host, &["-t", "evil", &evil]);
    let layers = |image: &str| host.inspect(image, "/RootFS/Layers");
    assert_eq!(layers("evil"), layers("busybox:1"));
    let result = |base: &str| {
        let dockerfile = format!("FROM {base}\nRUN --network=none echo good > /result\n");
        let folder = context(&host, "child", &[("Dockerfile", &dockerfile)]);
        built(&host, &["-t", "child", &folder]);
        shown(&host, "child", &["cat", "/result"])
    };
    assert_eq!(result("evil"), "evil");
    assert_eq!(result("busybox:1"), "good");
}
