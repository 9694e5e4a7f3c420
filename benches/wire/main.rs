//! A comparison on this machine: the CPU time that each proxy spends on a request.
//!
//! Each proxy has one worker on core 0; load and cluster are on core 1. Rounds rotate, so that other load on the
//! machine affects all proxies alike; figures are medians, and ratios are of the same round. Throughput is not
//! compared: on two cores it depends mostly on the other load.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench ends by panicking, and reads the clock"
)]

mod peers;

use peers::{Peer, Rig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

/// The options on the command line, after `--`.
struct Options {
    rounds: usize,
    seconds: u64,
    only: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { rounds: 9, seconds: 1, only: Vec::new() };
    let arguments: Vec<String> = std::env::args().collect();
    for pair in arguments.windows(2) {
        match pair[0].as_str() {
            "--rounds" => options.rounds = pair[1].parse().expect("--rounds N"),
            "--only" => options.only = pair[1].split(',').map(str::to_owned).collect(),
            "--seconds" => options.seconds = pair[1].parse().expect("--seconds N"),
            _ => {}
        }
    }
    options
}

fn main() {
    let options = options();
    let rig = Rig::start();
    let mut report = format!("# Wire bench\n\n{}\n\n", machine());
    type Scenario = fn(&Rig, &Options) -> String;
    let all: [(&str, Scenario); 7] = [
        ("A", scenario_a),
        ("C", scenario_c),
        ("D", scenario_d),
        ("E", scenario_e),
        ("F", scenario_f),
        ("G", scenario_g),
        ("GT", scenario_g_tls),
    ];
    for (name, scenario) in all {
        if options.only.is_empty() || options.only.iter().any(|wanted| wanted == name) {
            let printed = scenario(&rig, &options);
            print!("{printed}");
            report.push_str(&printed);
        }
    }
    std::fs::create_dir_all("target/bench").unwrap();
    std::fs::write("target/bench/wire.md", &report).unwrap();
    println!("written to target/bench/wire.md");
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores; nginx and HAProxy from Debian")
}

/// Figures of each peer, round by round.
struct Table {
    title: String,
    unit: &'static str,
    rows: Vec<(&'static str, Vec<f64>)>,
}

impl Table {
    fn new(title: &str, unit: &'static str, peers: &[Peer]) -> Table {
        let rows = peers.iter().map(|peer| (peer.name, Vec::new())).collect();
        Table { title: title.to_owned(), unit, rows }
    }

    fn add(&mut self, name: &str, figure: f64) {
        let row = self.rows.iter_mut().find(|(known, _)| *known == name);
        row.expect("a known peer").1.push(figure);
    }

    /// Medians, and Tidegate's ratio to each peer in the same round.
    fn render(&self) -> String {
        let mut text = format!(
            "## {}\n\n| proxy | median {} | min | max |\n|---|---|---|---|\n",
            self.title, self.unit
        );
        for (name, figures) in &self.rows {
            let (low, high) = (
                figures.iter().copied().fold(f64::INFINITY, f64::min),
                figures.iter().copied().fold(0.0, f64::max),
            );
            writeln!(text, "| {name} | {:.2} | {low:.2} | {high:.2} |", median(figures)).unwrap();
        }
        text.push('\n');
        let (mine, others): (Vec<_>, Vec<_>) =
            self.rows.iter().partition(|(name, _)| *name == "tidegate");
        let (_, mine) = mine.first().expect("a row of ours");
        for (name, theirs) in others {
            let ratios = mine.iter().zip(theirs).map(|(mine, theirs)| mine / theirs);
            text.push_str(&paired(name, &ratios.collect::<Vec<f64>>()));
        }
        text.push('\n');
        text
    }
}

/// Tidegate's ratios to a peer, as a line.
fn paired(peer: &str, ratios: &[f64]) -> String {
    let ((mean, error), rounds) = (mean_and_error(ratios), ratios.len());
    let (low, high) = (mean - 2.0 * error, mean + 2.0 * error);
    let median = median(ratios);
    format!(
        "tidegate to {peer}, paired by round: median {median:.2}, mean {mean:.2}, 95 % interval {low:.2} to {high:.2}, {rounds} rounds\n"
    )
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn mean_and_error(figures: &[f64]) -> (f64, f64) {
    let count = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / count;
    let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
}

/// A: HTTP/1.1, 1 KiB, 64 connections, saturated.
fn scenario_a(rig: &Rig, options: &Options) -> String {
    let load = |peer: &Peer| wrk("http", peer.address, options.seconds, &[]);
    by_request(rig.http(), options, "A: HTTP/1.1, 1 KiB, 64 connections", &load)
}

/// C: TLS 1.3, HTTP/1.1, 1 KiB, 64 keep-alive connections.
fn scenario_c(rig: &Rig, options: &Options) -> String {
    let load = |peer: &Peer| wrk("https", peer.address, options.seconds, &[]);
    by_request(rig.tls(), options, "C: TLS 1.3, HTTP/1.1, 1 KiB, 64 connections", &load)
}

/// D: HTTP/2 over TLS to HTTP/1, 10 connections with 32 streams each.
fn scenario_d(rig: &Rig, options: &Options) -> String {
    let load = |peer: &Peer| h2load(peer.address, options.seconds);
    by_request(rig.tls(), options, "D: HTTP/2 over TLS to HTTP/1, 1 KiB, 10 x 32", &load)
}

/// E: a full TLS 1.3 handshake and a request, each on a new connection.
fn scenario_e(rig: &Rig, options: &Options) -> String {
    let close = ["-H", "connection: close"];
    let load = |peer: &Peer| wrk("https", peer.address, options.seconds, &close);
    by_request(rig.tls(), options, "E: TLS 1.3 handshake and a request", &load)
}

/// The CPU time per request of each peer; the load returns the number of requests.
fn by_request(
    peers: Vec<Peer>,
    options: &Options,
    title: &str,
    load: &dyn Fn(&Peer) -> f64,
) -> String {
    let mut table = Table::new(title, "µs of CPU a request", &peers);
    for round in 0..options.rounds {
        for at in 0..peers.len() {
            let peer = &peers[(at + round) % peers.len()];
            let before = peer.cpu_seconds();
            let requests = load(peer);
            table.add(peer.name, (peer.cpu_seconds() - before) * 1e6 / requests);
        }
    }
    table.render()
}

/// Runs h2load for this time; returns the number of requests.
fn h2load(address: SocketAddr, seconds: u64) -> f64 {
    let output = Command::new("taskset")
        .args(["-c", "1", "h2load", "-t1", "-c10", "-m32", "--warm-up-time=0"])
        .args([format!("--duration={seconds}"), format!("https://{address}/k1")])
        .output()
        .expect("h2load runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("status codes:")).expect("h2load counts");
    line.split_whitespace().nth(2).unwrap().parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Runs wrk for this time; returns the number of requests.
fn wrk(scheme: &str, address: SocketAddr, seconds: u64, more: &[&str]) -> f64 {
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "-c64"])
        .args(more)
        .args([format!("-d{seconds}"), format!("{scheme}://{address}/k1")])
        .output()
        .expect("wrk runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let line = text.lines().find(|line| line.contains("requests in")).expect("wrk counts");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// F: L4 bulk.
fn scenario_f(rig: &Rig, options: &Options) -> String {
    let peers = rig.tcp();
    let mut table = Table::new("F: L4 bulk", "CPU seconds a GB", &peers);
    for round in 0..options.rounds.min(5) {
        for at in 0..peers.len() {
            let peer = &peers[(at + round) % peers.len()];
            let before = peer.cpu_seconds();
            let bytes = download(peer.address, 4);
            table.add(peer.name, (peer.cpu_seconds() - before) * 1e9 / bytes);
        }
    }
    table.render()
}

/// Downloads the large file this often; returns the number of bytes.
fn download(address: SocketAddr, times: usize) -> f64 {
    let mut total = 0.0;
    for _ in 0..times {
        let output = Command::new("taskset")
            .args(["-c", "1", "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}"])
            .arg(format!("http://{address}/big"))
            .output()
            .expect("curl runs");
        total += String::from_utf8_lossy(&output.stdout).parse::<f64>().expect("bytes");
    }
    total
}

/// G: memory of idle keep-alive connections that have each had a request.
fn scenario_g(rig: &Rig, _: &Options) -> String {
    const CONNECTIONS: usize = 5_000;
    let peers = rig.http();
    let mut table = Table::new("G: idle keep-alive connection", "bytes", &peers);
    for peer in &peers {
        // The first connections allocate memory that later ones share.
        let warm = open(peer.address, 500);
        let before = peer.resident_bytes();
        let idle = open(peer.address, CONNECTIONS);
        table.add(peer.name, (peer.resident_bytes() - before).max(0.0) / CONNECTIONS as f64);
        drop((warm, idle));
    }
    table.render()
}

/// Opens connections, each with one request.
fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.write_all(b"GET /k1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut text = Vec::new();
            let mut space = [0; 4096];
            while text.len() < 1_100 {
                match stream.read(&mut space).unwrap() {
                    0 => panic!("closed"),
                    count => text.extend_from_slice(&space[..count]),
                }
            }
            stream
        })
        .collect()
}

/// G': memory of idle TLS connections that have each had a request.
fn scenario_g_tls(rig: &Rig, _: &Options) -> String {
    const CONNECTIONS: usize = 2_000;
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(rig.certificate_file()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let peers = rig.tls();
    let mut table = Table::new("G': idle TLS connection", "bytes", &peers);
    for peer in &peers {
        let warm: Vec<_> = (0..300).map(|_| open_tls(peer.address, &config)).collect();
        let before = peer.resident_bytes();
        let idle: Vec<_> = (0..CONNECTIONS).map(|_| open_tls(peer.address, &config)).collect();
        table.add(peer.name, (peer.resident_bytes() - before).max(0.0) / CONNECTIONS as f64);
        drop((warm, idle));
    }
    table.render()
}

type Secure = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn open_tls(address: SocketAddr, config: &Arc<rustls::ClientConfig>) -> Secure {
    let name = address.ip().into();
    let client = rustls::ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(address).unwrap());
    stream.write_all(b"GET /k1 HTTP/1.1\r\nhost: bench\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.ends_with(&[b'a'; 1024]) {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "it answers");
        answer.extend_from_slice(&part[..count]);
    }
    stream
}
