//! The main job on real input: a ten-slot 20 ms IDC, a cloud 30 ms away.

use super::support::*;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Slots of 20 ms, so many ms away. Waits are timed by the condition variable's own deadline.
fn place(name: &'static str, slots: usize, away: u64) -> Cluster {
    let free = Arc::new((Mutex::new(slots), Condvar::new()));
    Cluster::scripted(move |mut connection| {
        let pause = |ms: u64| std::thread::park_timeout(Duration::from_millis(ms));
        while let Some((head, _)) = connection.request() {
            pause(away / 2);
            if !head.contains("/healthz") {
                let (count, changed) = &*free;
                let mut left =
                    changed.wait_while(count.lock().unwrap(), |left| *left == 0).unwrap();
                *left -= 1;
                drop(left);
                pause(20);
                *count.lock().unwrap() += 1;
                changed.notify_one();
            }
            pause(away - away / 2);
            connection.reply(name);
        }
    })
}

#[derive(Default)]
struct Seen {
    by_cluster: HashMap<String, usize>,
    errors: Vec<Answer>,
    latencies: Vec<Duration>,
}

/// So many requests a second for so long, each at its time, however long answers take.
fn load(web: SocketAddr, rate: usize, seconds: u64) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let clients = 96;
    let start = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|index| {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut client = Keeping::new(web);
                let each = Duration::from_secs_f64(clients as f64 / rate as f64);
                let mut due = start + each.mul_f64(index as f64 / clients as f64);
                while due < start + Duration::from_secs(seconds) {
                    while Instant::now() < due {
                        std::thread::park_timeout(due - Instant::now());
                    }
                    let answer = client.get("/");
                    let took = due.elapsed();
                    let mut seen = seen.lock().unwrap();
                    if answer.status == 200 {
                        *seen.by_cluster.entry(answer.body).or_default() += 1;
                    } else {
                        seen.errors.push(answer);
                    }
                    seen.latencies.push(took);
                    due += each;
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    Arc::into_inner(seen).unwrap().into_inner().unwrap()
}

impl Seen {
    fn share(&self, name: &str) -> f64 {
        let all: usize = self.by_cluster.values().sum();
        self.by_cluster.get(name).copied().unwrap_or(0) as f64 / all as f64
    }

    fn p99(&mut self) -> Duration {
        self.latencies.sort();
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

#[test]
fn half_load_stays_home_and_the_excess_of_130_percent_spills_without_errors() {
    let (idc, cloud) = (place("idc", 10, 2), place("cloud", 300, 30));
    let proxy = Proxy::start(&format!(
        "access_log: {{ format: off }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc, cloud] }} }}\n\
         clusters:\n  \
           idc: {{ kind: idc, endpoints: [\"{}\"], probe: {{ kind: http, path: /healthz }} }}\n  \
           cloud: {{ kind: cloud, endpoints: [\"{}\"], probe: {{ kind: http, path: /healthz }} }}\n",
        idc.address, cloud.address
    ));
    let web = proxy.at("web");
    let half = load(web, 220, 6);
    assert!(half.errors.is_empty());
    let settled = half.share("idc");
    let half = load(web, 220, 6);
    assert!(half.errors.is_empty());
    assert!(half.share("idc") >= 0.98, "{} then {}", settled, half.share("idc"));
    let mut high = load(web, 600, 8);
    assert!(high.errors.is_empty(), "{:?}", high.errors.first());
    let cloud_share = high.share("cloud");
    assert!((0.15..=0.45).contains(&cloud_share), "{cloud_share}");
    assert!(high.p99() < Duration::from_millis(200), "{:?}", high.p99());
    eventually("the spill shows", || proxy.get("/api/v1/decisions").body.contains("\"spill\""));
}
