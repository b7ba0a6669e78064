//! How long a start takes, shown rather than judged: machines differ. `cargo xtask bench` has the budgets.

use crate::bundle::Bundle;
use std::time::Instant;
use tare_runtime::{CreateRequest, Exit, RootFilesystem, Stdio};

crate::cases! { a_start_is_measured }

fn a_start_is_measured() {
    measure("directory", |bundle, _| RootFilesystem::Directory(bundle.rootfs()));
    measure("overlay", |bundle, _| overlay(bundle, 0, false));
    // Each time a new one, as for containers that are removed at their end.
    measure("volatile overlay", |bundle, round| overlay(bundle, round, true));
}

fn overlay(bundle: &Bundle, round: usize, volatile: bool) -> RootFilesystem {
    let folder = |name: &str| {
        let folder = bundle.folder.path().join(format!("{name}{round}"));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    RootFilesystem::Overlay { lower: vec![bundle.rootfs()], upper: folder("upper"), work: folder("work"), volatile }
}

fn measure(name: &str, root: impl Fn(&Bundle, usize) -> RootFilesystem) {
    let rounds = std::env::var("TARE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let bundle = Bundle::new(&["/bin/true"]);
    let mut total = Vec::new();
    let mut parts: [Vec<u128>; 4] = Default::default();
    for round in 0..rounds {
        let root = root(&bundle, round);
        let begin = Instant::now();
        let created = tare_runtime::create(CreateRequest { root, ..bundle.request(Stdio::Null) }).unwrap();
        let made = begin.elapsed();
        let running = created.start().unwrap();
        let started = begin.elapsed();
        assert_eq!(running.wait().unwrap(), Exit::Code(0));
        let ended = begin.elapsed();
        bundle.cgroup().remove().unwrap();
        let all = begin.elapsed();
        for (times, part) in parts.iter_mut().zip([made, started - made, ended - started, all - ended]) {
            times.push(part.as_micros());
        }
        total.push(ended.as_micros());
    }
    let median = |mut times: Vec<u128>| {
        times.sort_unstable();
        (times[times.len() / 2], times[0])
    };
    println!(
        "{name}: create, start, wait, remove: {:?} µs; until the end {:?} µs (median, least)",
        parts.map(median),
        median(total)
    );
}
