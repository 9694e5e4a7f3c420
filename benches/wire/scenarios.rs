//! The scenarios: what is set up, what loads it, and which budget it has.

use crate::load::{download, h2load, median_latency, size, wrk};
use crate::paced::load as paced;
use crate::peers::{PLAIN, Peer, Rig, Setup, tidegate};
use crate::table::{Against, Table};
use crate::{Options, memory};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A scenario's tables.
type Scenario = fn(&Rig, &Options) -> Vec<Table>;

/// All scenarios, by the names of `--only`.
pub const ALL: [(&str, Scenario); 21] = [
    ("A", a),
    ("AP", a_paced),
    ("B", b),
    ("BM", b_megabyte),
    ("C", c),
    ("D", d),
    ("D2", d_http2),
    ("DG", d_grpc),
    ("E", e),
    ("F", f),
    ("FS", f_small),
    ("G", g),
    ("GT", g_tls),
    ("H", h),
    ("R", routes),
    ("N", endpoints),
    ("L", access_log),
    ("X", features),
    ("Z", compression),
    ("W", workers),
    ("S", large),
];

const CPU: &str = "µs of CPU a request";

/// Rotated rounds of a measurement; each gives figures for rows of tables.
fn rounds(count: usize, peers: &[Peer], measure: &mut dyn FnMut(&Peer)) {
    for round in 0..count {
        for at in 0..peers.len() {
            measure(&peers[(at + round) % peers.len()]);
        }
    }
}

/// Plays a load in rounds; the figure is the CPU time of each of its units, in `scale`s of a second. The load returns the
/// number of units.
fn cpu(
    peers: &[Peer],
    (count, scale): (usize, f64),
    mut table: Table,
    load: &dyn Fn(&Peer) -> f64,
) -> Table {
    rounds(count, peers, &mut |peer| {
        let before = peer.cpu_seconds();
        let units = load(peer);
        table.add(&peer.name, peer.other, (peer.cpu_seconds() - before) * scale / units);
    });
    table
}

/// Microseconds of CPU time for each request of a load; the load returns the number of requests.
fn by_request(
    peers: &[Peer],
    options: &Options,
    table: Table,
    load: &dyn Fn(&Peer) -> f64,
) -> Table {
    cpu(peers, (options.rounds, 1e6), table, load)
}

fn with_floor(rig: &Rig, setup: &Setup) -> Vec<Peer> {
    let mut peers = rig.peers(setup);
    peers.extend(rig.floor());
    peers
}

fn plain_url(peer: &Peer, path: &str) -> String {
    format!("http://{}{path}", peer.http)
}

fn tls_url(peer: &Peer, path: &str) -> String {
    format!("https://{}{path}", peer.tls.expect("a TLS listener"))
}

/// One table of CPU time for plain HTTP/1.1.
fn over_http1(
    rig: &Rig,
    options: &Options,
    table: Table,
    path: &str,
    connections: usize,
) -> Vec<Table> {
    let load = |peer: &Peer| wrk(&plain_url(peer, path), connections, options.seconds, &[]);
    vec![by_request(&with_floor(rig, &PLAIN), options, table, &load)]
}

fn a(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("A", "HTTP/1.1, 1 KiB, 64 connections, saturated", CPU);
    let table = table.judged(Against::BetterPeer, 0.80, 0.70);
    over_http1(rig, options, table, "/k1", 64)
}

/// Rates for the latency table, as parts of the slowest proxy's throughput when saturated.
const LEVELS: [(f64, &str); 3] = [(0.1, "10 %"), (0.5, "50 %"), (0.8, "80 %")];

fn a_paced(rig: &Rig, options: &Options) -> Vec<Table> {
    let cpu = Table::new("AP", "HTTP/1.1, 1 KiB, Poisson arrivals, 8,000/s", CPU).judged(
        Against::BetterPeer,
        0.80,
        0.70,
    );
    let mut p50 = Table::new("AP-p50", "latency at a part of the saturated rate", "p50, µs");
    let mut p99 = Table::new("AP-p99", "latency at a part of the saturated rate", "p99, µs");
    let peers = with_floor(rig, &PLAIN);
    let seconds = options.seconds as f64;
    let load = |peer: &Peer| paced(peer.http, 8_000.0, seconds, "/k1").requests;
    let cpu = by_request(&peers, options, cpu, &load);
    let saturated = |peer: &Peer| wrk(&plain_url(peer, "/k1"), 64, 1, &[]);
    let most = peers.iter().map(saturated).fold(f64::INFINITY, f64::min);
    p50.note(format!("the slowest proxy serves {most:.0} requests/s when saturated; latency counts from when a request was due"));
    rounds(options.rounds, &peers, &mut |peer| {
        for (part, level) in LEVELS {
            let seen = paced(peer.http, most * part, seconds, "/k1");
            let name = format!("{}, {level}", peer.name);
            p50.add(&name, peer.other, seen.p50);
            p99.add(&name, peer.other, seen.p99);
        }
    });
    vec![cpu, p50, p99]
}

fn b(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("B", "HTTP/1.1, 64 KiB, 64 connections", CPU);
    over_http1(rig, options, table.judged(Against::BetterPeer, 1.0, 0.85), "/k64", 64)
}

fn b_megabyte(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("BM", "HTTP/1.1, 1 MiB, 16 connections", CPU);
    over_http1(rig, options, table.judged(Against::BetterPeer, 0.85, 0.70), "/m1", 16)
}

fn c(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("C", "TLS 1.3, HTTP/1.1, 1 KiB, 64 connections", CPU).judged(
        Against::BetterPeer,
        0.85,
        0.70,
    );
    let load = |peer: &Peer| wrk(&tls_url(peer, "/k1"), 64, options.seconds, &[]);
    vec![by_request(&rig.peers(&PLAIN), options, table, &load)]
}

fn d(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("D", "HTTP/2 over TLS to HTTP/1, 1 KiB, 10 x 32", CPU).judged(
        Against::BetterPeer,
        0.95,
        0.80,
    );
    let load = |peer: &Peer| h2load(&tls_url(peer, "/k1"), options.seconds, None);
    vec![by_request(&rig.peers(&PLAIN), options, table, &load)]
}

fn d_http2(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("D2", "HTTP/2 over TLS to HTTP/2, 1 KiB, 10 x 32", CPU).judged(
        Against::BetterPeer,
        0.95,
        0.80,
    );
    let load = |peer: &Peer| h2load(&tls_url(peer, "/k1"), options.seconds, None);
    vec![by_request(&rig.peers(&Setup { http2: true, ..PLAIN }), options, table, &load)]
}

fn d_grpc(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("DG", "gRPC unary over TLS to HTTP/2, 100 bytes, 10 x 32", CPU).judged(
        Against::BetterPeer,
        0.95,
        0.80,
    );
    let body = rig.file("call");
    let load =
        |peer: &Peer| h2load(&tls_url(peer, "/bench.Bench/Call"), options.seconds, Some(&body));
    vec![by_request(&rig.peers(&Setup { http2: true, ..PLAIN }), options, table, &load)]
}

fn e(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("E", "TLS 1.3 handshake and a request", CPU).judged(
        Against::BetterPeer,
        0.65,
        0.50,
    );
    let close = ["-H", "connection: close"];
    let load = |peer: &Peer| wrk(&tls_url(peer, "/k1"), 64, options.seconds, &close);
    vec![by_request(&rig.peers(&PLAIN), options, table, &load)]
}

fn layer4(peers: Vec<Peer>) -> Vec<Peer> {
    peers.into_iter().filter(|peer| peer.tcp.is_some()).collect()
}

fn f(rig: &Rig, options: &Options) -> Vec<Table> {
    let table =
        Table::new("F", "L4 bulk", "CPU seconds a GB").judged(Against::BetterPeer, 1.0, 0.90);
    let load = |peer: &Peer| download(peer.tcp.expect("an L4 listener"), 4);
    let peers = layer4(with_floor(rig, &PLAIN));
    vec![cpu(&peers, (options.rounds.min(5), 1e9), table, &load)]
}

fn f_small(rig: &Rig, options: &Options) -> Vec<Table> {
    let table =
        Table::new("FS", "L4, 1 KiB, 64 connections", CPU).judged(Against::BetterPeer, 1.05, 1.0);
    let load = |peer: &Peer| {
        let address = peer.tcp.expect("an L4 listener");
        wrk(&format!("http://{address}/k1"), 64, options.seconds, &[])
    };
    vec![by_request(&layer4(with_floor(rig, &PLAIN)), options, table, &load)]
}

/// Bytes of memory for each of `count` idle connections, after some that allocate what later ones share.
fn idle<C>(
    rig: &Rig,
    (warm_up, count): (usize, usize),
    mut table: Table,
    open: &dyn Fn(&Peer, usize) -> Vec<C>,
) -> Vec<Table> {
    for peer in rig.peers(&PLAIN) {
        let warm = open(&peer, warm_up);
        let before = peer.resident_bytes();
        let idle = open(&peer, count);
        let grown = (peer.resident_bytes() - before).max(0.0);
        table.add(&peer.name, peer.other, grown / count as f64);
        drop((warm, idle));
    }
    vec![table]
}

fn g(rig: &Rig, _: &Options) -> Vec<Table> {
    let table = Table::new("G", "idle keep-alive connection", "bytes").judged(
        Against::Figure(1024.0),
        1.5,
        1.2,
    );
    idle(rig, (500, 5_000), table, &|peer, count| memory::open(peer.http, count))
}

fn g_tls(rig: &Rig, _: &Options) -> Vec<Table> {
    let table = Table::new("GT", "idle TLS connection", "bytes").judged(
        Against::Figure(1024.0),
        12.0,
        10.0,
    );
    let certificate = rig.file("cert.pem");
    idle(rig, (300, 2_000), table, &|peer, count| {
        memory::open_tls(peer.tls.expect("a TLS listener"), &certificate, count)
    })
}

fn h(rig: &Rig, options: &Options) -> Vec<Table> {
    let mut table =
        Table::new("H", "one connection, 1 KiB", "p50, µs").judged(Against::BetterPeer, 1.0, 0.9);
    let peers = with_floor(rig, &PLAIN);
    rounds(options.rounds, &peers, &mut |peer| {
        let latency = median_latency(&plain_url(peer, "/k1"), options.seconds);
        table.add(&peer.name, peer.other, latency);
    });
    vec![table]
}

/// The same load for several sizes of the configuration: each proxy beside the others, and Tidegate beside itself.
fn sizes(rig: &Rig, options: &Options, table: Table, setups: &[(Setup, &str)]) -> Vec<Table> {
    let (first, last) = (setups[0].1, setups[setups.len() - 1].1);
    let own = Against::Row(format!("tidegate, {first}"));
    let largest = format!("tidegate, {last}");
    let mut table = table.judged_row(&largest, own, 1.5, 1.1).judged_row(
        &largest,
        Against::BetterPeer,
        1.0,
        0.8,
    );
    for (setup, name) in setups {
        let mut peers = rig.peers(setup);
        for peer in &mut peers {
            // Others are compared at the largest size only.
            peer.other &= *name == last;
            peer.name = format!("{}, {name}", peer.name);
        }
        let load = |peer: &Peer| {
            let path = format!("{}/k1", setup.path());
            wrk(&plain_url(peer, &path), 64, options.seconds, &[])
        };
        table = by_request(&peers, options, table, &load);
    }
    vec![table]
}

fn routes(rig: &Rig, options: &Options) -> Vec<Table> {
    let at = |routes: usize| Setup { routes, ..PLAIN };
    let setups = [(at(10), "10"), (at(1_000), "1000"), (at(10_000), "10000")];
    sizes(rig, options, Table::new("R", "routes; the load is for the last one", CPU), &setups)
}

fn endpoints(rig: &Rig, options: &Options) -> Vec<Table> {
    let at = |endpoints: usize| Setup { endpoints, probes: false, ..PLAIN };
    let setups = [(at(10), "10"), (at(1_000), "1000"), (at(50_000), "50000")];
    let table =
        Table::new("N", "endpoints of one cluster; connections are opened as each proxy does", CPU);
    sizes(rig, options, table, &setups)
}

fn access_log(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("L", "as A, with an access log in JSON", CPU)
        .judged(Against::BetterPeer, 0.80, 0.70)
        .judged(Against::Row("tidegate, no log".to_owned()), 1.10, 1.05);
    let mut peers = rig.peers(&Setup { access_log: true, ..PLAIN });
    if let Some(mut without) = rig.tidegate(&PLAIN) {
        without.name = "tidegate, no log".to_owned();
        peers.push(without);
    }
    let load = |peer: &Peer| wrk(&plain_url(peer, "/k1"), 64, options.seconds, &[]);
    vec![by_request(&peers, options, table, &load)]
}

fn features(rig: &Rig, options: &Options) -> Vec<Table> {
    let title = "as A, with access log, rate limit, address list and header rules";
    let table = Table::new("X", title, CPU).judged(Against::BetterPeer, 0.80, 0.70);
    let peers = rig.peers(&Setup { features: true, ..PLAIN });
    let load = |peer: &Peer| wrk(&plain_url(peer, "/k1"), 64, options.seconds, &[]);
    vec![by_request(&peers, options, table, &load)]
}

/// Each proxy compresses by gzip at level 4, and Tidegate by its other codings and not at all.
fn compression(rig: &Rig, options: &Options) -> Vec<Table> {
    let with = |coding| Setup { coding: Some(coding), ..PLAIN };
    let table = Table::new("Z", "as B, 64 KiB of JSON, compressed", CPU).judged(
        Against::Row("nginx".to_owned()),
        1.0,
        0.85,
    );
    let mut peers = rig.peers(&with("gzip"));
    for (name, setup) in [("br", with("br")), ("zstd", with("zstd")), ("plain", PLAIN)] {
        if let Some(mut peer) = rig.tidegate(&setup) {
            peer.name = format!("tidegate, {name}");
            peers.push(peer);
        }
    }
    let accepts = "accept-encoding: gzip, br, zstd";
    let mut sizes = Table::new("Z-size", "the same: the body that a client gets", "bytes");
    for peer in &peers {
        sizes.add(&peer.name, peer.other, size(&plain_url(peer, "/t64"), accepts));
    }
    let load = |peer: &Peer| wrk(&plain_url(peer, "/t64"), 64, options.seconds, &["-H", accepts]);
    vec![by_request(&peers, options, table, &load), sizes]
}

fn workers(rig: &Rig, options: &Options) -> Vec<Table> {
    let table = Table::new("W", "as A, one worker and two", CPU).judged_row(
        "tidegate, 2",
        Against::Row("tidegate, 1".to_owned()),
        1.15,
        1.05,
    );
    let at = |workers: usize| {
        let mut peer = rig.tidegate(&Setup { workers, ..PLAIN })?;
        peer.name = format!("tidegate, {workers}");
        Some(peer)
    };
    let peers: Vec<Peer> = [1, 2].into_iter().filter_map(at).collect();
    let load = |peer: &Peer| wrk(&plain_url(peer, "/k1"), 64, options.seconds, &[]);
    vec![by_request(&peers, options, table, &load)]
}

/// 1,000 clusters of 50 endpoints: start, idle, metrics, memory, and a reload under load.
fn large(rig: &Rig, options: &Options) -> Vec<Table> {
    let setup = Setup { clusters: 1_000, endpoints: 50, probes: false, ..PLAIN };
    let mut ready = Table::new("S-ready", "1,000 clusters, 50,000 endpoints: start", "ms").judged(
        Against::Figure(1.0),
        1_000.0,
        500.0,
    );
    let mut begun = Table::new("S-begun", "the same, 2 s later without traffic", "% of a core");
    let mut idle = Table::new("S-idle", "the same, 20 s later without traffic", "% of a core");
    let mut control = Table::new("S-control", "of it the control thread", "% of a core").judged(
        Against::Figure(1.0),
        3.0,
        1.0,
    );
    let mut metrics = Table::new("S-metrics", "the same: GET /metrics", "ms").judged(
        Against::Figure(1.0),
        200.0,
        100.0,
    );
    let mut resident = Table::new("S-memory", "the same: resident memory", "MiB");
    let mut stall = Table::new(
        "S-reload",
        "the same: longest latency at 1,000/s with a reload",
        "ms",
    )
    .judged(Against::Figure(1.0), 5.0, 2.0);
    let mut busy = Table::new(
        "S-busy",
        "the same with a shell's loop of half a second on that core, not a reload",
        "ms",
    );
    for _ in 0..options.rounds.min(3) {
        let Some(peer) = rig.tidegate(&setup) else { return Vec::new() };
        ready.add("tidegate", false, peer.ready.as_secs_f64() * 1e3);
        // All clusters are swept at the start, and from 8 s on again each 8 to 12 s: the second figure includes that.
        for (pause, table) in [(2, &mut begun), (13, &mut idle)] {
            std::thread::sleep(Duration::from_secs(pause));
            let used = || (peer.cpu_seconds(), peer.thread_cpu_seconds("control"));
            let (before, start) = (used(), Instant::now());
            std::thread::sleep(Duration::from_secs(5));
            let (after, seconds) = (used(), start.elapsed().as_secs_f64());
            table.add("tidegate", false, 100.0 * (after.0 - before.0) / seconds);
            if pause > 2 {
                control.add("tidegate", false, 100.0 * (after.1 - before.1) / seconds);
            }
        }
        let start = Instant::now();
        let bytes = get(&peer, "/metrics");
        metrics.add("tidegate", false, start.elapsed().as_secs_f64() * 1e3);
        assert!(bytes > 1_000_000, "{bytes}");
        resident.add("tidegate", false, peer.resident_bytes() / f64::from(1 << 20));
        let file = rig.file(&tidegate::file(peer.admin.expect("an admin address")));
        stall.add("tidegate", false, longest_during(&peer, || reload(&file)));
        busy.add("tidegate", false, longest_during(&peer, compute));
    }
    vec![ready, begun, idle, control, metrics, resident, stall, busy]
}

/// The highest latency in milliseconds under a light load, while `act` runs.
fn longest_during(peer: &Peer, act: impl FnOnce() + Send) -> f64 {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            act();
        });
        let seen = paced(peer.http, 1_000.0, 5.0, "/k1");
        assert!(seen.requests > 4_000.0, "{seen:?}");
        seen.longest / 1e3
    })
}

/// Triggers a reload: changes one cluster in the configuration file.
fn reload(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let changed = text.replacen("probe: { kind: none }", "dial: 99, probe: { kind: none }", 1);
    assert_ne!(text, changed);
    std::fs::write(file, changed).unwrap();
}

/// Keeps the proxy's core busy for half a second with a shell's loop.
fn compute() {
    let script = "while :; do :; done";
    let arguments = ["0.5", "taskset", "-c", "0", "sh", "-c", script];
    let ended = std::process::Command::new("timeout").args(arguments).status();
    // The status of timeout(1) for a command that ran until the end.
    assert_eq!(ended.expect("timeout is installed").code(), Some(124));
}

/// The number of bytes of an answer of the administration.
fn get(peer: &Peer, path: &str) -> usize {
    let admin = peer.admin.expect("an admin address");
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer.len()
}
