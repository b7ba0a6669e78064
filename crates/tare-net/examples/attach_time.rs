//! How long a container waits for its network: `attach_time [rounds]`, as root. Works in a network namespace of
//! its own and leaves nothing behind.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};
use tare_net::{Attach, Networks};
use tare_spec::{ContainerId, PortMapping};
use tare_sys::network_namespace;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let host = network_namespace::create()?;
    network_namespace::enter(host.as_fd())?;
    let folder = tempfile::tempdir()?;
    let networks = Networks::open(&folder.path().join("root"), &folder.path().join("run"))?;
    let first = network_namespace::create()?;
    let keeper = ContainerId::from_random([0; 32]);
    let cold = Instant::now();
    networks.attach(&Attach { container: &keeper, netns: first.as_fd(), ports: &[] })?;
    println!("first attach, with bridge and rules: {:?}", cold.elapsed());

    for argument in ["none", "8080:80", "8000-8009:8000-8009", "53:53/udp", "8000-8009:8000-8009/udp"] {
        let ports = if argument == "none" { vec![] } else { PortMapping::parse(argument)? };
        let (mut make, mut attach, mut detach) = (vec![], vec![], vec![]);
        for round in 0..rounds {
            let id = ContainerId::from_random([u8::try_from(round % 250)? + 1; 32]);
            let namespace = time(&mut make, network_namespace::create)?;
            let request = Attach { container: &id, netns: namespace.as_fd(), ports: &ports };
            let attached = time(&mut attach, || networks.attach(&request))?;
            drop((attached, namespace));
            time(&mut detach, || networks.detach(&id)).map_err(|mut errors| errors.remove(0))?;
        }
        println!(
            "ports {argument}: namespace {}, attach {}, detach {}",
            summary(&mut make),
            summary(&mut attach),
            summary(&mut detach)
        );
    }
    Ok(())
}

fn time<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    times.push(start.elapsed());
    result
}

fn summary(times: &mut [Duration]) -> String {
    times.sort();
    format!("{:?} (least {:?})", times[times.len() / 2], times[0])
}
