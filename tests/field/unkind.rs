//! Misbehaving clients: unfinished uploads, aborted requests, unread responses.

use super::client::{Who, connect, send};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running kind of misbehaviour, on a few threads: one client, by its address.
pub struct Unkind {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Unkind {
    /// Begins an upload of 1,000 bytes, sends one, and waits for the application's reset.
    pub fn uploads(to: SocketAddr, clients: usize) -> Unkind {
        Unkind::repeat(clients, Duration::from_millis(100), move || {
            let Ok(mut stream) = connect(Who::One.address(0), to) else { return };
            let head =
                b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000\r\n\r\nx";
            drop(stream.write_all(head));
            // A reset, a response or a time-out: the next upload follows in any case.
            drop(stream.read(&mut [0; 1_000]));
        })
    }

    /// Requests `path` and closes its connection 30 ms later, `rate` times a second.
    pub fn aborts(to: SocketAddr, rate: usize, path: &'static str) -> Unkind {
        let clients = rate.div_ceil(5);
        let pause = Duration::from_secs_f64(clients as f64 / rate as f64 - 0.03);
        Unkind::repeat(clients, pause, move || {
            let Ok(mut stream) = connect(Who::One.address(0), to) else { return };
            drop(send(&mut stream, path));
            super::sleep(Duration::from_millis(30));
        })
    }

    /// Requests a large response, reads none of it, and closes after three seconds.
    pub fn untaken(to: SocketAddr, clients: usize) -> Unkind {
        Unkind::repeat(clients, Duration::from_millis(100), move || {
            let Ok(mut stream) = connect(Who::One.address(0), to) else { return };
            drop(send(&mut stream, "/large"));
            super::sleep(Duration::from_secs(3));
        })
    }

    fn repeat(clients: usize, pause: Duration, act: impl Fn() + Send + Sync + 'static) -> Unkind {
        let (stop, act) = (Arc::new(AtomicBool::new(false)), Arc::new(act));
        let done = Arc::new(AtomicUsize::new(0));
        let client = |_| {
            let (stop, act, done) = (stop.clone(), act.clone(), done.clone());
            super::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    act();
                    done.fetch_add(1, Ordering::Relaxed);
                    super::sleep(pause);
                }
            })
        };
        let threads = (0..clients).map(client).collect();
        Unkind { stop, done, threads }
    }

    /// Stops the client; returns the number of its requests.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.done.load(Ordering::Relaxed)
    }
}
