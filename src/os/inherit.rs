//! Listening sockets inherited by this process: from its predecessor at an upgrade, or from systemd.
//!
//! An inherited descriptor is never closed in between: clients that connect meanwhile wait in its listen backlog, and
//! none is refused.

use crate::decision::plan::{Address, BindKey, Transport};
use rustix::fs::FileType;
use socket2::{Socket, Type};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Variables with the descriptors of a predecessor's sockets, and of the pipe on which it waits for readiness.
const SOCKETS: &str = "TIDEGATE_LISTEN_FDS";
const READY: &str = "TIDEGATE_READY_FD";
/// Variables of systemd: number of descriptors from 3 on, and the process id that they are for
/// (sd_listen_fds(3)).
const SYSTEMD: (&str, &str) = ("LISTEN_FDS", "LISTEN_PID");
const SYSTEMD_FIRST: RawFd = 3;
/// Limit of inherited descriptors.
const COUNT_MAX: usize = 65_536;

/// Inherited sockets that no listener has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Socket>);

impl Inherited {
    /// Adopts the inherited descriptors. Called once, before any descriptor is opened.
    #[must_use]
    pub fn take() -> Inherited {
        let own = std::env::var(SOCKETS).ok().map(|text| {
            text.split(',').filter_map(|number| number.parse().ok()).take(COUNT_MAX).collect()
        });
        let mut numbers: Vec<RawFd> = own.or_else(by_systemd).unwrap_or_default();
        numbers.sort_unstable();
        numbers.dedup();
        let adopt = |number: &RawFd| {
            let adopted = adopt(*number, FileType::Socket);
            adopted
                .inspect_err(|error| tracing::warn!(%error, number, "inherited descriptor {number} ignored: not a usable socket"))
                .ok()
        };
        Inherited(numbers.iter().filter_map(adopt).map(Socket::from).collect())
    }

    /// Whether a predecessor continues until this process is ready.
    #[must_use]
    pub fn has_predecessor() -> bool {
        std::env::var_os(READY).is_some()
    }

    /// Takes the sockets bound to the address of `key`.
    pub fn for_key(&mut self, key: &BindKey) -> Vec<Socket> {
        let (found, left) = std::mem::take(&mut self.0).into_iter().partition(|s| is_at(s, key));
        self.0 = left;
        found
    }

    /// Number of sockets left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no socket is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn by_systemd() -> Option<Vec<RawFd>> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let (count, process) = (number(SYSTEMD.0)?, number(SYSTEMD.1)?);
    (process == std::process::id())
        .then(|| (SYSTEMD_FIRST..).take((count as usize).min(COUNT_MAX)).collect())
}

fn is_at(socket: &Socket, key: &BindKey) -> bool {
    let stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
    if stream != (key.transport == Transport::Stream) {
        return false;
    }
    let Ok(local) = socket.local_addr() else { return false };
    match &key.address {
        Address::Ip(address) => local.as_socket() == Some(*address),
        Address::Unix(path) => local.as_pathname() == Some(path.as_path()),
    }
}

/// Adopts the descriptor with this number, if it has this type, and sets close-on-exec.
#[expect(unsafe_code, reason = "a descriptor that comes from outside is a bare number")]
fn adopt(number: RawFd, kind: FileType) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::other("descriptors 0 to 2 are standard streams"));
    }
    // SAFETY: used for fstat alone, which fails if the descriptor is closed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let status = rustix::fs::fstat(borrowed)?;
    if FileType::from_raw_mode(status.st_mode) != kind {
        return Err(io::Error::other("not a descriptor of the expected type"));
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open and of the announced type, nothing here has opened one of that type yet, the
    // parent process has passed it to us, and each number is adopted once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Notifies the predecessor, if there is one, that this process is ready.
pub fn tell_predecessor() {
    let Some(number) = std::env::var(READY).ok().and_then(|text| text.parse().ok()) else {
        return;
    };
    let written =
        adopt(number, FileType::Fifo).and_then(|pipe| std::fs::File::from(pipe).write_all(b"1"));
    if let Err(error) = written {
        tracing::warn!(%error, "predecessor not notified that this process is ready");
    }
}

/// The running program and its arguments: recorded at the start, since the file may be replaced later.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<std::ffi::OsString>,
}

impl Program {
    /// The program of this process.
    ///
    /// # Errors
    /// When its path cannot be determined.
    pub fn this() -> io::Result<Program> {
        Ok(Program {
            path: std::env::current_exe()?,
            arguments: std::env::args_os().skip(1).collect(),
        })
    }

    /// The path of the executable.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the program again with these sockets.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<'a>(&self, sockets: impl Iterator<Item = &'a Socket>) -> io::Result<Successor> {
        let (reader, writer) = io::pipe()?;
        // Copies that live until the child has inherited them.
        let copies = sockets
            .map(|socket| Ok(rustix::io::dup(socket.as_fd())?))
            .collect::<io::Result<Vec<OwnedFd>>>()?;
        let ready = rustix::io::dup(&writer)?;
        let numbers: Vec<String> = copies.iter().map(|copy| copy.as_raw_fd().to_string()).collect();
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .env(SOCKETS, numbers.join(","))
            .env(READY, ready.as_raw_fd().to_string())
            // The watchdog variables name this process, not the successor.
            .env_remove("WATCHDOG_PID")
            .env_remove(SYSTEMD.0)
            .env_remove(SYSTEMD.1)
            .spawn()?;
        Ok(Successor { child, reader })
    }
}

/// Kills a child process that was not reaped.
pub fn end(process: u32) {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let ended = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::KILL));
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, process, "process {process} not killed: it has ended already");
    }
}

/// A child process that will take over.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    reader: io::PipeReader,
}

impl Successor {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits, blocking, until the process reports that it is ready.
    ///
    /// # Errors
    /// When the process ends without reporting.
    pub fn wait(mut self) -> io::Result<()> {
        let mut word = [0; 1];
        match self.reader.read(&mut word)? {
            0 => {
                let status = self.child.wait()?;
                Err(io::Error::other(format!("the process ended: {status}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_sockets_are_found_by_their_address() {
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let bound = |kind| {
            let socket = Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
            socket.bind(&address.into()).unwrap();
            let local = socket.local_addr().unwrap().as_socket().unwrap();
            (socket, local)
        };
        let ((tcp, at_tcp), (udp, at_udp)) = (bound(Type::STREAM), bound(Type::DGRAM));
        let mut inherited = Inherited(vec![tcp, udp]);
        let key = |transport, address| BindKey {
            transport,
            address: Address::Ip(address),
            takes_all: false,
        };
        assert!(inherited.for_key(&key(Transport::Datagram, at_tcp)).is_empty());
        assert_eq!(inherited.for_key(&key(Transport::Stream, at_tcp)).len(), 1);
        assert_eq!(inherited.for_key(&key(Transport::Datagram, at_udp)).len(), 1);
        assert!(inherited.is_empty());
    }
}
