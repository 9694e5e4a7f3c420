//! Notifications to the service manager (sd_notify(3)); none are sent if there is no service manager.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends a notification, for example `READY=1`.
pub fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let send = |address: SocketAddr| -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    if let Err(error) = address.and_then(send) {
        tracing::debug!(%error, state, "service manager not notified");
    }
}

/// The interval of watchdog notifications; `None` if the service manager expects no notifications from
/// this process.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
    // Half the required interval, as sd_watchdog_enabled(3) recommends.
    number("WATCHDOG_USEC").filter(|_| ours).map(|micros| Duration::from_micros(micros / 2))
}
