//! How long a step takes, shown rather than judged: machines differ. `cargo xtask bench` has the budgets.

use crate::host::Host;
use std::time::Instant;
use tare_build::executor::{MountSource, Network};

crate::cases! { a_step_is_measured }

fn a_step_is_measured() {
    let rounds = std::env::var("TARE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let host = Host::new();
    let executor = host.executor();
    let plain = host.script("true");
    let secret = MountSource::Secret { contents: b"s".to_vec(), mode: 0o400, owner: (0, 0) };
    let mounted = plain.clone().mount("/run/secrets/x", true, secret);
    for (name, step) in [
        ("no network", &plain),
        ("bridge", &plain.clone().network(Network::Default)),
        ("no network, a secret", &mounted),
    ] {
        let mut times: Vec<u128> = (0..rounds)
            .map(|_| {
                let begin = Instant::now();
                let ended = step.run(&executor).unwrap();
                let took = begin.elapsed();
                assert_eq!(ended.code, 0);
                took.as_micros()
            })
            .collect();
        times.sort_unstable();
        println!("RUN true, {name}: {} µs, at least {} µs", times[times.len() / 2], times[0]);
    }
}
