//! Listening sockets: bound before they listen, one per worker.
//!
//! A socket of a `SO_REUSEPORT` group that listens and then closes resets the connections in its backlog. Therefore
//! binding and listening are separate steps: `bind` may fail without any effect; `listen` is called for all sockets
//! at once when the configuration is in force.

use crate::decision::plan::{Address, BindKey, Transport};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::path::Path;

/// Listen backlog of one socket.
const BACKLOG: i32 = 4096;

/// Whether to bind without `SO_REUSEPORT` first, to detect another process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trial {
    /// Yes.
    First,
    /// No: the existing socket belongs to this process, and will be closed.
    None,
}

/// Sockets for each of `workers`: inherited ones for this address, and new ones if there are too few.
///
/// # Errors
/// The bind's error.
pub fn share_out(key: &BindKey, mut found: Vec<Socket>, workers: usize) -> io::Result<Vec<Socket>> {
    found.truncate(workers);
    let shares = |socket: &Socket| socket.reuse_port().unwrap_or(false);
    if key.transport == Transport::Datagram && workers > 1 && !found.iter().all(shares) {
        // The datagrams of one client would be spread over all sockets.
        return Err(io::Error::other("an inherited UDP socket needs ReusePort=yes"));
    }
    while found.len() < workers {
        let more = match (&key.address, found.iter().all(shares)) {
            (Address::Ip(ip), true) => bind_ip(*ip, key, Port::Shared)?,
            // A socket that cannot be in a group is shared by all workers.
            _ => found[0].try_clone()?,
        };
        found.push(more);
    }
    for socket in &found {
        socket.set_nonblocking(true)?;
    }
    Ok(found)
}

/// Binds one socket for each of `workers`, none listening; `mode` is for the file of a unix socket.
///
/// # Errors
/// The bind's error, for example that the address is in use.
pub fn bind(key: &BindKey, mode: u32, workers: usize, trial: Trial) -> io::Result<Vec<Socket>> {
    match &key.address {
        Address::Ip(ip) => {
            let mut ip = *ip;
            // Without SO_REUSEPORT first: a second proxy on the same address must be an error; otherwise it would
            // silently receive half of the traffic.
            if trial == Trial::First {
                drop(bind_ip(ip, key, Port::Exclusive)?);
            }
            let mut sockets = Vec::with_capacity(workers);
            for _ in 0..workers {
                let socket = bind_ip(ip, key, Port::Shared)?;
                if ip.port() == 0 {
                    ip = socket.local_addr()?.as_socket().unwrap_or(ip);
                }
                sockets.push(socket);
            }
            Ok(sockets)
        }
        Address::Unix(path) => {
            let socket = bind_unix(path, mode)?;
            let mut sockets = Vec::with_capacity(workers);
            for _ in 1..workers {
                sockets.push(socket.try_clone()?);
            }
            sockets.push(socket);
            Ok(sockets)
        }
    }
}

/// Whether other sockets may listen on the same port (`SO_REUSEPORT`).
#[derive(Clone, Copy, Eq, PartialEq)]
enum Port {
    Exclusive,
    Shared,
}

fn bind_ip(address: std::net::SocketAddr, key: &BindKey, port: Port) -> io::Result<Socket> {
    let (kind, protocol) = match key.transport {
        Transport::Stream => (Type::STREAM, Protocol::TCP),
        Transport::Datagram | Transport::Quic => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    // For UDP, `SO_REUSEADDR` would let any process share the port.
    socket.set_reuse_address(key.transport == Transport::Stream)?;
    if address.is_ipv6() {
        // "[::]" accepts both families; other IPv6 addresses accept IPv6 only.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if key.takes_all {
        take_all(&socket, address).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                io::Error::new(error.kind(), "`transparent: tproxy` needs CAP_NET_ADMIN")
            }
            _ => error,
        })?;
    }
    if port == Port::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn take_all(socket: &Socket, address: std::net::SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.set_ip_transparent_v4(true)
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    if let Ok(there) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        if !there.file_type().is_socket() {
            return in_use("the path exists and is not a socket");
        }
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        match probe.connect(&address) {
            // No process listens: the file is left over from a process that has ended.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            Ok(()) | Err(_) => return in_use("another process listens at this path"),
        }
    }
    socket.bind(&address)?;
    set_mode(path, mode)?;
    Ok(socket)
}

/// Sets the permissions of a socket file.
///
/// # Errors
/// The file's error.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Starts listening on bound sockets; UDP sockets receive since they were bound.
///
/// # Errors
/// The first socket's error; EADDRINUSE if another socket listens on the address.
pub fn listen(sockets: &[Socket]) -> io::Result<()> {
    let is_stream = |socket: &&Socket| !socket.r#type().is_ok_and(|kind| kind == Type::DGRAM);
    sockets.iter().filter(is_stream).try_for_each(|socket| socket.listen(BACKLOG))
}

/// Why an address cannot be listened on, and what to do about it, in one line.
#[must_use]
pub fn failure(address: &Address, error: &io::Error) -> String {
    let what = format!("cannot listen on {address}: {error}");
    match advice(address, error) {
        Some(advice) => format!("{what}: {advice}"),
        None => what,
    }
}

/// Errors of the kernel alone: other errors, such as those of a unix socket, say what to do themselves.
fn advice(address: &Address, error: &io::Error) -> Option<&'static str> {
    let Address::Ip(ip) = address else { return None };
    match error.raw_os_error()? {
        libc::EADDRINUSE => Some(
            "another process has this port; `ss -lntup` shows which one. Stop it, or choose another address",
        ),
        libc::EACCES if ip.port() < 1024 => Some(
            "ports below 1024 need a capability; use the package's unit, or `setcap cap_net_bind_service+ep` on the program",
        ),
        libc::EADDRNOTAVAIL if ip.is_ipv6() => Some(
            "no interface has this address, or IPv6 is turned off; `ip address` lists the addresses",
        ),
        libc::EADDRNOTAVAIL => {
            Some("no interface has this address; `ip address` lists the addresses")
        }
        libc::EAFNOSUPPORT => {
            Some("this machine has no IPv6; use an IPv4 address, 0.0.0.0 in place of [::]")
        }
        libc::ENOPROTOOPT => Some("the kernel lacks SO_REUSEPORT; Linux 3.9 or newer is needed"),
        _ => None,
    }
}

/// The address of a bound socket, with the port the kernel chose.
#[must_use]
pub fn local_address(socket: &Socket, fallback: &Address) -> Address {
    let bound = socket.local_addr().ok().and_then(|address| address.as_socket());
    bound.map_or_else(|| fallback.clone(), Address::Ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_is_an_error_and_a_group_shares_one_port() {
        for transport in [Transport::Stream, Transport::Datagram] {
            let any = Address::Ip(([127, 0, 0, 1], 0).into());
            let takes_all = false;
            let key =
                |address: &Address| BindKey { transport, address: address.clone(), takes_all };
            let group = bind(&key(&any), 0o660, 3, Trial::First).unwrap();
            listen(&group).unwrap();
            let taken = local_address(&group[0], &any);
            assert!(group.iter().all(|socket| local_address(socket, &any) == taken));

            let second = bind(&key(&taken), 0o660, 1, Trial::First).unwrap_err();

            assert_eq!(second.kind(), io::ErrorKind::AddrInUse, "{transport:?}");
        }
    }

    #[test]
    fn a_failure_says_what_to_do_in_one_line() {
        #[rustfmt::skip]
        let table = [
            // address         error               part of the advice
            ("127.0.0.1:8080", libc::EADDRINUSE,    "`ss -lntup`"),
            ("0.0.0.0:80",     libc::EACCES,        "cap_net_bind_service"),
            ("10.9.9.9:8080",  libc::EADDRNOTAVAIL, "`ip address`"),
            ("[::1]:8080",     libc::EADDRNOTAVAIL, "IPv6 is turned off"),
            ("[::]:8080",      libc::EAFNOSUPPORT,  "0.0.0.0 in place of [::]"),
            ("0.0.0.0:8080",   libc::ENOPROTOOPT,   "Linux 3.9 or newer"),
        ];
        for (address, code, part) in table {
            let address = Address::Ip(address.parse().unwrap());
            let said = failure(&address, &io::Error::from_raw_os_error(code));
            assert!(said.starts_with(&format!("cannot listen on {address}: ")), "{said}");
            assert!(said.contains(part) && !said.contains('\n'), "{said}");
        }
        let address = Address::Ip(([127, 0, 0, 1], 8080).into());
        let own = io::Error::new(io::ErrorKind::PermissionDenied, "needs CAP_NET_ADMIN");
        assert!(failure(&address, &own).ends_with(": needs CAP_NET_ADMIN"), "it advises already");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_an_error() {
        let path = std::env::temp_dir().join(format!("tidegate-listen-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        let address = BindKey { transport: Transport::Stream, address, takes_all: false };
        drop(bind(&address, 0o660, 1, Trial::First).unwrap());
        let live = bind(&address, 0o660, 2, Trial::First).unwrap();
        listen(&live[..1]).unwrap();
        assert_eq!(
            bind(&address, 0o660, 1, Trial::First).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(
            bind(&address, 0o660, 1, Trial::First).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(path).unwrap();
    }
}
