//! Commands that are killed, or run out of disk, at every system call that changes a file; and many of them at once.
//!
//! `cargo xtask crash` runs these tests by themselves and shows how many calls there were.

mod together;
#[cfg(target_arch = "x86_64")] // the tracer knows its registers
mod tracer;
#[cfg(target_arch = "x86_64")]
mod trial;

#[cfg(target_arch = "x86_64")]
mod faults {
    use super::tracer::Fault;
    use super::trial::{Claim, Scenario};
    use crate::host::Host;

    fn pull(fault: Fault) {
        let Some(host) = Host::new() else { return };
        let image = host.image("tiny");
        Scenario::new(&host, &["pull", &image], vec![Claim::Present(image.clone())]).explore(fault);
    }

    fn load(fault: Fault) {
        let Some(host) = Host::new() else { return };
        let (tiny, other) = (host.pull("tiny"), host.pull("other"));
        let archive = host.folder().join("archive.tar").display().to_string();
        host.tare(&["save", "-o", &archive, &tiny, &other]).ok();
        host.tare(&["image", "prune", "-a", "-f"]).ok();
        let done = vec![Claim::Present(tiny), Claim::Present(other)];
        Scenario::new(&host, &["load", "-i", &archive], done).explore(fault);
    }

    fn commit(fault: Fault) {
        let Some(host) = Host::new() else { return };
        let image = host.pull("tiny");
        let script = "echo more > /data/more; rm /etc/old";
        host.tare(&["run", "--name", "box", "--network", "none", &image, "sh", "-c", script]).output();
        Scenario::new(&host, &["commit", "box", "made:1"], vec![Claim::Present("made:1".into())]).explore(fault);
    }

    fn build(fault: Fault) {
        let Some(host) = Host::new() else { return };
        let image = host.pull("tiny");
        let folder = host.folder().join("context");
        std::fs::create_dir(&folder).unwrap();
        // No RUN: what it starts is not traced for a fault. See `build::kills`.
        std::fs::write(folder.join("Dockerfile"), format!("FROM {image}\nCOPY . /context/\nWORKDIR /made\n")).unwrap();
        let arguments = ["build", "-q", "-t", "made:1", &folder.display().to_string()];
        Scenario::new(&host, &arguments, vec![Claim::Present("made:1".into())]).explore(fault);
    }

    fn rmi(fault: Fault) {
        let Some(host) = Host::new() else { return };
        let (tiny, other) = (host.pull("tiny"), host.pull("other"));
        let done = vec![Claim::Absent(tiny.clone()), Claim::Present(other)];
        Scenario::new(&host, &["rmi", &tiny], done).explore(fault);
    }

    fn prune(fault: Fault) {
        let Some(host) = Host::new() else { return };
        let (tiny, other) = (host.pull("tiny"), host.pull("other"));
        let done = vec![Claim::Absent(tiny), Claim::Absent(other)];
        Scenario::new(&host, &["image", "prune", "-a", "-f"], done).explore(fault);
    }

    macro_rules! each {
        ($($name:ident: $command:ident, $fault:ident;)*) => {
            $(#[test]
            fn $name() {
                $command(Fault::$fault);
            })*
        };
    }

    each! {
        pull_is_killed: pull, Kill;
        pull_meets_a_full_disk: pull, Full;
        pull_meets_a_broken_disk: pull, Broken;
        load_is_killed: load, Kill;
        load_meets_a_full_disk: load, Full;
        load_meets_a_broken_disk: load, Broken;
        commit_is_killed: commit, Kill;
        commit_meets_a_full_disk: commit, Full;
        commit_meets_a_broken_disk: commit, Broken;
        build_is_killed: build, Kill;
        build_meets_a_full_disk: build, Full;
        build_meets_a_broken_disk: build, Broken;
        rmi_is_killed: rmi, Kill;
        rmi_meets_a_full_disk: rmi, Full;
        rmi_meets_a_broken_disk: rmi, Broken;
        prune_is_killed: prune, Kill;
        prune_meets_a_full_disk: prune, Full;
        prune_meets_a_broken_disk: prune, Broken;
    }
}
