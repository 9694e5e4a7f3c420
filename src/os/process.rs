//! Figures of the process, from `/proc/self`.

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
    /// Limit of open descriptors.
    pub max_fds: f64,
    /// Threads.
    pub threads: f64,
}

/// Gives this process pages of the usual size alone. The allocator asks the kernel for huge pages, which are resident
/// as a whole however little of them is used: they doubled the memory of a proxy with some thousand idle connections.
pub fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay enabled");
    }
}

/// Reads the figures; a figure that cannot be read is 0.
#[must_use]
pub fn figures() -> Figures {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields after the command, which is in parentheses and may contain any characters (proc(5)).
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

/// Resident memory, in bytes: one short read, for frequent use.
#[must_use]
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Memory this process may use, in bytes: the limit of its cgroup, or the memory of the machine.
#[must_use]
pub fn memory_limit() -> u64 {
    let number =
        |path: &str| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let total = total.map_or(u64::MAX, |kib| kib * 1024);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = cgroup_files(&own).into_iter().filter_map(|path| number(&path));
    limits.fold(total, u64::min)
}

/// The memory limit files of the process's cgroup and of each parent cgroup, for cgroup versions 1 and 2. `own` is the
/// content of `/proc/self/cgroup`. A parent counts because systemd sets `MemoryMax=` on the cgroup of the unit.
fn cgroup_files(own: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        while !path.is_empty() && !path.contains("..") {
            files.push(format!("{root}{path}/{file}"));
            path = path.rfind('/').map_or("", |at| &path[..at]);
        }
        // Inside a container, the process's cgroup is the root of the visible tree.
        files.push(format!("{root}/{file}"));
    }
    files
}

/// Whether descriptors or memory are exhausted, in this process or on the machine.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether a connection failed because this machine has no port, descriptor or memory left for it; the other end is
/// then not at fault.
#[must_use]
pub fn is_ours(error: &io::Error) -> bool {
    is_exhaustion(error) || error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
}

/// Raises the soft limit of open files to the hard limit; returns the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "limit of open files not raised");
        return before.unwrap_or(1024);
    }
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_are_read_from_the_cgroup_and_its_parents() {
        assert_eq!(
            cgroup_files("0::/system.slice/tidegate.service\n"),
            [
                "/sys/fs/cgroup/system.slice/tidegate.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            cgroup_files("4:cpu,memory:/a\n1:name=systemd:/b\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(cgroup_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }
}
