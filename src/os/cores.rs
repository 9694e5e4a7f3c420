//! The cores this process may use, and pinning threads to them.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores this process may use: by affinity, limited by the cgroup's CPU quota.
#[must_use]
pub fn allowed() -> Vec<usize> {
    let fallback = || vec![0];
    let Ok(set) = sched_getaffinity(None) else { return fallback() };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    let paid = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kept: Vec<usize> = cores.into_iter().take(paid).collect();
    if kept.is_empty() { fallback() } else { kept }
}

/// Pins the calling thread to `core`. A failure is harmless: the kernel then chooses the core.
pub fn stay_on(core: usize) {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
        if let Err(error) = sched_setaffinity(None, &set) {
            tracing::debug!(core, %error, "worker not pinned to its core");
        }
    }
}
