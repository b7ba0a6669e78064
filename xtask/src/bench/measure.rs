//! Wall time of a command, and the CPU time that all of an engine spends on it: client, daemons, helpers, container.

use anyhow::{Context, Result, bail};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long after a command's end its daemons and monitors may still work on it.
const SETTLE: Duration = Duration::from_millis(40);

/// Many goes of one thing, in milliseconds.
#[derive(Default)]
pub(super) struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Samples {
    /// Median wall time.
    pub(super) fn wall(&mut self) -> f64 {
        median(&mut self.wall)
    }

    /// Least wall time.
    pub(super) fn least(&self) -> f64 {
        self.wall.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Median CPU time.
    pub(super) fn cpu(&mut self) -> f64 {
        median(&mut self.cpu)
    }

    /// Runs a command once and takes its times, when what ran before has come to rest.
    pub(super) fn take(&mut self, command: &[String]) -> Result<()> {
        come_to_rest()?;
        let (start, used) = (Instant::now(), cpu_time()?);
        run(command)?;
        self.wall.push(start.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(SETTLE);
        self.cpu.push(cpu_time()?.saturating_sub(used).as_secs_f64() * 1e3);
        Ok(())
    }
}

/// Daemons clean up for seconds after their answer: nobody else's time may count theirs.
fn come_to_rest() -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(20);
    const QUIET: Duration = Duration::from_micros(400);
    const PATIENCE: u32 = 150;
    for _ in 0..PATIENCE {
        let used = cpu_time()?;
        std::thread::sleep(WINDOW);
        if cpu_time()?.saturating_sub(used) <= QUIET {
            break;
        }
    }
    Ok(())
}

/// Runs a command, its output kept only for the case of failure.
pub(super) fn run(command: &[String]) -> Result<()> {
    // Standard error goes to a file: a daemon's child may hold a pipe open for ever.
    let errors = tempfile()?;
    let (program, arguments) = command.split_first().context("an empty command")?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&errors)?)
        .status()
        .with_context(|| command.join(" "))?;
    if !status.success() {
        bail!("{}: {status}: {}", command.join(" "), fs::read_to_string(&errors)?.trim_end());
    }
    Ok(())
}

fn tempfile() -> Result<std::path::PathBuf> {
    Ok(std::env::current_dir()?.join("errors"))
}

/// Where cgroups of version 1 count CPU time, in steps of 1 ns; `/proc/stat` counts in steps of 10 ms, more than we measure.
const ACCOUNTS: &str = "/sys/fs/cgroup/cpuacct";

/// This process's account: client and daemons. Containers are in those that the engines make.
const OWN_ACCOUNT: &str = "tare-bench";
const ENGINES_ACCOUNTS: [&str; 3] = ["docker", "libpod_parent", "tare"];

/// Enters an account of its own, where the machine has them, and leaves it when dropped.
pub(super) struct Account(());

impl Account {
    /// Enters; all processes started from now on count there.
    pub(super) fn enter() -> Result<Self> {
        if fs::exists(ACCOUNTS)? {
            let own = format!("{ACCOUNTS}/{OWN_ACCOUNT}");
            fs::create_dir_all(&own)?;
            fs::write(format!("{own}/cgroup.procs"), "0").context(own)?;
        }
        Ok(Self(()))
    }

    /// Whose CPU time is counted.
    pub(super) fn covers() -> &'static str {
        if fs::exists(ACCOUNTS).unwrap_or(false) { "all processes of the engine" } else { "the whole machine" }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Either may be absent, and an account that is still in use stays.
        let _ = fs::write(format!("{ACCOUNTS}/cgroup.procs"), "0");
        let _ = fs::remove_dir(format!("{ACCOUNTS}/{OWN_ACCOUNT}"));
    }
}

/// CPU time spent so far.
fn cpu_time() -> Result<Duration> {
    if fs::exists(ACCOUNTS)? {
        let groups = [OWN_ACCOUNT].into_iter().chain(ENGINES_ACCOUNTS);
        // An engine that has not run yet has no group.
        let texts = groups.filter_map(|group| fs::read_to_string(format!("{ACCOUNTS}/{group}/cpuacct.usage")).ok());
        let used = texts.map(|text| text.trim().parse::<u64>()).sum::<Result<u64, _>>()?;
        return Ok(Duration::from_nanos(used));
    }
    let text =
        fs::read_to_string("/sys/fs/cgroup/cpu.stat").context("neither version of cgroups counts CPU time here")?;
    let usage =
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("cpu.stat without usage_usec")?;
    Ok(Duration::from_micros(usage.parse()?))
}

/// Resident and private memory of a process in KiB.
pub(super) fn memory(pid: u32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> u64 {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter_map(|rest| rest.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()).sum()
    };
    Ok((field("Rss"), field("Private_Clean") + field("Private_Dirty")))
}

/// The parent of a process.
pub(super) fn parent(pid: u32) -> Result<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:")).context("a status without PPid")?;
    Ok(line.trim().parse()?)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(super::median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(super::median(&mut []).is_nan());
    }

    #[test]
    fn memory_of_this_process_is_read() {
        let (resident, private) = super::memory(std::process::id()).unwrap();
        assert!(resident >= private && private > 0);
    }
}
