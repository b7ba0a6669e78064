//! From the specification's resources to files and their values, without touching any.

use super::Hierarchies;
use crate::error::Error;
use std::borrow::Cow;
use tare_spec::runtime::{Cpu, Memory, Resources};

/// A value for one file of the container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Controller of a v1 hierarchy; `None` for v2.
    pub v1_controller: Option<&'static str>,
    /// Name of the file.
    pub file: Cow<'static, str>,
    /// What to write.
    pub value: String,
    /// Whether a kernel without that file is fine (swap accounting can be compiled out).
    pub optional: bool,
}

/// All that a container's limits need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The controllers that the limits belong to.
    pub controllers: Vec<&'static str>,
    /// The values, in the order they must be written.
    pub writes: Vec<Write>,
    v2: bool,
}

impl Limits {
    /// Translates `resources` for a host with these hierarchies.
    pub(crate) fn new(resources: &Resources, hierarchies: &Hierarchies) -> Result<Self, Error> {
        for (field, value) in [
            ("blockIO", &resources.block_io),
            ("hugepageLimits", &resources.hugepage_limits),
            ("network", &resources.network),
            ("rdma", &resources.rdma),
        ] {
            if value.is_some() {
                return Err(Error::unsupported(format!("linux.resources.{field}")));
            }
        }
        let mut limits = Self { v2: hierarchies.is_pure_v2(), ..Self::default() };
        if let Some(memory) = &resources.memory {
            limits.memory(memory)?;
        }
        if let Some(cpu) = &resources.cpu {
            limits.cpu(cpu)?;
        }
        if let Some(pids) = &resources.pids {
            let value = if pids.limit > 0 { pids.limit.to_string() } else { "max".to_owned() };
            limits.push("pids", "pids.max", value, false);
        }
        for (file, value) in &resources.unified {
            let field = "linux.resources.unified";
            if !limits.v2 {
                return Err(Error::unsupported(format!("{field} on a host with cgroup v1")));
            }
            let controller = file.split('.').next().unwrap_or_default();
            let Some(controller) = V2_CONTROLLERS.into_iter().find(|name| *name == controller) else {
                return Err(Error::invalid(field, format!("{file:?} is not a file of a known controller")));
            };
            if file.contains(['/', '\0']) {
                return Err(Error::invalid(field, format!("{file:?} is not a file name")));
            }
            limits.enable(controller);
            limits.writes.push(Write {
                v1_controller: None,
                file: Cow::Owned(file.clone()),
                value: value.clone(),
                optional: false,
            });
        }
        Ok(limits)
    }

    fn enable(&mut self, controller: &'static str) {
        if !self.controllers.contains(&controller) {
            self.controllers.push(controller);
        }
    }

    fn push(&mut self, controller: &'static str, file: &'static str, value: impl ToString, optional: bool) {
        self.enable(controller);
        self.writes.push(Write {
            v1_controller: (!self.v2).then_some(controller),
            file: Cow::Borrowed(file),
            value: value.to_string(),
            optional,
        });
    }

    fn memory(&mut self, memory: &Memory) -> Result<(), Error> {
        if memory.kernel.or(memory.kernel_tcp).is_some() {
            return Err(Error::unsupported("linux.resources.memory.kernel"));
        }
        if memory.check_before_update == Some(true) {
            return Err(Error::unsupported("linux.resources.memory.checkBeforeUpdate"));
        }
        let number =
            |bytes: i64| if bytes < 0 { if self.v2 { "max" } else { "-1" }.to_owned() } else { bytes.to_string() };
        let limit = memory.limit.filter(|limit| *limit != 0);
        // Docker's default: as much swap as memory.
        let explicit_swap = memory.swap.filter(|swap| *swap != 0);
        let swap = explicit_swap.or_else(|| limit.map(|limit| if limit < 0 { -1 } else { limit.saturating_mul(2) }));
        if let (Some(limit), Some(swap)) = (limit, swap)
            && swap >= 0
            && swap < limit
        {
            let reason = format!("{swap} is less than the memory limit {limit}, which it includes");
            return Err(Error::invalid("linux.resources.memory.swap", reason));
        }
        let (limit_text, reservation) = (limit.map(number), memory.reservation.filter(|value| *value != 0).map(number));
        if let Some(limit) = limit_text {
            self.push("memory", if self.v2 { "memory.max" } else { "memory.limit_in_bytes" }, limit, false);
        }
        if let Some(swap) = swap {
            let optional = explicit_swap.is_none_or(|swap| swap < 0);
            if !self.v2 {
                self.push("memory", "memory.memsw.limit_in_bytes", swap.max(-1), optional);
            } else if swap < 0 {
                self.push("memory", "memory.swap.max", "max", optional);
            } else {
                let Some(limit) = limit.filter(|limit| *limit > 0) else {
                    return Err(Error::invalid("linux.resources.memory.swap", "set without a memory limit"));
                };
                self.push("memory", "memory.swap.max", swap - limit, optional);
            }
        }
        if let Some(reservation) = reservation {
            self.push("memory", if self.v2 { "memory.low" } else { "memory.soft_limit_in_bytes" }, reservation, false);
        }
        if let Some(swappiness) = memory.swappiness {
            if self.v2 {
                return Err(Error::unsupported("linux.resources.memory.swappiness on cgroup v2"));
            }
            if swappiness > 100 {
                let reason = format!("{swappiness} is not between 0 and 100");
                return Err(Error::invalid("linux.resources.memory.swappiness", reason));
            }
            self.push("memory", "memory.swappiness", swappiness, false);
        }
        if memory.disable_oom_killer == Some(true) {
            if self.v2 {
                return Err(Error::unsupported("linux.resources.memory.disableOOMKiller on cgroup v2"));
            }
            self.push("memory", "memory.oom_control", 1, false);
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &Cpu) -> Result<(), Error> {
        if cpu.realtime_period.is_some_and(|v| v != 0) || cpu.realtime_runtime.is_some_and(|v| v != 0) {
            return Err(Error::unsupported("linux.resources.cpu.realtimeRuntime"));
        }
        if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
            let shares = shares.clamp(2, 262_144);
            if self.v2 {
                // The straight line from [2, 262144] to [1, 10000] that runc and crun agreed on.
                self.push("cpu", "cpu.weight", 1 + (shares - 2) * 9999 / 262_142, false);
            } else {
                self.push("cpu", "cpu.shares", shares, false);
            }
        }
        let period = cpu.period.filter(|period| *period != 0);
        let quota = cpu.quota.filter(|quota| *quota != 0);
        if let Some(period) = period
            && !(1000..=1_000_000).contains(&period)
        {
            let reason = format!("{period} µs is not between 1000 and 1000000");
            return Err(Error::invalid("linux.resources.cpu.period", reason));
        }
        if let Some(quota) = quota
            && (0..1000).contains(&quota)
        {
            return Err(Error::invalid("linux.resources.cpu.quota", format!("{quota} µs is less than 1000")));
        }
        if self.v2 {
            if quota.is_some() || period.is_some() {
                let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
                self.push("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)), false);
            }
        } else {
            if let Some(period) = period {
                self.push("cpu", "cpu.cfs_period_us", period, false);
            }
            if let Some(quota) = quota {
                self.push("cpu", "cpu.cfs_quota_us", quota, false);
            }
        }
        if let Some(burst) = cpu.burst {
            self.push("cpu", if self.v2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" }, burst, false);
        }
        if let Some(idle) = cpu.idle {
            self.push("cpu", "cpu.idle", idle, false);
        }
        for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.push("cpuset", file, list, false);
            }
        }
        Ok(())
    }
}

const V2_CONTROLLERS: [&str; 8] = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

#[cfg(test)]
mod tests {
    use super::*;
    use tare_spec::runtime::Pids;

    fn hosts() -> (Hierarchies, Hierarchies) {
        let v2 = Hierarchies { v2: Some("/cg".into()), ..Hierarchies::default() };
        let v1 = Hierarchies { v1: [("memory".to_owned(), "/cg/memory".into())].into(), ..v2.clone() };
        (v2, v1)
    }

    fn files(limits: &Limits) -> Vec<String> {
        limits.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
    }

    #[test]
    fn one_configuration_in_both_worlds() {
        let resources = Resources {
            memory: Some(Memory { limit: Some(64 << 20), ..Memory::default() }),
            cpu: Some(Cpu { quota: Some(50_000), period: Some(100_000), shares: Some(1024), ..Cpu::default() }),
            pids: Some(Pids { limit: 100 }),
            ..Resources::default()
        };
        let (v2, v1) = hosts();
        let unified = Limits::new(&resources, &v2).unwrap();
        assert_eq!(unified.controllers, ["memory", "cpu", "pids"]);
        let expected = [
            "memory.max=67108864",
            "memory.swap.max=67108864",
            "cpu.weight=39",
            "cpu.max=50000 100000",
            "pids.max=100",
        ];
        assert_eq!(files(&unified), expected);
        assert!(unified.writes[1].optional);
        let expected = [
            "memory.limit_in_bytes=67108864",
            "memory.memsw.limit_in_bytes=134217728",
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "pids.max=100",
        ];
        assert_eq!(files(&Limits::new(&resources, &v1).unwrap()), expected);
    }

    #[test]
    fn without_limits_no_controller_is_touched() {
        let resources =
            Resources { memory: Some(Memory::default()), cpu: Some(Cpu::default()), ..Resources::default() };
        assert_eq!(Limits::new(&resources, &hosts().1).unwrap().controllers, Vec::<&str>::new());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let (v2, v1) = hosts();
        let refusal = |resources: Resources, host: &Hierarchies| Limits::new(&resources, host).unwrap_err().to_string();
        let resources = Resources { block_io: Some(serde_json::json!({})), ..Resources::default() };
        assert_eq!(refusal(resources, &v2), "linux.resources.blockIO is not supported");
        let memory = Memory { limit: Some(100), swap: Some(50), ..Memory::default() };
        let resources = Resources { memory: Some(memory), ..Resources::default() };
        assert!(refusal(resources, &v1).contains("less than the memory limit"));
        let resources = Resources { unified: [("memory.max/../x".into(), "1".into())].into(), ..Resources::default() };
        assert!(refusal(resources.clone(), &v2).contains("not a file name"));
        assert!(refusal(resources, &v1).contains("cgroup v1"));
    }
}
