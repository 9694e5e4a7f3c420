//! The kernel's measurements of a TCP connection (`TCP_INFO`).
//!
//! Immediately after a handshake, the smoothed round trip time is that of the handshake alone. The kernel measures
//! it, so it does not depend on when a thread wakes up. Later the value is less useful: a delayed acknowledgement
//! that is sent with the response makes service time look like distance.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// The round trip of the handshake of a new connection; `None` if the kernel has no sample: the handshake was
/// retransmitted, or the socket is not TCP.
#[must_use]
pub fn handshake_rtt(socket: BorrowedFd<'_>) -> Option<Duration> {
    let info = tcp_info(socket).ok()?;
    let micros = u64::from(info.tcpi_rtt);
    (micros > 0 && info.tcpi_total_retrans == 0).then(|| Duration::from_micros(micros))
}

#[expect(unsafe_code, reason = "no crate of ours wraps this option")]
fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and therefore open; the kernel writes at most `length` bytes,
    // the size of `info`, and leaves the rest of `info` zeroed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `info` was zeroed, and every bit pattern is valid for its integers.
    Ok(unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_fresh_connection_has_a_round_trip_and_a_unix_socket_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let rtt = handshake_rtt(stream.as_fd()).unwrap();
        assert!(rtt < Duration::from_secs(1), "{rtt:?}");
        let (unix, _other) = UnixStream::pair().unwrap();
        assert!(handshake_rtt(unix.as_fd()).is_none());
    }
}
