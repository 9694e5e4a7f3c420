//! A simulated HTTP/1.1 endpoint: a few slots, a first-in-first-out queue, and selectable faults.
//!
//! The queue is computed: each request takes the slot that is free first, and its thread sleeps until that slot would
//! have finished. An aborted request therefore keeps its slot, as in most applications.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// The time for which the application waits for the rest of an upload before it resets the connection.
const UPLOAD_PATIENCE: Duration = Duration::from_millis(300);
/// The body of `/large`: larger than all buffers on the path together.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'x'; 32 * 1024 * 1024]);

/// The properties of an endpoint.
#[derive(Clone, Debug)]
pub struct Traits {
    /// Requests served at once.
    pub slots: usize,
    /// Service time by the path's last segment; the first entry is for every other path.
    pub times: Vec<(&'static str, Duration)>,
    /// The round trip, which answers of probes show and TCP handshakes do not.
    pub distance: Duration,
}

/// A running endpoint; it stops when the last handle is dropped.
pub struct Endpoint {
    pub name: String,
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listener: Mutex<Option<socket2::Socket>>,
}

struct Shared {
    name: String,
    traits: Traits,
    /// When each slot is free.
    slots: Mutex<Vec<Instant>>,
    /// The factor of service times, in thousandths.
    factor: AtomicU32,
    frozen: Mutex<bool>,
    thawed: Condvar,
    open: Mutex<Vec<(usize, TcpStream)>>,
    next_id: AtomicUsize,
    stopped: AtomicBool,
    /// State of the generator that varies service times.
    seed: AtomicU64,
}

impl Endpoint {
    /// Starts an endpoint on a free port.
    pub fn start(name: &str, traits: &Traits) -> Endpoint {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            traits: traits.clone(),
            slots: Mutex::new(vec![Instant::now(); traits.slots]),
            factor: AtomicU32::new(1_000),
            frozen: Mutex::new(false),
            thawed: Condvar::new(),
            open: Mutex::new(Vec::new()),
            next_id: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            seed: AtomicU64::new(name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte))),
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = listen(any);
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        accept(&socket, &shared);
        Endpoint { name: name.to_owned(), address, shared, listener: Mutex::new(Some(socket)) }
    }

    /// Sets the factor of service times.
    pub fn slow_down(&self, factor: f64) {
        self.shared.factor.store((factor * 1_000.0) as u32, Ordering::SeqCst);
    }

    /// Stops reading, answering and accepting, as a process under SIGSTOP does; connections stay open.
    pub fn freeze(&self) {
        *self.shared.frozen.lock().unwrap() = true;
    }

    /// Goes on after [`Endpoint::freeze`].
    pub fn thaw(&self) {
        *self.shared.frozen.lock().unwrap() = false;
        self.shared.thawed.notify_all();
    }

    /// Cuts every connection and refuses new ones.
    pub fn kill(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.lock().unwrap().take() {
            drop(listener.shutdown(std::net::Shutdown::Both));
        }
        for (_, stream) in self.shared.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }

    /// Listens at the same address again.
    pub fn restart(&self) {
        self.shared.stopped.store(false, Ordering::SeqCst);
        self.shared.slots.lock().unwrap().fill(Instant::now());
        let socket = listen(self.address);
        accept(&socket, &self.shared);
        *self.listener.lock().unwrap() = Some(socket);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
    }
}

/// A listening socket; waits if the address is still in use by its predecessor.
fn listen(address: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    super::eventually("the address is free", || socket.bind(&address.into()).is_ok());
    socket.listen(4096).unwrap();
    socket
}

fn accept(socket: &socket2::Socket, shared: &Arc<Shared>) {
    let listener = TcpListener::from(socket.try_clone().unwrap());
    let shared = shared.clone();
    super::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if shared.stopped.load(Ordering::SeqCst) {
                return;
            }
            shared.while_frozen();
            let shared = shared.clone();
            super::spawn(move || shared.connection(stream));
        }
    });
}

impl Shared {
    /// Serves one connection to its end.
    fn connection(&self, stream: TcpStream) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if let Ok(handle) = stream.try_clone() {
            self.open.lock().unwrap().push((id, handle));
        }
        // An error here is the end of a connection.
        drop(self.serve(&stream));
        self.open.lock().unwrap().retain(|(known, _)| *known != id);
        if !self.stopped.load(Ordering::SeqCst) {
            // Dropped rather than shut down if `serve` requested a reset.
            drop(stream);
        }
    }

    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut received = Vec::new();
        loop {
            let Some(head) = read_head(stream, &mut received)? else { return Ok(()) };
            self.while_frozen();
            let path = head.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/");
            let last = path.rsplit('/').next().unwrap_or_default();
            if !read_body(stream, &mut received, length(&head))? {
                let reset = Some(Duration::ZERO);
                return socket2::SockRef::from(stream).set_linger(reset);
            }
            let finished = self.take_slot(self.service_time(last));
            super::sleep_until(finished + self.traits.distance);
            self.while_frozen();
            let (status, body) = match last {
                "reject400" => ("400 Bad Request", &b"no"[..]),
                "reject500" => ("500 Internal Server Error", &b"no"[..]),
                "large" => ("200 OK", LARGE.as_slice()),
                _ => ("200 OK", &b"ok"[..]),
            };
            let (name, length) = (&self.name, body.len());
            let head =
                format!("HTTP/1.1 {status}\r\nx-who: {name}\r\nContent-Length: {length}\r\n\r\n");
            // A small response in one segment, as servers send it.
            match body.len() {
                ..1_000 => stream.write_all(&[head.as_bytes(), body].concat())?,
                _ => {
                    stream.write_all(head.as_bytes())?;
                    stream.write_all(body)?;
                }
            }
        }
    }

    fn while_frozen(&self) {
        let frozen = self.frozen.lock().unwrap();
        drop(self.thawed.wait_while(frozen, |frozen| *frozen).unwrap());
    }

    /// The service time of one request, varied by a fifth in each direction, at most 5 ms.
    fn service_time(&self, last: &str) -> Duration {
        if last == "healthz" {
            return Duration::from_millis(1);
        }
        let times = &self.traits.times;
        let known = times.iter().skip(1).find(|(name, _)| *name == last);
        let (_, time) = known.unwrap_or(&times[0]);
        let step = |seed: u64| seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let seed = self.seed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |s| Some(step(s)));
        let part = (step(seed.unwrap()) >> 33) as f64 / f64::from(1_u32 << 31);
        let factor = f64::from(self.factor.load(Ordering::SeqCst)) / 1_000.0;
        let time = time.mul_f64(factor);
        let varied = (time / 5).min(Duration::from_millis(5));
        time - varied + varied.mul_f64(2.0 * part)
    }

    /// The time at which a request that arrives now will be finished.
    fn take_slot(&self, service: Duration) -> Instant {
        let mut slots = self.slots.lock().unwrap();
        let first = slots.iter_mut().min().unwrap();
        *first = (*first).max(Instant::now()) + service;
        *first
    }
}

/// The next request's head; `None` at the end of the connection.
fn read_head(mut stream: &TcpStream, received: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    let mut bytes = [0; 16_384];
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = received.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(None);
        }
        received.extend_from_slice(&bytes[..count]);
    }
}

fn length(head: &str) -> usize {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:"));
    line.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).unwrap_or(0)
}

/// Reads and discards a request body; `false` when the rest did not arrive within [`UPLOAD_PATIENCE`].
fn read_body(
    mut stream: &TcpStream,
    received: &mut Vec<u8>,
    length: usize,
) -> std::io::Result<bool> {
    let mut bytes = [0; 16_384];
    let deadline = Instant::now() + UPLOAD_PATIENCE;
    while received.len() < length {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => received.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if deadline <= Instant::now() {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
    received.drain(..length);
    stream.set_read_timeout(None)?;
    Ok(true)
}
