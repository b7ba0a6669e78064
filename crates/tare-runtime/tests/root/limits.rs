//! Cgroups and resource limits.

use crate::bundle::Bundle;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tare_runtime::{Exit, Stdio};
use tare_spec::runtime::{Cpu, Memory, Pids, Resources, Rlimit};

crate::cases! {
    limits_are_in_the_kernels_files, a_memory_hog_is_killed, a_fork_bomb_is_stopped, rlimits_are_set_or_refused_clearly,
    a_plain_container_touches_no_v1_controller, an_aborted_container_leaves_nothing, killing_reaches_everything,
}

fn resources() -> Resources {
    Resources {
        memory: Some(Memory { limit: Some(32 << 20), ..Memory::default() }),
        cpu: Some(Cpu { quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
        pids: Some(Pids { limit: 20 }),
        ..Resources::default()
    }
}

/// Where this host keeps the limit that both names stand for.
fn limit_file(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let own = Path::new("tare").join(bundle.id.as_str());
    match bundle.cgroup().hierarchies().v1_mount(controller) {
        Some(mount) => mount.join(own).join(v1),
        None => bundle.cgroup().v2_directory().unwrap().join(v2),
    }
}

fn limits_are_in_the_kernels_files() {
    let mut bundle = Bundle::script("cat /proc/self/cgroup; ls /sys/fs/cgroup/*");
    bundle.linux().resources = Some(resources());
    let text = bundle.output();
    // In its own namespace the container sees its cgroups as roots.
    assert!(text.lines().any(|line| line.ends_with("pids:/") || line == "0::/"), "{text}");
    assert!(text.contains("memory.limit_in_bytes") || text.contains("memory.max"), "{text}");

    bundle.process().args = ["sh", "-c", "echo up; sleep 1000"].map(str::to_owned).into();
    let (running, mut stdout, _stderr) = bundle.start().unwrap();
    stdout.read_exact(&mut [0; 3]).unwrap();
    let read = |controller, v1, v2| fs::read_to_string(limit_file(&bundle, controller, v1, v2)).unwrap();
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max").trim(), "33554432");
    assert!(read("cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
    assert_eq!(read("pids", "pids.max", "pids.max").trim(), "20");
    assert!(read("pids", "cgroup.procs", "cgroup.procs").lines().any(|pid| pid == running.pid.to_string()));
    let swap = limit_file(&bundle, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    if let Ok(swap) = fs::read_to_string(swap) {
        assert!(["67108864", "33554432"].contains(&swap.trim()), "{swap}");
    }
    let stats = bundle.cgroup().stats();
    assert_eq!(stats.memory_limit_bytes, Some(33_554_432));
    assert!(stats.memory_bytes.is_some_and(|bytes| bytes > 0) && stats.cpu_nanoseconds.is_some(), "{stats:?}");
    bundle.cgroup().kill_all().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    bundle.cgroup().remove().unwrap();
    bundle.cgroup().remove().unwrap();
    bundle.assert_gone();
}

fn a_memory_hog_is_killed() {
    let mut bundle = Bundle::new(&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    bundle.linux().resources = Some(resources());
    assert_eq!(bundle.run().unwrap().exit, Exit::Signal(9));
}

fn a_fork_bomb_is_stopped() {
    let mut bundle = Bundle::script("i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done");
    bundle.linux().resources = Some(resources());
    let output = bundle.run().unwrap();
    assert!(output.stderr.contains("can't fork"), "{output:?}");
}

fn rlimits_are_set_or_refused_clearly() {
    let mut bundle = Bundle::new(&["cat", "/proc/self/limits"]);
    let limit = |hard| Rlimit { resource: "RLIMIT_NOFILE".into(), soft: 77, hard };
    bundle.process().rlimits = vec![limit(88)];
    let output = bundle.output();
    let line = output.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["77", "88"]);
    // fs.nr_open bounds it even for those who may raise limits.
    bundle.process().rlimits = vec![limit(1 << 40)];
    let error = bundle.run().unwrap_err();
    assert!(error.to_string().starts_with("set RLIMIT_NOFILE to 77:1099511627776"), "{error}");
}

fn a_plain_container_touches_no_v1_controller() {
    let bundle = Bundle::script("echo up; sleep 1000");
    let (running, mut stdout, _stderr) = bundle.start().unwrap();
    stdout.read_exact(&mut [0; 3]).unwrap();
    for mount in bundle.cgroup().hierarchies().v1.values() {
        assert!(!mount.join("tare").join(bundle.id.as_str()).exists(), "{}", mount.display());
    }
    running.signal(15).unwrap();
    running.signal(9).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    bundle.cgroup().remove().unwrap();
    bundle.assert_gone();
}

fn an_aborted_container_leaves_nothing() {
    let mut bundle = Bundle::new(&["true"]);
    bundle.linux().resources = Some(resources());
    let created = tare_runtime::create(bundle.request(Stdio::Null)).unwrap();
    assert!(created.network_namespace().is_ok());
    drop(created);
    bundle.assert_gone();
    bundle.process().args = vec!["missing".into()];
    assert_eq!(bundle.start().unwrap_err().exit_code(), 127);
    bundle.assert_gone();
}

fn killing_reaches_everything() {
    let mut bundle = Bundle::script(
        "for i in 1 2 3; do sleep 1000 & done; mkdir /sys/fs/cgroup/unified/in /sys/fs/cgroup/in; echo up; wait",
    );
    bundle.spec.mounts[4].options.retain(|option| option != "ro");
    let (running, mut stdout, _stderr) = bundle.start().unwrap();
    stdout.read_exact(&mut [0; 3]).unwrap();
    assert!(bundle.cgroup().processes().len() >= 4);
    // As another process would after the monitor died: by the id only, without a kill before.
    bundle.cgroup().remove().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    bundle.assert_gone();
}
