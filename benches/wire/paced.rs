//! A load at a set rate, whose requests are due at moments that do not depend on the answers.
//!
//! Gaps are exponential (Poisson arrivals), and a request's latency counts from when it was due, so that a proxy that
//! stalls is charged for everything it delayed (G. Tene's "coordinated omission"). One thread, 64 connections.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate::decision::units::Dice;

const CONNECTIONS: usize = 64;

/// What a paced load has measured.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// Requests that were answered.
    pub requests: f64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// The 99th percentile, in microseconds.
    pub p99: f64,
    /// The longest, in microseconds.
    pub longest: f64,
}

/// Runs this program on core 1 as a paced load.
pub fn load(address: SocketAddr, rate: f64, seconds: f64, path: &str) -> Paced {
    let output = Command::new("taskset")
        .args(["-c", "1"])
        .arg(std::env::current_exe().expect("this program has a file"))
        .args(["paced", &address.to_string(), &rate.to_string(), &seconds.to_string(), path])
        .output()
        .expect("the load runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [requests, p50, p99, longest] = figures[..] else {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    };
    Paced { requests, p50, p99, longest }
}

struct Connection {
    stream: TcpStream,
    /// When the request in flight was due.
    due: Option<Instant>,
    received: Vec<u8>,
}

/// `paced ADDRESS RATE SECONDS PATH`: prints the number of answers, p50, p99 and the longest latency.
pub fn run(arguments: &[String]) {
    let address: SocketAddr = arguments[0].parse().expect("an address");
    let rate: f64 = arguments[1].parse().expect("a rate");
    let seconds: f64 = arguments[2].parse().expect("seconds");
    let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", arguments[3]);
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(address).expect("a connection");
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            Connection { stream, due: None, received: Vec::new() }
        })
        .collect();
    let mut latencies = drive(&mut connections, &request, rate, Duration::from_secs_f64(seconds));
    latencies.sort_by(f64::total_cmp);
    let part = |share: f64| {
        let at = (latencies.len() as f64 * share) as usize;
        latencies.get(at.min(latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    println!("{} {} {} {}", latencies.len(), part(0.5), part(0.99), part(1.0));
}

/// Sends and receives until all that was due is answered, at most 2 s longer than `length`.
fn drive(connections: &mut [Connection], request: &str, rate: f64, length: Duration) -> Vec<f64> {
    let mut dice = Dice::seeded(1);
    let mut gap = move || Duration::from_secs_f64(-(1.0 - dice.unit()).ln() / rate);
    let start = Instant::now();
    let (mut due, end) = (start + gap(), start + length);
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut latencies = Vec::new();
    loop {
        let now = Instant::now();
        while due <= now && due < end {
            waiting.push_back(due);
            due += gap();
        }
        for connection in connections.iter_mut().filter(|connection| connection.due.is_none()) {
            let Some(first) = waiting.pop_front() else { break };
            connection.stream.write_all(request.as_bytes()).expect("it takes a request");
            connection.due = Some(first);
        }
        let busy = connections.iter().any(|connection| connection.due.is_some());
        if due >= end && ((!busy && waiting.is_empty()) || now > end + Duration::from_secs(2)) {
            return latencies;
        }
        let until = due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
        wait(connections, until);
        for connection in connections.iter_mut() {
            if let Some(latency) = receive(connection) {
                latencies.push(latency.as_secs_f64() * 1e6);
            }
        }
    }
}

fn wait(connections: &[Connection], longest: Duration) {
    let busy = connections.iter().filter(|connection| connection.due.is_some());
    let mut descriptors: Vec<PollFd<'_>> =
        busy.map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
    let longest =
        Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: i64::from(longest.subsec_nanos()) };
    let _ = poll(&mut descriptors, Some(&longest));
}

/// Reads what is there; the latency where the answer is complete.
fn receive(connection: &mut Connection) -> Option<Duration> {
    let due = connection.due?;
    let mut space = [0; 16 * 1024];
    match (&connection.stream).read(&mut space) {
        Ok(0) => panic!("the proxy closed a connection"),
        Ok(count) => connection.received.extend_from_slice(&space[..count]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
        Err(error) => panic!("{error}"),
    }
    if !complete(&connection.received) {
        return None;
    }
    connection.received.clear();
    connection.due = None;
    Some(due.elapsed())
}

/// Whether an answer with `Content-Length` is here as a whole.
fn complete(received: &[u8]) -> bool {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.expect("a content-length").trim().parse().unwrap();
    received.len() >= end + 4 + length
}
