//! Network faults in user space: a TCP relay between the proxy and an endpoint that produces the selected fault, for
//! open connections and for new ones.
//!
//! The relay terminates TCP on both sides: handshakes are never late, no segment is lost, and a connection that the
//! endpoint refuses is first accepted and then reset. The relay does not parse HTTP: a response is everything that
//! comes back until the next request.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The fault that the relay produces.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    /// The bytes of each direction are delayed by this time, in order; at most 4 MiB are in transit for each
    /// direction.
    Latency(Duration),
    /// Connections are reset: open ones at once, new ones when they are accepted.
    Reset,
    /// Bytes are dropped; new connections stay in the kernel's backlog. When the fault ends, new connections and
    /// those that lost a byte are reset, because TCP never delivers a stream with a gap; idle connections
    /// survive.
    Blackhole,
    /// The listen backlog is full: a SYN gets no answer. Open connections continue.
    NoAccept,
    /// Responses are slow: `bytes` at a time.
    Drip { bytes: usize, every: Duration },
    /// A longer response is truncated after this number of bytes, by FIN.
    Truncate { after: usize },
    /// A longer response is truncated after this number of bytes, by RST.
    TruncateReset { after: usize },
    /// Responses are replaced by bytes that are not HTTP.
    Garbage,
    /// Connections are refused, and open ones are closed, as after a kill.
    Refuse,
}

/// The longest time until a sleeping thread notices a change of the fault.
const TICK: Duration = Duration::from_millis(1);
/// The timeout of a thread that waits for bytes only.
const LONG: Duration = Duration::from_secs(3600);
/// Bytes that are read at once, and the number of reads that may be queued: 4 MiB.
const PIECE: usize = 4096;
const PIECES: usize = 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
const GARBAGE: &[u8] = b"\x16\x03\x00garbage\n\xff";

/// The relay. Dropping it closes its connections and ends its threads.
pub struct Relay {
    pub at: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay to this endpoint, without a fault.
    pub fn before(endpoint: SocketAddr) -> Relay {
        // The kernel reserves only a port that was bound by number while no socket listens.
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let again = || TcpListener::bind(free()?);
        let listener = std::iter::repeat_with(again).take(9).find_map(Result::ok).unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { endpoint, listener, state: Mutex::default() });
        let acceptor = shared.clone();
        let acceptor = Some(std::thread::spawn(move || acceptor.accept()));
        Relay { at, shared, acceptor }
    }

    /// Sets the fault: for new connections when this returns, for open ones within 2 ms.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.lock();
        if fault != state.fault {
            // Connections in the backlog of a listener that does not accept are part of that fault.
            while state.shut()
                && let Ok((client, _)) = self.shared.listener.accept()
            {
                Link::new(client).end(RST);
            }
            self.shared.listen(fault);
            state.fault = fault;
        }
        for link in state.live.iter().filter_map(|(link, _)| link.upgrade()) {
            match fault {
                Fault::Refuse => link.end(FIN),
                Fault::Reset => link.end(RST),
                _ if fault != Fault::Blackhole && link.holed.load(SeqCst) => link.end(RST),
                _ => {}
            }
        }
    }

    /// Connections accepted so far, including those that were reset at once.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.lock().live.iter().filter(|(link, _)| link.strong_count() > 0).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Fault::Refuse);
        let mut state = self.shared.lock();
        state.over = true;
        let live = std::mem::take(&mut state.live);
        drop(state);
        let threads = live.into_iter().map(|(_, thread)| thread).chain(self.acceptor.take());
        // The panicked thread has printed its message; a second panic would hide it.
        threads.for_each(|thread| drop(thread.join()));
    }
}

struct Shared {
    endpoint: SocketAddr,
    listener: TcpListener,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fault: Fault,
    accepted: usize,
    over: bool,
    live: Vec<(Weak<Link>, JoinHandle<()>)>,
}

impl State {
    fn shut(&self) -> bool {
        matches!(self.fault, Fault::Refuse | Fault::NoAccept | Fault::Blackhole)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sets the listening state for this fault. On Linux a shut-down listener keeps its port and can listen again.
    fn listen(&self, fault: Fault) {
        let result = match fault {
            Fault::Refuse => rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both),
            Fault::NoAccept => rustix::net::listen(&self.listener, 1),
            _ => rustix::net::listen(&self.listener, BACKLOG),
        };
        result.unwrap();
        // The kernel's backlog holds one connection more than requested, and keeps closed ones.
        let at = self.listener.local_addr().unwrap();
        for _ in 0..if fault == Fault::NoAccept { 2 } else { 0 } {
            drop(TcpStream::connect_timeout(&at, 5 * TICK));
        }
    }

    fn accept(self: Arc<Self>) {
        loop {
            let mut state = self.lock();
            if state.over {
                return;
            }
            let shut = state.shut();
            let client = if shut { None } else { self.listener.accept().ok() };
            let Some((client, _)) = client else {
                drop(state);
                // Shutting down a listener wakes the threads that poll it.
                let listener = PollFd::new(&self.listener, PollFlags::IN);
                wait((!shut).then_some(listener), if shut { TICK } else { LONG });
                continue;
            };
            state.accepted += 1;
            let (link, shared) = (Arc::new(Link::new(client)), self.clone());
            if state.fault == Fault::Reset {
                link.end(RST);
                continue;
            }
            state.live.retain(|(_, thread)| !thread.is_finished());
            let weak = Arc::downgrade(&link);
            state.live.push((weak, std::thread::spawn(move || link.carry(&shared))));
        }
    }
}

/// A connection of the proxy, and the relay's connection to the endpoint.
struct Link {
    client: TcpStream,
    server: OnceLock<TcpStream>,
    ended: AtomicBool,
    /// Whether bytes were dropped.
    holed: AtomicBool,
    /// Whether a request was sent and nothing has come back since.
    asked: AtomicBool,
}

/// How to end a connection: the linger option for its close, and the shutdown that wakes the pumps.
type End = (Option<Duration>, Shutdown);
const RST: End = (Some(Duration::ZERO), Shutdown::Read);
const FIN: End = (None, Shutdown::Both);

impl Link {
    fn new(client: TcpStream) -> Link {
        prepare(&client);
        let (server, ended, holed, asked) = Default::default();
        Link { client, server, ended, holed, asked }
    }

    /// Ends both sides.
    fn end(&self, (linger, how): End) {
        self.ended.store(true, SeqCst);
        for socket in [Some(&self.client), self.server.get()].into_iter().flatten() {
            // Both calls fail on a connection that is closed already, which is harmless.
            let _ = (set_socket_linger(socket, linger), socket.shutdown(how));
        }
    }

    fn carry(&self, shared: &Shared) {
        let second = Duration::from_secs(1);
        let Ok(server) = TcpStream::connect_timeout(&shared.endpoint, second) else {
            return self.end(RST);
        };
        prepare(&server);
        // Under the lock, so that either `set` sees the connection or the pumps see that it has ended.
        let state = shared.lock();
        let server = self.server.get_or_init(|| server);
        drop(state);
        let pump = |from, to, down| {
            let (line, drip, answered) = (VecDeque::new(), Instant::now(), 0);
            Pump { link: self, from, to, down, line, drip, answered }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pump(server, &self.client, true).run(shared));
            pump(&self.client, server, false).run(shared);
        });
    }
}

/// Moves one direction's bytes.
struct Pump<'a> {
    link: &'a Link,
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// Whether these are responses.
    down: bool,
    /// The bytes read, with their times; an empty item is a FIN, an error is an RST.
    line: VecDeque<(Instant, io::Result<Vec<u8>>)>,
    /// When the next bytes of a slow response may be sent.
    drip: Instant,
    /// Bytes relayed since the last request.
    answered: usize,
}

impl Pump<'_> {
    fn run(mut self, shared: &Shared) {
        let (mut bytes, mut over) = ([0; PIECE], false);
        loop {
            if self.line.len() < PIECES && !over {
                let read = self.from.read(&mut bytes).map(|count| bytes[..count].to_vec());
                if !matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock) {
                    over = read.as_ref().is_ok_and(Vec::is_empty) || read.is_err();
                    self.line.push_back((Instant::now(), read));
                }
            }
            // Under the lock, so that `set` knows of every gap when the fault ends.
            let state = shared.lock();
            let fault = state.fault;
            if fault == Fault::Blackhole && !self.line.is_empty() {
                self.link.holed.store(true, SeqCst);
                self.line.clear();
            }
            drop(state);
            // Checked after the read, because the relay's own close looks like the peer's.
            if self.link.ended.load(SeqCst) || (over && self.line.is_empty()) {
                return;
            }
            let concerns = self.down || matches!(fault, Fault::Latency(_));
            let Some(most) = self.pass(if concerns { fault } else { Fault::None }) else { return };
            let reads = self.line.len() < PIECES && !over;
            wait(reads.then(|| PollFd::new(self.from, PollFlags::IN)), most);
        }
    }

    /// Relays the permitted bytes; returns the time until more are permitted, or `None` at the end.
    fn pass(&mut self, fault: Fault) -> Option<Duration> {
        while let Some((read, piece)) = self.line.front_mut() {
            let now = Instant::now();
            let due = match fault {
                Fault::Latency(by) => *read + by,
                Fault::Drip { .. } => self.drip,
                _ => now,
            };
            if due > now {
                return Some(TICK.min(due - now));
            }
            let Ok(bytes) = piece else { break };
            if bytes.is_empty() {
                drop(self.to.shutdown(Shutdown::Write));
                return None;
            }
            if !self.down {
                self.link.asked.store(true, SeqCst);
            } else if self.link.asked.swap(false, SeqCst) {
                self.answered = 0;
            }
            let most = shape(fault, self.answered, bytes);
            match (most, fault) {
                (0, Fault::Truncate { .. }) => {
                    // First, so that a request after the cut meets an RST, as with a closed process.
                    drop(self.from.shutdown(Shutdown::Both));
                    drop(self.to.shutdown(Shutdown::Write));
                    return None;
                }
                (0, _) => break,
                (_, Fault::Drip { every, .. }) => self.drip = now + every,
                _ => {}
            }
            match self.to.write(&bytes[..most]) {
                Ok(count) => {
                    self.answered += count;
                    bytes.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(TICK),
                Err(_) => break,
            }
            if bytes.is_empty() {
                self.line.pop_front();
            }
        }
        if self.line.is_empty() {
            return Some(LONG);
        }
        self.link.end(RST);
        None
    }
}

/// Changes the bytes of a response as the fault requires; returns how many of them may pass now.
fn shape(fault: Fault, answered: usize, bytes: &mut [u8]) -> usize {
    match fault {
        Fault::Truncate { after } | Fault::TruncateReset { after } => {
            bytes.len().min(after.saturating_sub(answered))
        }
        Fault::Drip { bytes: most, .. } => bytes.len().min(most.max(1)),
        Fault::Garbage => {
            let garbage = GARBAGE.iter().cycle().skip(answered % GARBAGE.len());
            bytes.iter_mut().zip(garbage).for_each(|(byte, other)| *byte = *other);
            bytes.len()
        }
        _ => bytes.len(),
    }
}

fn prepare(socket: &TcpStream) {
    socket.set_nonblocking(true).unwrap();
    socket.set_nodelay(true).unwrap();
}

/// Sleeps until the descriptor is readable, at most `most`; a signal may end the sleep early, which all callers
/// tolerate.
fn wait(mut what: Option<PollFd<'_>>, most: Duration) {
    let _ = poll(what.as_mut_slice(), Some(&Timespec::try_from(most).unwrap()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay before an endpoint that echoes, and a connection through it.
    fn rig() -> (Relay, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::before(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let client = connect(&relay);
        assert_eq!(ask(&client), Ok("hello".to_owned()));
        (relay, client)
    }

    fn connect(relay: &Relay) -> TcpStream {
        let client = TcpStream::connect(relay.at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    /// The answer to "hello": five bytes, fewer before a FIN, or an error.
    fn ask(mut client: &TcpStream) -> Result<String, ErrorKind> {
        client.write_all(b"hello").map_err(|error| error.kind())?;
        receive(client)
    }

    fn receive(client: &TcpStream) -> Result<String, ErrorKind> {
        let mut received = Vec::new();
        client.take(5).read_to_end(&mut received).map_err(|error| error.kind())?;
        Ok(String::from_utf8_lossy(&received).into_owned())
    }

    fn silent(client: &TcpStream) -> bool {
        client.set_read_timeout(Some(Duration::from_millis(60))).unwrap();
        let received = receive(client);
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        received == Err(ErrorKind::WouldBlock)
    }

    fn eventually(mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !done() {
            assert!(Instant::now() < deadline);
            wait(None, TICK);
        }
    }

    fn hello() -> Result<String, ErrorKind> {
        Ok("hello".to_owned())
    }

    /// Sends bytes and reads their echo, complete and in order; returns the duration.
    fn echoed(client: &TcpStream, count: usize) -> Duration {
        let sent: Vec<u8> = (0..count).map(|n| (n / 7) as u8).collect();
        let (begun, mut received) = (Instant::now(), vec![0; count]);
        std::thread::scope(|scope| {
            scope.spawn(|| (&mut &*client).write_all(&sent).unwrap());
            (&mut &*client).read_exact(&mut received).unwrap();
        });
        assert!(sent == received);
        begun.elapsed()
    }

    #[test]
    fn without_a_fault_bytes_and_ends_are_relayed_and_threads_end() {
        let (relay, client) = rig();
        assert_eq!((relay.accepted(), relay.open()), (1, 1));
        echoed(&client, 8 << 20);
        // A FIN of one direction does not end the other.
        (&mut &client).write_all(b"last").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(receive(&client), Ok("last".to_owned()));
        eventually(|| relay.open() == 0);
        let (shared, _idle) = (Arc::downgrade(&relay.shared), connect(&relay));
        eventually(|| relay.open() == 1);
        drop(relay);
        assert_eq!(shared.strong_count(), 0);
        // No endpoint listens there: the connection is reset.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let relay = Relay::before(nobody);
        assert_eq!(receive(&connect(&relay)), Err(ErrorKind::ConnectionReset));
    }

    #[test]
    fn latency_delays_without_a_loss_of_bandwidth_and_ends_at_once() {
        let (relay, client) = rig();
        relay.set(Fault::Latency(Duration::from_millis(40)));
        let small = echoed(&client, 5);
        assert!((80..200).contains(&small.as_millis()), "{small:?}");
        // More than 200 reads for each direction: with a delay for each read this would take eight seconds.
        let large = echoed(&client, 1 << 20);
        assert!((80..800).contains(&large.as_millis()), "{large:?}");
        relay.set(Fault::Latency(Duration::from_secs(3600)));
        (&mut &client).write_all(b"hello").unwrap();
        assert!(silent(&client));
        relay.set(Fault::None);
        assert_eq!(receive(&client), hello());
    }

    #[test]
    fn open_and_new_connections_are_reset() {
        let (relay, client) = rig();
        relay.set(Fault::Reset);
        let begun = Instant::now();
        assert_eq!(receive(&client), Err(ErrorKind::ConnectionReset));
        assert!(begun.elapsed() < Duration::from_millis(50));
        assert_eq!(receive(&connect(&relay)), Err(ErrorKind::ConnectionReset));
        eventually(|| (relay.accepted(), relay.open()) == (2, 0));
        relay.set(Fault::None);
        assert_eq!(ask(&connect(&relay)), hello());
    }

    #[test]
    fn a_blackhole_drops_bytes_and_idle_connections_survive() {
        let (relay, client) = rig();
        let idle = connect(&relay);
        assert_eq!(ask(&idle), hello());
        relay.set(Fault::Blackhole);
        let new = connect(&relay);
        for stream in [&client, &new] {
            (&mut &*stream).write_all(b"hello").unwrap();
            assert!(silent(stream));
        }
        // A FIN is dropped, too.
        new.shutdown(Shutdown::Write).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(silent(&client) && silent(&new));
        assert_eq!((relay.accepted(), relay.open()), (2, 2));
        relay.set(Fault::None);
        assert_eq!(receive(&client), Err(ErrorKind::ConnectionReset));
        assert_eq!(receive(&new), Err(ErrorKind::ConnectionReset));
        assert_eq!(ask(&idle), hello());
        assert_eq!(ask(&connect(&relay)), hello());
    }

    #[test]
    fn a_full_backlog_drops_new_connections_and_keeps_open_ones() {
        let (relay, client) = rig();
        relay.set(Fault::NoAccept);
        for _ in 0..3 {
            let tried = TcpStream::connect_timeout(&relay.at, Duration::from_millis(60));
            assert_eq!(tried.unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert_eq!(ask(&client), hello());
        relay.set(Fault::None);
        assert_eq!(ask(&connect(&relay)), hello());
    }

    #[test]
    fn responses_are_slowed_truncated_and_corrupted() {
        let (relay, client) = rig();
        relay.set(Fault::Drip { bytes: 2, every: Duration::from_millis(30) });
        let begun = Instant::now();
        assert_eq!(ask(&client), hello());
        assert!((60..200).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        relay.set(Fault::Garbage);
        assert_eq!(ask(&client).unwrap().as_bytes(), &GARBAGE[..5]);
        // The limit applies to each response separately.
        relay.set(Fault::Truncate { after: 5 });
        assert_eq!((ask(&client), ask(&client)), (hello(), hello()));
        relay.set(Fault::Truncate { after: 3 });
        assert_eq!(ask(&client), Ok("hel".to_owned()));
        drop(ask(&client));
        eventually(|| relay.open() == 0);
        let mut client = connect(&relay);
        relay.set(Fault::TruncateReset { after: 3 });
        client.write_all(b"hello").unwrap();
        let mut received = [0; 3];
        client.read_exact(&mut received).unwrap();
        assert_eq!((&received, receive(&client)), (b"hel", Err(ErrorKind::ConnectionReset)));
        eventually(|| relay.open() == 0);
    }

    #[test]
    fn refusing_closes_all_connections_and_the_port_returns() {
        let (relay, mut client) = rig();
        for _ in 0..3 {
            relay.set(Fault::Refuse);
            relay.set(Fault::Refuse);
            let tried = TcpStream::connect(relay.at);
            assert_eq!(tried.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            assert_eq!(receive(&client), Ok(String::new()));
            relay.set(Fault::None);
            client = connect(&relay);
            assert_eq!(ask(&client), hello());
        }
    }
}
