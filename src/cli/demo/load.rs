//! Clients: a fixed rate of requests, independent of the responses, and their results.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The results of a time window.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Answers by cluster.
    pub(super) by_cluster: BTreeMap<String, usize>,
    /// Responses that were not 200, and connections that failed.
    pub(super) errors: usize,
    first_error: Option<String>,
    latencies: Vec<f64>,
}

impl Window {
    /// The number of answers.
    pub(super) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The fraction of good answers that came from a cluster.
    pub(super) fn share(&self, cluster: &str) -> f64 {
        let all: usize = self.by_cluster.values().sum();
        self.by_cluster.get(cluster).map_or(0.0, |count| *count as f64 / all.max(1) as f64)
    }

    /// A quantile of response times, in seconds.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = (sorted.len() as f64 * part) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }

    /// The number of errors, and the first of them.
    pub(super) fn errors_seen(&self) -> String {
        let first = self.first_error.as_ref().map(|first| format!(" (the first: {first})"));
        format!("{} errors{}", self.errors, first.unwrap_or_default())
    }

    /// Adds a response of a cluster, or the reason why there is none.
    pub(super) fn add(&mut self, seconds: f64, cluster: Result<String, String>) {
        self.latencies.push(seconds);
        match cluster {
            Ok(cluster) => *self.by_cluster.entry(cluster).or_default() += 1,
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    /// Adds another window.
    pub(super) fn merge(&mut self, other: Window) {
        for (cluster, count) in other.by_cluster {
            *self.by_cluster.entry(cluster).or_default() += count;
        }
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latencies.extend(other.latencies);
    }
}

#[derive(Debug)]
struct Shared {
    proxy: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
    window: Mutex<Window>,
    rate_milli: AtomicU64,
}

/// Clients that send until they are stopped.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(5);

impl Load {
    /// Starts clients of the proxy at this address.
    pub(super) fn start(proxy: SocketAddr) -> Load {
        let shared = Arc::new(Shared {
            proxy,
            idle: Mutex::default(),
            window: Mutex::default(),
            rate_milli: AtomicU64::new(0),
        });
        let task = tokio::spawn(arrive(shared.clone()));
        Load { shared, task }
    }

    /// Sets the rate of requests from now on.
    pub(super) fn set_rate(&self, per_second: f64) {
        self.shared.rate_milli.store((per_second * 1e3) as u64, Ordering::Relaxed);
    }

    /// Takes the results since the last call.
    pub(super) fn take(&self) -> Window {
        std::mem::take(&mut *self.shared.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends one more request; returns its status and refusal.
    pub(super) async fn ask(&self, path: &str) -> String {
        match exchange(&self.shared, path).await {
            Ok(answer) => answer.summary(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops the clients.
    pub(super) fn stop(self) {
        self.task.abort();
    }
}

/// Sends requests at their due times, in small batches, independently of the responses.
async fn arrive(shared: Arc<Shared>) {
    let mut owed = 0.0;
    let mut before = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let rate = shared.rate_milli.load(Ordering::Relaxed) as f64 / 1e3;
        owed += rate * before.elapsed().as_secs_f64();
        before = Instant::now();
        while owed >= 1.0 {
            owed -= 1.0;
            tokio::spawn(one(shared.clone()));
        }
    }
}

async fn one(shared: Arc<Shared>) {
    let started = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, exchange(&shared, "/")).await;
    let took = started.elapsed().as_secs_f64();
    let cluster = match answer {
        Ok(Ok(answer)) if answer.status == 200 => Ok(answer.cluster),
        Ok(Ok(answer)) => Err(answer.summary()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no response in time".to_owned()),
    };
    let mut window = shared.window.lock().unwrap_or_else(PoisonError::into_inner);
    window.add(took, cluster);
}

struct Answer {
    status: u16,
    cluster: String,
    refusal: String,
}

impl Answer {
    /// The status and the refusal.
    fn summary(&self) -> String {
        format!("{} {}", self.status, self.refusal).trim_end().to_owned()
    }
}

async fn exchange(shared: &Shared, path: &str) -> std::io::Result<Answer> {
    let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut stream = match idle {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(shared.proxy).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(512);
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    loop {
        let mut space = [0; 1024];
        match stream.read(&mut space).await? {
            0 => return Err(broken()),
            count => bytes.extend_from_slice(&space[..count]),
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value).to_owned()
        };
        let length: usize = field("content-length").parse().map_err(|_| broken())?;
        if body.len() < length {
            continue;
        }
        if !field("connection").eq_ignore_ascii_case("close") {
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
        let status =
            head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        return Ok(Answer {
            status,
            cluster: field("x-cluster"),
            refusal: field("tidegate-refusal"),
        });
    }
}
