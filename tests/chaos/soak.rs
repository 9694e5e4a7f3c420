//! A soak test of a few minutes: all kinds of traffic and faults at once, and the growth of resources.
//!
//! Memory, descriptors and tasks are measured each second. The slope (least squares) of the second half of the time
//! counts, because pools and buffers fill at first.

use super::load::Load;
use super::support::{Proxy, whole};
use super::{Line, config, endpoints, errors};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One measurement.
#[derive(Clone, Copy)]
struct Moment {
    seconds: f64,
    memory_mib: f64,
    descriptors: f64,
    tasks: f64,
}

/// The growth an hour, by least squares.
fn slope(moments: &[Moment], of: impl Fn(&Moment) -> f64) -> f64 {
    let count = moments.len() as f64;
    let mean = |value: &dyn Fn(&Moment) -> f64| moments.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(&|moment| moment.seconds), mean(&|moment| of(moment)));
    let covariance = mean(&|moment| (moment.seconds - x) * (of(moment) - y));
    let variance = mean(&|moment| (moment.seconds - x).powi(2));
    3600.0 * covariance / variance
}

/// Clients that misbehave: half a request, a body that stops, a connection closed during the response.
fn rude(to: SocketAddr, stop: &AtomicBool) {
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nsome",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n",
        b"GARBAGE\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    let mut open = std::collections::VecDeque::new();
    for request in requests.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut stream) = TcpStream::connect(to) {
            drop(stream.write_all(request));
            stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            drop(stream.read(&mut [0; 64]));
            open.push_back(stream);
        }
        if open.len() > 50 {
            open.pop_front();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs for this time.
pub(super) fn soak(span: Duration) -> Vec<Line> {
    let (mut idc, cloud) = (endpoints("idc", 3), endpoints("cloud", 2));
    let text = config(&idc, &cloud);
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let (kept, fresh) = (Load::start(web, 800), Load::connecting(web, 200));
    let stop = Arc::new(AtomicBool::new(false));
    let ruffian = std::thread::spawn({
        let stop = stop.clone();
        move || rude(web, &stop)
    });
    kept.warm_up();
    let begun = Instant::now();
    let mut moments = Vec::new();
    let mut number = 0;
    while begun.elapsed() < span {
        number += 1;
        std::thread::sleep(Duration::from_secs(1));
        match number % 15 {
            // An endpoint is stopped for two seconds, and a configuration is loaded.
            5 => idc[number % 3].signal("STOP"),
            7 => idc[(number - 2) % 3].signal("CONT"),
            10 => {
                std::fs::write(proxy.config_path(), whole(&format!("{text}# {number}\n"))).unwrap()
            }
            _ => {}
        }
        moments.push(Moment {
            seconds: begun.elapsed().as_secs_f64(),
            memory_mib: proxy.status("VmRSS:") as f64 / 1024.0,
            descriptors: proxy.descriptors() as f64,
            tasks: proxy.metric("tidegate_worker_tasks{"),
        });
    }
    idc.iter_mut().for_each(|process| process.signal("CONT"));
    stop.store(true, Ordering::Relaxed);
    ruffian.join().unwrap();
    let (kept, fresh) = (kept.stop(), fresh.stop());
    let panics = proxy.metric("tidegate_panics_total");
    let second_half = &moments[moments.len() / 2..];
    let last = *moments.last().unwrap();
    let line = |what: &str, now: f64, grows: f64, most: f64, gate: &'static str| Line {
        what: format!("soak of {} s: {what}", span.as_secs()),
        figure: format!("{now:.0}, {grows:+.1} an hour"),
        gate,
        kept: grows <= most,
    };
    vec![
        errors("soak: kept connections", &kept, 0.0, "0"),
        errors("soak: new connections", &fresh, 0.0, "0"),
        line(
            "MiB of memory",
            last.memory_mib,
            slope(second_half, |m| m.memory_mib),
            60.0,
            "<= +60",
        ),
        line(
            "descriptors",
            last.descriptors,
            slope(second_half, |m| m.descriptors),
            300.0,
            "<= +300",
        ),
        line("tasks", last.tasks, slope(second_half, |m| m.tasks), 300.0, "<= +300"),
        Line {
            what: "soak: panics".to_owned(),
            figure: panics.to_string(),
            gate: "0",
            kept: panics == 0.0,
        },
    ]
}
