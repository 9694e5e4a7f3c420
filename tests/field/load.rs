//! Loads: at a fixed rate independent of the responses (open loop), or one request after another (closed loop).

use super::client::{Client, Outcome, PATIENCE, Who};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections of one open loop, at most; a request that finds none free waits, and the wait counts.
const CLIENTS_MAX: usize = 400;

/// One request of a load.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When the request was due, since the start of the load.
    pub due: Duration,
    /// From the due time to the end of the answer.
    pub took: Duration,
    pub outcome: Outcome,
}

impl Sample {
    /// Whether an endpoint whose name starts with `name` answered.
    pub fn is_served_by(&self, name: &str) -> bool {
        matches!(&self.outcome, Outcome::Served(by) if by.starts_with(name))
    }
}

/// Outcomes of the requests so far.
#[derive(Clone)]
struct Record {
    begun: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Record {
    fn new() -> Record {
        Record { begun: Instant::now(), samples: Arc::new(Mutex::new(Vec::new())) }
    }

    fn push(&self, due: Instant, outcome: Outcome) {
        let (took, due) = (due.elapsed(), due - self.begun);
        self.samples.lock().unwrap().push(Sample { due, took, outcome });
    }
}

/// Running clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    rate_millis: Arc<AtomicUsize>,
    record: Record,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts a fixed rate of requests for `path`, each at its due time, independent of the responses.
    pub fn open(to: SocketAddr, who: Who, rate: f64, path: &str) -> Load {
        let (stop, record) = (Arc::new(AtomicBool::new(false)), Record::new());
        let rate_millis = Arc::new(AtomicUsize::new((rate * 1_000.0) as usize));
        let path = path.to_owned();
        let client = move |number| Client::new(who.address(number), to, &path);
        let crowd = Crowd::new(Box::new(client), record.clone());
        let (stopped, paced) = (stop.clone(), rate_millis.clone());
        let thread = super::spawn(move || pace(crowd, &stopped, &paced));
        Load { stop, rate_millis, record, threads: vec![thread] }
    }

    /// Starts `clients` that each send their next request `pause` after the last answer.
    pub fn closed(to: SocketAddr, who: Who, clients: usize, path: &str, pause: Duration) -> Load {
        let (stop, record) = (Arc::new(AtomicBool::new(false)), Record::new());
        let client = |number| {
            let (stop, record) = (stop.clone(), record.clone());
            let mut client = Client::new(who.address(number), to, path);
            super::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let due = Instant::now();
                    let outcome = client.get();
                    record.push(due, outcome);
                    super::sleep(pause);
                }
            })
        };
        let threads = (0..clients).map(client).collect();
        Load { stop, rate_millis: Arc::default(), record, threads }
    }

    /// Sets the rate; for open loops.
    pub fn set_rate(&self, rate: f64) {
        self.rate_millis.store((rate * 1_000.0) as usize, Ordering::SeqCst);
    }

    /// Waits until `at` after the start.
    pub fn run_until(&self, at: Duration) {
        super::sleep_until(self.record.begun + at);
    }

    /// The time since the start.
    pub fn age(&self) -> Duration {
        self.record.begun.elapsed()
    }

    /// Stops the load; returns the outcomes of its requests, in the order of their due times.
    pub fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut samples = std::mem::take(&mut *self.record.samples.lock().unwrap());
        samples.sort_by_key(|sample| sample.due);
        samples
    }
}

/// Issues due times at the current rate, each shifted at random within its interval, so that the load does not
/// resonate with a period of the proxy.
fn pace(mut crowd: Crowd, stop: &AtomicBool, rate_millis: &AtomicUsize) {
    let (mut next, mut dice) = (Instant::now(), 1_u64);
    while !stop.load(Ordering::Relaxed) {
        let every = Duration::from_secs_f64(1_000.0 / rate_millis.load(Ordering::SeqCst) as f64);
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let due = next + every.mul_f64((dice >> 33) as f64 / f64::from(1_u32 << 31));
        super::sleep_until(due);
        crowd.send(due);
        next += every;
    }
    crowd.finish();
}

/// The clients of an open loop; one is added whenever none is idle.
struct Crowd {
    client: Box<dyn Fn(usize) -> Client + Send>,
    record: Record,
    idle: Arc<AtomicUsize>,
    due: SyncSender<Instant>,
    queue: Arc<Mutex<Receiver<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn new(client: Box<dyn Fn(usize) -> Client + Send>, record: Record) -> Crowd {
        let (due, queue) = sync_channel(100_000);
        let (idle, queue) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(queue)));
        Crowd { client, record, idle, due, queue, threads: Vec::new() }
    }

    fn send(&mut self, due: Instant) {
        let one_less = |idle: usize| idle.checked_sub(1);
        let taken = self.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if taken.is_err() && self.threads.len() < CLIENTS_MAX {
            self.threads.push(self.one_more());
        }
        self.due.send(due).unwrap();
    }

    fn one_more(&self) -> JoinHandle<()> {
        let mut client = (self.client)(self.threads.len());
        let (record, idle, queue) = (self.record.clone(), self.idle.clone(), self.queue.clone());
        super::spawn(move || {
            loop {
                let received = queue.lock().unwrap().recv();
                let Ok(due) = received else { return };
                let outcome = match due.elapsed() < PATIENCE {
                    true => client.get(),
                    false => Outcome::Failed("given up before it was sent".to_owned()),
                };
                record.push(due, outcome);
                idle.fetch_add(1, Ordering::SeqCst);
            }
        })
    }

    /// Waits for the requests in flight.
    fn finish(self) {
        drop(self.due);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
