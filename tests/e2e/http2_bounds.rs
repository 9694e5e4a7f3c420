//! Limits of HTTP/2, by raw frames: limits are announced, and a client that exceeds them is disconnected.

use super::http2::{END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, RST_STREAM, Raw};
use super::support::*;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A cluster that never answers, and the number of its requests.
fn silent() -> (Cluster, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        if connection.head().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            while matches!(connection.stream.read(&mut [0; 64]), Ok(1..)) {}
        }
    });
    (cluster, asked)
}

/// A cluster with long responses of this kind.
fn long(kind: &'static str) -> Cluster {
    Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 200000\r\n\r\n"
            );
            connection.send(head.as_bytes());
            connection.send(&[b'x'; 200_000]);
        }
    })
}

fn with(cluster: &Cluster, more: &str) -> Proxy {
    let text = config(&[("idc", "idc", cluster.address)]);
    let text = text.replace("protocol: http,", &format!("protocol: http, {more}"));
    Proxy::start(&format!("runtime: {{ workers: 1 }}\n{text}"))
}

/// Settings with a window of 0 for responses.
fn no_window() -> Vec<u8> {
    vec![0, 4, 0, 0, 0, 0]
}

#[test]
fn limits_are_announced_and_excess_streams_are_refused() {
    let (cluster, asked) = silent();
    let proxy = with(&cluster, "");
    let mut raw = Raw::new(proxy.at("web"));
    let (_, _, _, settings) = raw.next(&[SETTINGS]).unwrap();
    let said = |id: u16| {
        let pair = settings.chunks(6).find(|pair| pair[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
    };
    // MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL.
    assert_eq!([3, 4, 6, 8].map(said), [Some(100), Some(65_536), Some(16_384), Some(1)]);
    let (_, _, stream, more) = raw.next(&[WINDOW_UPDATE]).unwrap();
    let more = u32::from_be_bytes([more[0], more[1], more[2], more[3]]);
    assert_eq!((stream, more), (0, (1 << 20) - 65_535), "a MiB for all of it");
    for number in 0..100 {
        raw.headers(1 + 2 * number, END_STREAM, &GET);
    }
    eventually("a hundred are asked", || asked.load(Ordering::SeqCst) == 100);
    raw.headers(201, END_STREAM, &GET);
    let (_, _, stream, reason) = raw.next(&[RST_STREAM]).unwrap();
    assert_eq!((stream, reason[3]), (201, 7), "REFUSED_STREAM");
    assert_eq!(asked.load(Ordering::SeqCst), 100);
}

#[test]
fn a_list_of_fields_over_its_limit_reaches_no_cluster_however_it_is_framed() {
    let cluster = Cluster::named("a");
    let proxy = with(&cluster, "");
    let mut raw = Raw::new(proxy.at("web"));
    let field = |name: &str, value: &str| {
        let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
        bytes.extend(name.as_bytes());
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend(value.as_bytes());
        bytes
    };
    let first: Vec<u8> = GET.iter().flat_map(|(name, value)| field(name, value)).collect();
    raw.frame(HEADERS, END_STREAM, 1, &first);
    for number in 0..18 {
        let line: Vec<u8> =
            (0..10).flat_map(|at| field(&format!("x-{number}-{at}"), &"v".repeat(100))).collect();
        let last = if number == 17 { END_HEADERS } else { 0 };
        raw.frame(CONTINUATION, last, 1, &line);
    }
    let answer = raw.next(&[HEADERS, RST_STREAM, GOAWAY]);
    assert!(answer.is_some(), "it is told");
    assert!(!cluster.seen().contains("x-0-0"), "{}", cluster.seen());
    let mut other = Raw::new(proxy.at("web"));
    other.headers(1, END_STREAM, &GET);
    assert!(matches!(other.next(&[HEADERS]), Some((HEADERS, _, 1, _))), "others are served");
}

/// Starts requests and cancels them by `cut`, twenty at a time, until the connection is ended; returns their number.
fn flood(
    proxy: &Proxy,
    asked: &AtomicUsize,
    begin: impl Fn(&mut Raw, u32),
    cut: impl Fn(&mut Raw, u32),
) -> (usize, u8) {
    let mut raw = Raw::new(proxy.at("web"));
    let (mut stream, mut count) = (1, 0);
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let before = asked.load(Ordering::SeqCst);
        let first = stream;
        for _ in 0..20 {
            begin(&mut raw, stream);
            stream += 2;
        }
        let until = Instant::now() + Duration::from_millis(300);
        while asked.load(Ordering::SeqCst) < before + 20 && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        (first..stream).step_by(2).for_each(|stream| cut(&mut raw, stream));
        count += 20;
        raw.0.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut space = [0; 65_536];
        match raw.0.peek(&mut space) {
            Ok(0) => return (count, 0),
            Ok(seen) => {
                // GOAWAY is the last frame.
                let goaway = (0..seen.saturating_sub(16)).rev().find(|at| {
                    space[*at..at + 3] == [0, 0, 8] && space[at + 3] == GOAWAY && space[at + 4] == 0
                });
                if let Some(at) = goaway {
                    return (count, space[at + 16]);
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (count, 0),
            Err(_) => {}
        }
    }
    panic!("never cut, after {count}");
}

#[test]
fn cancelled_streams_are_charged_to_the_client() {
    let (cluster, asked) = silent();
    let proxy = with(&cluster, "");
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let post = [&post[..], &[("content-length", "1")]].concat();
    // The client resets streams, or makes the proxy reset them: the body is longer than stated (MadeYouReset).
    let rapid = flood(
        &proxy,
        &asked,
        |raw, stream| raw.headers(stream, END_STREAM, &GET),
        |raw, stream| raw.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
    );
    let made = flood(
        &proxy,
        &asked,
        |raw, stream| raw.headers(stream, 0, &post),
        |raw, stream| raw.frame(0, END_STREAM, stream, b"long"),
    );
    for (how, (count, reason)) in [("rapid reset", rapid), ("MadeYouReset", made)] {
        // ENHANCE_YOUR_CALM, unless the end came before the frame was read.
        assert!(matches!(reason, 11 | 0), "{how}: {reason}");
        // A hundred resets are permitted at once, and a hundred more in each second; the test takes at most ten
        // seconds.
        assert!((100..=1_500).contains(&count), "{how}: after {count}");
    }
    eventually("nothing is left of it", || proxy.cluster("idc")["in_flight"] == 0);
    proxy.counts("tidegate_refusals_total{listener=\"web\",reason=\"rate_limited\"}", 2.0);
}

#[test]
fn a_protocol_error_is_answered_with_goaway_and_counted() {
    let (cluster, asked) = silent();
    let proxy = with(&cluster, "");
    let refused = "tidegate_refusals_total{listener=\"web\",reason=\"bad_request\"}";
    type Break = fn(&mut Raw);
    let cases: [(&str, Break); 6] = [
        ("DATA of no stream", |raw| raw.frame(0, 0, 0, b"x")),
        ("HEADERS of no stream", |raw| raw.headers(0, END_STREAM, &GET)),
        ("a stream of ours", |raw| raw.headers(2, END_STREAM, &GET)),
        ("a window that opens by nothing", |raw| raw.frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a PING of seven bytes", |raw| raw.frame(6, 0, 0, &[0; 7])),
        ("SETTINGS of five bytes", |raw| raw.frame(SETTINGS, 0, 0, &[0; 5])),
    ];
    for (number, (what, breaks)) in cases.into_iter().enumerate() {
        let mut raw = Raw::new(proxy.at("web"));
        breaks(&mut raw);
        assert!(matches!(raw.next(&[GOAWAY]), Some((GOAWAY, ..))), "{what}");
        proxy.counts(refused, (number + 1) as f64);
    }
    // An orderly end of a connection counts as none of these.
    drop(Raw::new(proxy.at("web")));
    let mut raw = Raw::new(proxy.at("web"));
    raw.frame(GOAWAY, 0, 0, &[0; 8]);
    drop(raw);
    eventually("all have left", || proxy.metric("tidegate_connections{listener=\"web\"}") == 0.0);
    assert_eq!(proxy.metric(refused), 6.0);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "no cluster was asked");
}

#[test]
fn unread_responses_end_and_free_their_cluster() {
    let cluster = long("text/plain");
    let proxy = with(&cluster, "timeouts: { write: 300ms }, ");
    let in_flight = || proxy.cluster("idc")["in_flight"].as_u64().unwrap();
    let mut raw = Raw::new(proxy.at("web"));
    raw.frame(SETTINGS, 0, 0, &no_window());
    for number in 0..20 {
        raw.headers(1 + 2 * number, END_STREAM, &GET);
    }
    for _ in 0..20 {
        assert!(matches!(raw.next(&[RST_STREAM]), Some((RST_STREAM, ..))), "few as they are");
    }
    eventually("none holds its cluster", || in_flight() == 0);
}

#[test]
fn stalled_event_streams_are_tolerated_up_to_a_number() {
    let cluster = long("text/event-stream");
    let proxy = with(&cluster, "timeouts: { write: 300ms }, ");
    let in_flight = || proxy.cluster("idc")["in_flight"].as_u64().unwrap();
    let mut few = Raw::new(proxy.at("web"));
    few.frame(SETTINGS, 0, 0, &no_window());
    for number in 0..20 {
        few.headers(1 + 2 * number, END_STREAM, &GET);
    }
    eventually("they stand still", || in_flight() == 20);
    let mut many = Raw::new(proxy.at("web"));
    many.frame(SETTINGS, 0, 0, &no_window());
    for number in 0..80 {
        many.headers(1 + 2 * number, END_STREAM, &GET);
    }
    eventually("the many are reset, until they are few enough", || {
        let left = in_flight();
        (20..=20 + 50).contains(&left) && many.next(&[RST_STREAM]).is_some()
    });
    assert!(in_flight() >= 20, "the few are borne with");
}

#[test]
fn stalled_streams_hold_little_memory() {
    const EACH: u32 = 50;
    let cluster = long("text/plain");
    let proxy = with(&cluster, "");
    let stand_still = |connections: usize| -> Vec<Raw> {
        let one = |_| {
            let mut raw = Raw::new(proxy.at("web"));
            raw.frame(SETTINGS, 0, 0, &no_window());
            for number in 0..EACH {
                raw.headers(1 + 2 * number, END_STREAM, &GET);
                assert!(matches!(raw.next(&[HEADERS]), Some((HEADERS, ..))));
            }
            raw
        };
        (0..connections).map(one).collect()
    };
    // The first streams allocate memory that later ones share.
    let first = stand_still(1);
    let before = proxy.status("VmRSS:");
    let others = stand_still(8);
    let each = proxy.status("VmRSS:").saturating_sub(before) / (8 * u64::from(EACH));
    // The part of its response that was read with the head, 8 KiB at most, and the exchange itself.
    eprintln!("EACH {each}");
    assert!(each <= 32, "{each} KiB");
    drop((first, others));
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    let cluster = Cluster::named("a");
    let more = "timeouts: { idle: 300ms, write: 300ms }, ";
    let text = config(&[("idc", "idc", cluster.address)])
        .replace("protocol: http,", &format!("protocol: http, {more}"));
    let respond = "routes: [{ respond: { status: 200, body: \"never taken\" } }]\n";
    let proxy = Proxy::start(&format!("{text}{respond}"));
    let mut raw = Raw::new(proxy.at("web"));
    raw.frame(SETTINGS, 0, 0, &no_window());
    for number in 0..50 {
        raw.headers(1 + 2 * number, END_STREAM, &GET);
    }
    assert!(raw.next(&[HEADERS]).is_some(), "it was answered");
    eventually("its connection ends", || {
        proxy.metric("tidegate_connections{listener=\"web\"}") == 0.0
    });
}

#[test]
fn reconnecting_after_each_goaway_is_delayed_more_each_time() {
    let (cluster, _) = silent();
    let text = config(&[("idc", "idc", cluster.address)])
        + "routes: [{ path: /ok, respond: { status: 200, body: ok } }]\n";
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let is_served = |last| {
        let mut client = Keeping::from(last, web);
        drop(client.stream.write_all(b"GET /ok HTTP/1.1\r\nhost: a\r\n\r\n"));
        matches!(client.stream.read(&mut [0; 12]), Ok(1..))
    };
    let abuse = || {
        // A refused client may be unable to write.
        let Ok(mut stream) = TcpStream::connect(web) else { return };
        drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"));
        let mut raw = Raw(stream);
        for number in 0..500_u32 {
            raw.headers(1 + 2 * number, END_STREAM, &GET);
            raw.frame(RST_STREAM, 0, 1 + 2 * number, &8_u32.to_be_bytes());
        }
        drop(raw.0.shutdown(std::net::Shutdown::Write));
        raw.0.set_read_timeout(Some(PATIENCE)).unwrap();
        while matches!(raw.0.read(&mut [0; 4_096]), Ok(1..)) {}
    };

    for _ in 0..3 {
        abuse();
        assert!(is_served(1), "the first offences are free");
    }
    eventually("its address is refused", || {
        abuse();
        !is_served(1)
    });
    assert!(is_served(2), "others are served");
    let since = Instant::now();
    eventually("its address is served again", || is_served(1));
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(proxy.says("too many connections of its address ended for abuse").contains("wait_s=1"));
}
