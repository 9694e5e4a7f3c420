//! The process's own figures, from `/proc/self`.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;

/// Figures of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: f64,
    /// Address space, in bytes.
    pub virtual_bytes: f64,
    /// Open descriptors.
    pub open_fds: f64,
    /// Most descriptors it may open.
    pub max_fds: f64,
    /// Threads.
    pub threads: f64,
}

/// Reads them; what cannot be read is 0.
#[must_use]
pub fn figures() -> Figures {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields after the command, which is in parentheses and may hold anything (proc(5)).
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<f64> =
        after.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    Figures {
        cpu_seconds: (field(14) + field(15)) / ticks,
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24) * page,
        open_fds: std::fs::read_dir("/proc/self/fd").map_or(0.0, |dir| dir.count() as f64),
        max_fds: getrlimit(Resource::Nofile).current.map_or(0.0, |limit| limit as f64),
    }
}

/// Resident memory, in bytes: one short read, for those who ask often.
#[must_use]
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// What this process may use of memory: its cgroup's limit, or all there is.
#[must_use]
pub fn memory_limit() -> u64 {
    let number =
        |path: &str| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let total = total.map_or(u64::MAX, |kib| kib * 1024);
    let limit = number("/sys/fs/cgroup/memory.max")
        .or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    limit.map_or(total, |limit| limit.min(total))
}

/// Whether descriptors or memory have run out, in this process or the machine.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Raises the soft limit of descriptors to the hard one; gives what it is then.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "could not raise the limit of descriptors");
        return before.unwrap_or(1024);
    }
    limit.current.unwrap_or(u64::MAX)
}
