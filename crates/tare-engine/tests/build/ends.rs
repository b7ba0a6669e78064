//! How steps end that do not end by themselves, and what is left then: nothing.

use crate::host::{Host, has_no_cgroup, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use tare_build::executor::{Executor, MountSource, Network};
use tare_spec::ErrorKind;

crate::cases! {
    a_build_that_is_cancelled_ends, a_killed_runner_is_seen, a_killed_builder_is_cleaned_up_after,
    a_step_without_memory_is_told, killed_together_they_are_swept, what_others_work_in_is_not_swept, an_error_leaves_nothing,
}

const FOREVER: &str = "trap '' TERM INT; echo $$ ready; sleep 1000000 & wait; sleep 1000000";

/// The runner of a step, by its argument.
fn runner(id: &str) -> Pid {
    let mut found = None;
    until("no runner", || {
        found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let is_it = line == format!("{}\0{id}\0", tare_engine::BUILD_RUN_NAME).into_bytes();
            is_it.then(|| entry.file_name().to_str().unwrap().parse().unwrap())
        });
        found.is_some()
    });
    Pid::from_raw(found.unwrap()).unwrap()
}

fn a_build_that_is_cancelled_ends() {
    let host = Host::new();
    let executor = host.executor();
    let id = Mutex::new(String::new());
    let step = host.script(FOREVER).network(Network::Default);
    let error = step.run_told(&executor, |text| {
        if text.ends_with("ready\n") {
            *id.lock().unwrap() = host.id();
            executor.cancel();
        }
    });
    assert_eq!(error.err().unwrap().kind, ErrorKind::Cancelled);
    assert!(has_no_cgroup(&id.lock().unwrap()));
    host.assert_clean();
    assert_eq!(host.script("true").run(&executor).err().unwrap().kind, ErrorKind::Cancelled);
    let wanted = tare_build::executor::WantedImage { name: "hello", platform: &tare_spec::Platform::host(), step: 0 };
    assert_eq!(executor.image(&wanted).err().unwrap().kind, ErrorKind::Cancelled);
}

fn a_step_without_memory_is_told() {
    let host = Host::new();
    fs::create_dir(host.path("go")).unwrap();
    let go = MountSource::Folder(host.path("go"));
    let wait = "echo ready; until [ -e /go/go ]; do sleep 0.01; done";
    // The whole of it, or a part whose end another one survives.
    for (rest, code) in [("exec tail -c 200000000 /dev/zero", 137), ("tail -c 200000000 /dev/zero; exit 3", 3)] {
        let step = host.script(&format!("{wait}; {rest}")).mount("/go", true, go.clone());
        let ended = step.run_told(&host.executor(), |text| {
            if text.ends_with("ready\n") {
                let id = host.id();
                // Of version 2 and of version 1; of version 1 the limit of memory and swap together must not be lower.
                let files = [
                    ("tare", "memory.max"),
                    ("tare", "memory.swap.max"),
                    ("memory/tare", "memory.limit_in_bytes"),
                    ("memory/tare", "memory.memsw.limit_in_bytes"),
                ];
                for (folder, file) in files {
                    let limit = if file == "memory.swap.max" { "0" } else { "16777216" };
                    let path = Path::new("/sys/fs/cgroup").join(folder).join(&id).join(file);
                    if path.exists() {
                        fs::write(path, limit).unwrap();
                    }
                }
                fs::write(host.path("go/go"), "").unwrap();
            }
        });
        let ended = ended.unwrap();
        assert_eq!((ended.code, ended.finished.out_of_memory), (code, true));
        drop(ended);
        fs::remove_file(host.path("go/go")).unwrap();
    }
    let ended = host.script("sh -c 'kill -9 $$'; exit $?").run(&host.executor()).unwrap();
    assert_eq!((ended.code, ended.finished.out_of_memory), (137, false));
}

fn a_killed_runner_is_seen() {
    let host = Host::new();
    let id = Mutex::new(String::new());
    let step = host.script(FOREVER).network(Network::Default);
    let error = step.run_told(&host.executor(), |text| {
        if text.ends_with("ready\n") {
            *id.lock().unwrap() = host.id();
            kill_process(runner(&host.id()), Signal::KILL).unwrap();
        }
    });
    let error = error.err().unwrap();
    assert!(error.to_string().contains("signal: 9"), "{error}");
    assert!(has_no_cgroup(&id.lock().unwrap()));
    host.assert_clean();
}

/// Runs a step in a process of its own and returns when it is under way; its id.
fn builder(host: &Host) -> (tare_sys::clone::Child, String) {
    let ready = host.path("ready");
    let child = tare_sys::clone::spawn(tare_sys::clone::CloneOptions::default(), || {
        let step = host.script(FOREVER).network(Network::Default);
        let _ = step.run_told(&host.executor(), |text| {
            if text.ends_with("ready\n") {
                fs::write(host.path("ready.new"), host.id()).unwrap();
                fs::rename(host.path("ready.new"), host.path("ready")).unwrap();
            }
        });
        0
    });
    until("no step", || ready.exists());
    let id = fs::read_to_string(&ready).unwrap();
    (child.unwrap(), id)
}

fn kill(builder: &tare_sys::clone::Child) {
    rustix::process::pidfd_send_signal(&builder.pidfd, Signal::KILL).unwrap();
    let id = rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&builder.pidfd));
    rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).unwrap();
}

fn a_killed_builder_is_cleaned_up_after() {
    let host = Host::new();
    let (child, id) = builder(&host);
    kill(&child);
    until("the runner did not clean up", || host.work().is_empty());
    until("the cgroup stays", || has_no_cgroup(&id));
    host.assert_clean();
}

fn killed_together_they_are_swept() {
    let host = Host::new();
    let (child, id) = builder(&host);
    let runner = runner(&id);
    // Stopped first, so that it cannot see the builder's end.
    kill_process(runner, Signal::STOP).unwrap();
    kill(&child);
    kill_process(runner, Signal::KILL).unwrap();
    until("the lock is held", || {
        host.engine.sweep_builds().unwrap();
        host.work().is_empty()
    });
    assert!(has_no_cgroup(&id));
    host.assert_clean();
}

fn what_others_work_in_is_not_swept() {
    let host = Host::new();
    fs::create_dir_all(host.path("root/build/work/somebody's own")).unwrap();
    let ended = host.script("echo x >/made; echo running").run_told(&host.executor(), |_| {
        host.engine.sweep_builds().unwrap();
        assert_eq!(host.work().len(), 2);
    });
    let ended = ended.unwrap();
    host.engine.sweep_builds().unwrap();
    assert_eq!(ended.changes(), ["made=x"]);
    let (child, id) = builder_beside(&host);
    host.engine.sweep_builds().unwrap();
    assert!(host.work().contains(&id));
    kill(&child);
    until("the runner did not clean up", || !host.work().contains(&id));
    assert!(host.path("root/build/work/somebody's own").exists());
}

/// As [`builder`], where other folders are.
fn builder_beside(host: &Host) -> (tare_sys::clone::Child, String) {
    let before = host.work();
    let child = tare_sys::clone::spawn(tare_sys::clone::CloneOptions::default(), || {
        let _ = host.script(FOREVER).run_told(&host.executor(), |text| {
            if text.ends_with("ready\n") {
                fs::write(host.path("ready"), "").unwrap();
            }
        });
        0
    });
    until("no step", || host.path("ready").exists());
    let id = host.work().difference(&before).next().unwrap().clone();
    (child.unwrap(), id)
}

fn an_error_leaves_nothing() {
    let host = Host::new();
    let mut step = host.script("true").network(Network::Default);
    // A file where a folder must be: found out by the first process, when network and cgroup are there.
    step.cwd = "/etc/passwd".to_owned();
    assert!(step.run(&host.executor()).is_err());
    host.assert_clean();
    step.cwd = "/".to_owned();
    step.lower = vec![host.path("missing")];
    assert!(step.run(&host.executor()).is_err());
    host.assert_clean();
    step.lower = vec!["/proc/self/no".into()];
    assert!(step.run(&host.executor()).is_err());
    host.assert_clean();
}
