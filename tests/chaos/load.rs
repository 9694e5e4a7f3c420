//! Clients at a fixed rate, independent of the responses.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Concurrent clients: enough that a waiting client does not delay the others.
const CLIENTS: u32 = 16;

/// The results.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub count: usize,
    pub errors: Vec<String>,
    pub slowest: Duration,
    spans: Vec<Duration>,
}

impl Answers {
    /// The 99th percentile of response times.
    pub fn p99(&self) -> Duration {
        let mut spans = self.spans.clone();
        spans.sort();
        spans.get(spans.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Running clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    answers: Arc<Mutex<Answers>>,
    threads: Vec<JoinHandle<()>>,
    /// Requests a second.
    rate: u32,
}

impl Load {
    /// Starts a rate of requests on keep-alive connections.
    pub fn start(to: SocketAddr, rate: u32) -> Load {
        Load::by(to, rate, true)
    }

    /// Starts a rate of requests, each on a new connection.
    pub fn connecting(to: SocketAddr, rate: u32) -> Load {
        Load::by(to, rate, false)
    }

    fn by(to: SocketAddr, rate: u32, keeps: bool) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let answers = Arc::new(Mutex::new(Answers::default()));
        let every = Duration::from_secs(1) * CLIENTS / rate;
        let client = |number: u32| {
            let (stop, done, answers) = (stop.clone(), done.clone(), answers.clone());
            std::thread::spawn(move || {
                let mut connection = None;
                let mut next = Instant::now() + every * number / CLIENTS;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    let begun = Instant::now();
                    let result = exchange(&mut connection, to, keeps);
                    let took = begun.elapsed();
                    let mut answers = answers.lock().unwrap();
                    answers.count += 1;
                    answers.slowest = answers.slowest.max(took);
                    answers.spans.push(took);
                    if let Err(error) = result {
                        answers.errors.push(error.to_string());
                        connection = None;
                    }
                    drop(answers);
                    done.fetch_add(1, Ordering::Relaxed);
                    // After a delay, no requests are sent to catch up: they would raise the load above its rate.
                    next = (next + every).max(Instant::now());
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Load { stop, done, answers, threads, rate }
    }

    /// Waits until every client was served for a while, and discards those results.
    pub fn warm_up(&self) {
        let before = self.done.load(Ordering::Relaxed);
        super::eventually("requests are served", || {
            self.done.load(Ordering::Relaxed) > before + 20 * CLIENTS as usize
        });
        let mut answers = self.answers.lock().unwrap();
        assert!(answers.errors.is_empty(), "{:?}", answers.errors.first());
        *answers = Answers::default();
    }

    /// Waits until rate times `span` requests have ended: on a slow machine, or while requests wait, this takes longer
    /// than `span`.
    pub fn observe(&self, span: Duration) {
        let count = (span.as_secs_f64() * f64::from(self.rate)) as usize;
        let until = self.done.load(Ordering::Relaxed) + count;
        super::within(4 * span + Duration::from_secs(10), "requests end", || {
            self.done.load(Ordering::Relaxed) >= until
        });
    }

    /// The results since the warm-up or the last call.
    pub fn take(&self) -> Answers {
        std::mem::take(&mut *self.answers.lock().unwrap())
    }

    /// Stops the load; returns the results since the warm-up.
    pub fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.answers.lock().unwrap().clone()
    }
}

/// Sends one request; the connection is kept if both sides keep it.
fn exchange(connection: &mut Option<TcpStream>, to: SocketAddr, keeps: bool) -> io::Result<()> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream
        }
    };
    let close = if keeps { "" } else { "Connection: close\r\n" };
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: shop\r\n{close}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    let (end, length) = loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::other(format!("closed after {} bytes", answer.len())));
        }
        answer.extend_from_slice(&bytes[..count]);
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let field = |name: &str| {
                let line = head.lines().find(|line| line.starts_with(name));
                line.map(|line| line[name.len()..].trim().to_owned())
            };
            if !head.starts_with("http/1.1 200") {
                return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
            }
            let length: usize = field("content-length:").and_then(|l| l.parse().ok()).unwrap_or(0);
            let stays = field("connection:").is_none_or(|said| said != "close");
            break (end + 4, (length, stays));
        }
    };
    let (length, stays) = length;
    while answer.len() < end + length {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::other("a cut body"));
        }
        answer.extend_from_slice(&bytes[..count]);
    }
    if stays && keeps {
        *connection = Some(stream);
    }
    Ok(())
}
