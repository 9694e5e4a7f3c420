//! UDP sockets: many datagrams per system call, if the kernel supports that.
//!
//! The kernel delivers datagrams of one sender as a batch of equal sizes (GRO) and accepts such batches (GSO);
//! `quinn-udp` detects the support. Unlike QUIC datagrams, these datagrams may be larger than a packet; the
//! kernel must then fragment them, as for any other program.

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The most batches that one system call receives.
const RUNS: usize = 8;
/// Bytes of the longest batch.
const RUN_MAX: usize = 65_535;
/// Requested size of the kernel's socket buffers, in bytes: a burst can arrive between two turns of the
/// worker.
const KEPT: usize = 1 << 20;

/// Receive buffers: one set for all sockets of a worker, since the buffers are empty between two calls.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    meta: [RecvMeta; RUNS],
    filled: usize,
}

/// Datagrams of equal size from one sender; the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The bytes of all datagrams.
    pub bytes: &'a [u8],
    /// The size of each datagram.
    pub each: usize,
    /// The sender.
    pub from: SocketAddr,
    /// The local address that the datagrams were sent to.
    pub to: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
}

impl<'a> Run<'a> {
    fn new((meta, bytes): (&RecvMeta, &'a [u8])) -> Run<'a> {
        Run {
            bytes: &bytes[..meta.len.min(bytes.len())],
            each: meta.stride,
            from: meta.addr,
            to: meta.dst_ip,
            ecn: meta.ecn,
        }
    }

    /// Number of datagrams.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.bytes.len().div_ceil(self.each.max(1))).max(1) as u64
    }
}

impl Batch {
    /// The batches of the last call.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        self.meta[..self.filled].iter().zip(self.bytes.chunks(RUN_MAX)).map(Run::new)
    }
}

/// A UDP socket.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Datagrams {
    /// Adopts a bound socket.
    ///
    /// # Errors
    /// The socket's error.
    pub fn adopt(socket: Socket) -> io::Result<Datagrams> {
        let local = socket.local_addr()?;
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket, local.is_ipv6())?;
        for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
            if let Err(error) = set(&socket, KEPT) {
                tracing::debug!(%error, "UDP socket: buffer sizes not set");
            }
        }
        Ok(Datagrams { socket: UdpSocket::from_std(socket.into())?, state })
    }

    /// A socket connected to one address; it receives only from this address.
    ///
    /// # Errors
    /// The socket's error; descriptors or ports may have run out.
    pub fn towards(address: SocketAddr) -> io::Result<Datagrams> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        socket.connect(&SockAddr::from(address))?;
        Datagrams::adopt(socket)
    }

    /// Waits until the socket is readable or has an error.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives the available datagrams into `batch`.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; an ICMP error that an earlier datagram caused.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        batch.bytes.resize(RUNS * RUN_MAX, 0);
        batch.filled = 0;
        let mut rest = batch.bytes.chunks_mut(RUN_MAX);
        let mut buffers: [IoSliceMut<'_>; RUNS] =
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        let receive = || self.state.recv((&self.socket).into(), &mut buffers, &mut batch.meta);
        batch.filled = self.socket.try_io(Interest::READABLE, receive)?;
        Ok(())
    }

    /// Forwards datagrams; `from` is the local address to send from, if not the default.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full; an ICMP error that an earlier datagram caused.
    pub fn send(&self, run: &Run<'_>, to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let segments = self.state.max_gso_segments().max(1);
        for part in run.bytes.chunks(run.each.max(1) * segments).chain(no_bytes(run)) {
            let transmit = Transmit {
                destination: to,
                ecn: run.ecn,
                contents: part,
                segment_size: (part.len() > run.each).then_some(run.each),
                src_ip: from,
            };
            // Sent without waiting for readiness: the runtime does not know yet that a new socket is writable.
            self.state.try_send((&self.socket).into(), &transmit)?;
        }
        Ok(())
    }
}

/// An empty datagram counts as one.
fn no_bytes<'a>(run: &Run<'a>) -> Option<&'a [u8]> {
    run.bytes.is_empty().then_some(run.bytes)
}

/// Lets the kernel fragment datagrams larger than a packet, which is the kernel's default.
fn allow_fragments(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::WANT)?;
    if is_ipv6 {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::WANT)?;
        set_ipv6_dontfrag(socket.as_fd(), false)?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "no crate of ours wraps this option")]
fn set_ipv6_dontfrag(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let value = libc::c_int::from(on);
    // SAFETY: the descriptor is borrowed and therefore open; the kernel reads one integer, whose size is
    // given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_DONTFRAG,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> (Datagrams, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (Datagrams::adopt(socket).unwrap(), address)
    }

    #[tokio::test]
    async fn a_batch_is_sent_in_one_call_and_received_as_datagrams() {
        let (receiver, address) = bound();
        let sender = Datagrams::towards(address).unwrap();
        let bytes: Vec<u8> = (0..10_u8).flat_map(|number| vec![number; 1_200]).collect();
        let bytes = &bytes[..11_700];
        let run = Run { bytes, each: 1_200, from: address, to: None, ecn: None };
        sender.send(&run, address, None).unwrap();

        let (mut batch, mut seen, mut runs) = (Batch::default(), Vec::new(), 0);
        while seen.len() < bytes.len() {
            receiver.readable().await.unwrap();
            match receiver.receive(&mut batch) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => unreachable!("{error}"),
            }
            for run in batch.runs() {
                runs += 1;
                assert!(run.each == 1_200 || run.bytes.len() == 900);
                seen.extend_from_slice(run.bytes);
            }
        }

        assert_eq!(seen, bytes);
        if sender.state.max_gso_segments() > 1 && receiver.state.gro_segments() > 1 {
            assert_eq!(runs, 1, "the kernel could have kept them together");
        }
    }
}
