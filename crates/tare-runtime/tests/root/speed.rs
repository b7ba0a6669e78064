//! How long a start takes, shown rather than judged: machines differ. `cargo xtask bench` has the budgets.

use crate::bundle::Bundle;
use std::time::Instant;
use tare_runtime::{Exit, Stdio};

crate::cases! { a_start_is_measured }

fn a_start_is_measured() {
    let rounds = std::env::var("TARE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let bundle = Bundle::new(&["/bin/true"]);
    let mut total = Vec::new();
    let mut parts = [0, 0, 0, 0];
    for _ in 0..rounds {
        let begin = Instant::now();
        let created = tare_runtime::create(bundle.request(Stdio::Null)).unwrap();
        let made = begin.elapsed();
        let running = created.start().unwrap();
        let started = begin.elapsed();
        assert_eq!(running.wait().unwrap(), Exit::Code(0));
        let ended = begin.elapsed();
        bundle.cgroup().remove().unwrap();
        let all = begin.elapsed();
        for (sum, part) in parts.iter_mut().zip([made, started - made, ended - started, all - ended]) {
            *sum += part.as_micros();
        }
        total.push(ended);
    }
    total.sort();
    let means = parts.map(|sum| sum / rounds as u128);
    println!(
        "create, start, wait, remove: {means:?} µs on average; until the end: median {:?}, least {:?}",
        total[total.len() / 2],
        total[0]
    );
}
