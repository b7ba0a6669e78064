//! Builders, and the processes that carry out their steps, killed at every stage of a step.

use super::{Context, build, built, has, run, steps};
use crate::host::{Host, Running, eventually, kill};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A step that is done, and one that says so and never ends.
const ENDLESS: &str = "FROM BASE\nRUN echo done > /done\nRUN echo begun; sleep 1000000\n";

/// The same, to its end.
fn ending(host: &Host) -> String {
    ENDLESS.replace("BASE", &host.image("busybox")).replace("sleep 1000000", "echo ended > /ended")
}

/// Starts a build whose step `begun` runs.
fn begun(host: &Host, context: &Context) -> Running {
    let mut builder = build(host, context, &["-t", "web"]).spawn();
    builder.stderr.expect(" begun\n");
    builder
}

/// The process that carries out a step: a child of one of the builder's threads. Those of steps that are done have no command line any
/// more, and are there until the next step is done.
fn runner(builder: &Running) -> u32 {
    let threads = fs::read_dir(format!("/proc/{}/task", builder.pid())).unwrap();
    let children = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
    let children: Vec<u32> = children.collect::<String>().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let live =
        |pid: &&u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"tare-build-run"));
    *children.iter().find(live).unwrap_or_else(|| panic!("no runner among {children:?}"))
}

/// Kills a builder after the rest was done to it: stopped, it sees nothing of that.
fn kill_after(mut builder: Running, what: impl FnOnce(&Running)) {
    builder.signal(Signal::STOP);
    let stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
    };
    eventually("all threads of the builder stand still", || {
        fs::read_dir(format!("/proc/{}/task", builder.pid())).unwrap().flatten().all(stopped)
    });
    what(&builder);
    builder.signal(Signal::KILL);
    builder.wait();
}

/// What is half done in the store. Of pulls, which go on where they were, there is none here.
fn unfinished(host: &Host) -> Vec<PathBuf> {
    let folders = ["blobs/temporary", "images/temporary", "layers/temporary"];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(host.root().join(folder)).ok());
    entries.flatten().map(|entry| entry.unwrap().path()).collect()
}

/// The next build works, does nothing again that was done, and nothing is left of the one before it.
#[track_caller]
fn assert_goes_on(host: &Host, context: &Context, finished: &str, follows: &str) {
    let (ran, cached) = steps(&built(host, context, "web"));
    assert!(has(&cached, finished), "{finished} was done: {ran:?} {cached:?}");
    assert!(has(&ran, follows), "{follows} was not done: {ran:?} {cached:?}");
    host.assert_clean();
    assert_eq!(unfinished(host), Vec::<PathBuf>::new());
    assert_eq!(host.tare(&["system", "check", "-q"]).ok(), "");
}

#[test]
fn a_killed_builder_takes_its_step_with_it() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, ENDLESS);
    let mut builder = begun(&host, &context);
    builder.signal(Signal::KILL);
    builder.wait();
    // Its runner does it: no command is needed.
    host.assert_clean();
    context.write("Dockerfile", &ending(&host));
    assert_goes_on(&host, &context, "RUN echo done > /done", "RUN echo begun; echo ended > /ended");
    assert_eq!(run(&host, "web", &["cat", "/done", "/ended"]), "done\nended");
}

#[test]
fn a_killed_runner_fails_the_build() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, ENDLESS);
    let mut builder = begun(&host, &context);
    kill(runner(&builder), Signal::KILL);
    assert_eq!(builder.wait(), 1);
    let said = builder.stderr.rest();
    assert!(said.contains("Dockerfile:3\n") && said.contains("signal: 9"), "{said}");
    host.assert_clean();
    context.write("Dockerfile", &ending(&host));
    assert_goes_on(&host, &context, "RUN echo done > /done", "RUN echo begun; echo ended > /ended");
}

#[test]
fn what_both_leave_is_swept_by_the_next_build() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, ENDLESS);
    kill_after(begun(&host, &context), |builder| kill(runner(builder), Signal::KILL));
    // Nobody is left to end it, and all of it is there.
    let left = host.leaks();
    for kind in ["process", "cgroup", "interface", "mount", "file"] {
        assert!(left.iter().any(|line| line.starts_with(kind)), "{kind}: {left:?}");
    }
    assert!(left.iter().any(|line| line.contains("sleep 1000000")), "{left:?}");
    context.write("Dockerfile", &ending(&host));
    assert_goes_on(&host, &context, "RUN echo done > /done", "RUN echo begun; echo ended > /ended");
}

#[test]
fn what_both_leave_is_swept_by_a_prune() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, ENDLESS);
    kill_after(begun(&host, &context), |builder| kill(runner(builder), Signal::KILL));
    host.tare(&["builder", "prune", "-f"]).ok();
    host.assert_clean();
}

/// What a build says that waits for a cache, and for the same step.
const WAITS_FOR_CACHE: &str = "waiting for cache /cache, which another step has";
const WAITS_FOR_STEP: &str = "waiting for another build that does the same";

#[test]
fn a_build_that_waits_for_a_locked_cache_can_be_killed() {
    let Some(host) = Host::new() else { return };
    let cache = "--mount=type=cache,target=/cache,sharing=locked";
    let holding = Context::of_dockerfile(&host, &format!("FROM BASE\nRUN {cache} echo begun; sleep 1000000\n"));
    let waiting = Context::new(
        &host,
        "waiting",
        &[("Dockerfile", &format!("FROM BASE\nRUN echo done > /done\nRUN {cache} echo ended > /cache/ended\n"))],
    );
    let mut holder = begun(&host, &holding);
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        let mut waiter = build(&host, &waiting, &["-t", "web"]).spawn();
        waiter.stderr.expect(WAITS_FOR_CACHE);
        waiter.signal(signal);
        assert_ne!(waiter.wait(), 0, "{signal:?}");
        assert!(holder.is_running(), "it is another build");
    }
    // When who has the cache goes, whatever way, the next one has it.
    let mut waiter = build(&host, &waiting, &["-t", "web"]).spawn();
    let before = waiter.stderr.expect(WAITS_FOR_CACHE);
    kill(runner(&holder), Signal::KILL);
    let code = waiter.wait();
    let said = before + &waiter.stderr.rest();
    assert_eq!(code, 0, "{said}");
    let (_, cached) = steps(&said);
    assert!(has(&cached, "RUN echo done > /done"), "{cached:?}");
    assert_eq!(holder.wait(), 1);
    host.assert_clean();
    assert_eq!(unfinished(&host), Vec::<PathBuf>::new());
}

#[test]
fn a_layer_that_is_being_written_is_swept() {
    let Some(host) = Host::new() else { return };
    let context =
        Context::of_dockerfile(&host, "FROM BASE\nRUN echo done > /done\nCOPY large /large\nRUN echo ended > /ended\n");
    host.pull("busybox");
    let large = fs::File::create(context.file("large")).unwrap();
    large.set_len(1 << 30).unwrap();
    let builder = build(&host, &context, &["-t", "web"]).spawn();
    // Bytes of the layer are there, and it is far from whole.
    let begun = || unfinished(&host).iter().any(|path| holds_bytes(path));
    eventually("the layer is being written", begun);
    kill_after(builder, |_| assert!(begun(), "the layer was done sooner than it could be stopped"));
    assert_ne!(unfinished(&host), Vec::<PathBuf>::new());
    host.tare(&["system", "df"]).ok();
    assert_eq!(unfinished(&host), Vec::<PathBuf>::new(), "the next command sweeps");
    large.set_len(1 << 20).unwrap();
    assert_goes_on(&host, &context, "RUN echo done > /done", "COPY large /large");
    assert_eq!(run(&host, "web", &["stat", "-c", "%s", "/large"]), "1048576");
}

/// Whether more than a head of an archive is in a file, or in one of a folder.
fn holds_bytes(path: &Path) -> bool {
    let large = |path: &Path| fs::metadata(path).is_ok_and(|file| file.is_file() && file.size() > 1 << 16);
    large(path) || fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| large(&entry.path())))
}

#[test]
fn one_of_two_equal_builds_does_the_work() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(
        &host,
        "FROM BASE\nRUN --mount=type=cache,target=/count echo begun; echo once >> /count/runs; \
         while test -e /count/wait; do :; done; cp /count/runs /runs\n",
    );
    let seed = format!("FROM {}\nRUN --mount=type=cache,target=/count touch /count/wait\n", host.image("busybox"));
    host.tare(&["build", "-q", "-"]).input(seed).ok();
    let mut first = begun(&host, &context);
    let mut second = build(&host, &context, &["-t", "other"]).spawn();
    let before = second.stderr.expect(WAITS_FOR_STEP);
    let mounts = host.root().join("build/mounts");
    let folder = fs::read_dir(mounts).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(folder.join("data/wait")).unwrap();
    assert_eq!((first.wait(), second.wait()), (0, 0));
    let said = before + &second.stderr.rest();
    assert_eq!(steps(&said).1.len(), 1, "{said}");
    assert_eq!(fs::read_to_string(folder.join("data/runs")).unwrap(), "once\n");
    assert_eq!(super::id(&host, "web"), super::id(&host, "other"));

    // One that waits for another which is killed does the work itself.
    fs::write(folder.join("data/wait"), "").unwrap();
    let uncached = |name: &str| build(&host, &context, &["--no-cache", "-t", name]).spawn();
    let mut first = uncached("web");
    first.stderr.expect(" begun\n");
    let mut second = uncached("other");
    second.stderr.expect(WAITS_FOR_STEP);
    first.signal(Signal::KILL);
    first.wait();
    second.stderr.expect(" begun\n");
    fs::remove_file(folder.join("data/wait")).unwrap();
    assert_eq!(second.wait(), 0, "{}", second.stderr.rest());
    assert_eq!(fs::read_to_string(folder.join("data/runs")).unwrap(), "once\nonce\nonce\n");
    host.assert_clean();
}
