//! Which cores this process may use, and staying on one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores this process may use, by affinity, at most as many as its cgroup pays for.
#[must_use]
pub fn allowed() -> Vec<usize> {
    let fallback = || vec![0];
    let Ok(set) = sched_getaffinity(None) else { return fallback() };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    let paid = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kept: Vec<usize> = cores.into_iter().take(paid).collect();
    if kept.is_empty() { fallback() } else { kept }
}

/// Keeps the calling thread on `core`. Failing to is no harm: the kernel then chooses.
pub fn stay_on(core: usize) {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
        if let Err(error) = sched_setaffinity(None, &set) {
            tracing::debug!(core, %error, "worker not pinned to its core");
        }
    }
}
