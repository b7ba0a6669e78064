//! What only a whole machine can show.

mod disk;
mod machine;

use crate::{cargo, run as run_command};
use anyhow::{Context, Result, bail};
use disk::{Disk, Loss};
use machine::Machine;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The images that the machine pulls and removes: `i1` and so on.
const IMAGES: usize = 6;

/// How long a machine may take to boot and to look at everything, on a processor that is emulated and shared.
const PATIENCE: Duration = Duration::from_secs(600);

/// The longest time between the machine's first pull and the cut, in milliseconds.
const LONGEST: u64 = 12_000;

/// The most writes between them, for a cut that comes with a write.
const MOST_WRITES: u64 = 600;

/// Between two looks at the disk.
const LOOK: Duration = Duration::from_millis(20);

const USAGE: &str = "usage: cargo xtask vm power-cut [--rounds N] [--seed N]";

/// `power-cut`: takes the power from a machine that pulls and removes images, and looks after the next boot whether
/// all that it had reported is there.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut words = arguments.iter().map(String::as_str);
    if words.next() != Some("power-cut") {
        bail!(USAGE);
    }
    let (mut rounds, mut seed) = (20, u64::from(std::process::id()));
    while let Some(flag) = words.next() {
        let value = words.next().and_then(|value| value.parse().ok()).context(USAGE)?;
        match flag {
            "--rounds" => rounds = value,
            "--seed" => seed = value,
            _ => bail!(USAGE),
        }
    }
    // Emulated, the program had better be fast.
    run_command(&mut cargo(["build", "--release", "--package", "tare"]))?;
    let own = std::env::current_exe()?;
    let tare = own.parent().and_then(Path::parent).context("no folder")?.join("release/tare");
    let machine = Machine::prepare(&tare)?;
    power_cut(&machine, rounds, seed)
}

fn power_cut(machine: &Machine, rounds: u64, seed: u64) -> Result<()> {
    println!("seed {seed}");
    let mut chance = dice(seed);
    let disk = Arc::new(Mutex::new(Disk::open(&machine.new_store()?)?));
    let mut reported = BTreeSet::new();
    let (mut during_pull, mut during_removal, mut verified, mut pulls) = (0, 0, 0, 0);
    // The last boot only looks.
    for round in 0..=rounds {
        // Most cuts come with a write, for most of the time the disk has nothing to do.
        let (delay, writes) = match round % 4 {
            0 => (200 + chance() % LONGEST, None),
            _ => (LONGEST, Some(1 + chance() % MOST_WRITES)),
        };
        let cut = Cut { delay: Duration::from_millis(delay), writes };
        let expect: Vec<&str> = reported.iter().map(String::as_str).collect();
        let words = format!("cut.seed={} cut.expect={}", chance() % (1 << 31), expect.join(","));
        let seen = boot(machine, &disk, &words, (round < rounds).then_some(cut))
            .with_context(|| format!("boot {round}, after {round} cuts; seed {seed}"))?;
        verified += seen.verified;
        let mut at_work = None;
        for line in &seen.lines {
            match line.split_once(' ') {
                Some(("pulled", image)) => {
                    pulls += 1;
                    reported.insert(image.to_owned());
                    at_work = None;
                }
                Some((work @ ("removing" | "pulling"), image)) => {
                    // What is being removed may be there or not.
                    reported.remove(image);
                    at_work = Some(work);
                }
                _ => {}
            }
        }
        if round == rounds {
            break;
        }
        let loss = if round % 2 == 0 { Loss::All } else { Loss::Some };
        let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        let (flushes, lost) = (disk.flushes, disk.cut(loss, &mut chance)?);
        during_pull += u64::from(at_work == Some("pulling"));
        during_removal += u64::from(at_work == Some("removing"));
        println!(
            "cut {}: {} images verified; then {} s or {} writes until the cut while {}; {lost} blocks not flushed, {loss:?} lost; {flushes} flushes so far",
            round + 1,
            seen.verified,
            delay / 1000,
            writes.map_or("any".to_owned(), |writes| writes.to_string()),
            at_work.unwrap_or("between"),
        );
    }
    println!(
        "{rounds} cuts, {during_pull} of them during a pull and {during_removal} during a removal; {pulls} pulls reported; {verified} reported images verified; nothing lost, nothing damaged"
    );
    Ok(())
}

/// When the power goes, counted from the machine's first pull: whichever comes first.
#[derive(Clone, Copy)]
struct Cut {
    delay: Duration,
    writes: Option<u64>,
}

/// What a machine said between its start and its end.
struct Seen {
    verified: u64,
    lines: Vec<String>,
}

/// Starts the machine, waits until it has looked at everything, and takes its power as `cut` says; without, at once.
fn boot(machine: &Machine, disk: &Arc<Mutex<Disk>>, words: &str, cut: Option<Cut>) -> Result<Seen> {
    let socket = machine.path("disk.socket");
    if socket.exists() {
        std::fs::remove_file(&socket)?;
    }
    let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
    let server = std::thread::spawn({
        let disk = disk.clone();
        move || disk::serve(&listener, &disk)
    });
    let mut qemu = Killed(machine.start(&socket, words)?);
    let console = qemu.0.stdout.take().context("no console")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            // Nobody listens any more when the test has failed.
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    let mut seen = Seen { verified: 0, lines: Vec::new() };
    let mut all = Vec::new();
    let mut deadline = Instant::now() + PATIENCE;
    let mut is_up = false;
    loop {
        let line = match lines.recv_timeout(LOOK.min(deadline.saturating_duration_since(Instant::now()))) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {
                if disk.lock().unwrap_or_else(PoisonError::into_inner).writes_left == Some(0) {
                    break;
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) if is_up => break,
            Err(error) => bail!("the machine did not come up: {error}\n{}", all.join("\n")),
        };
        all.push(line.clone());
        let Some((_, said)) = line.split_once("CUT: ") else { continue };
        if let Some(count) = said.strip_prefix("verified ") {
            seen.verified = count.parse()?;
            is_up = true;
            deadline = Instant::now() + cut.map_or(Duration::ZERO, |cut| cut.delay);
            disk.lock().unwrap_or_else(PoisonError::into_inner).writes_left = cut.and_then(|cut| cut.writes);
        }
        if said.starts_with("wrong: ") {
            bail!("{}", all.join("\n"));
        }
        seen.lines.push(said.to_owned());
    }
    drop(qemu);
    // What it had said before it was killed.
    for line in lines {
        if let Some((_, said)) = line.split_once("CUT: ") {
            if said.starts_with("wrong: ") {
                bail!("{said}");
            }
            seen.lines.push(said.to_owned());
        }
    }
    server.join().map_err(|_| anyhow::anyhow!("the disk's server panicked"))??;
    Ok(seen)
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Numbers by chance, the same for the same seed (xorshift64*).
fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}
