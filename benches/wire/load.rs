//! Loads by wrk, h2load and curl, on core 1. Each returns the number of requests, or of bytes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

fn output(program: &str, arguments: &[String]) -> String {
    let output = Command::new("taskset")
        .args(["-c", "1", program])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    if output.stdout.is_empty() {
        panic!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs wrk with this number of connections for this many seconds; returns the number of requests, or no number if none
/// or not all of them were answered well: with tens of thousands of endpoints a proxy may use up the cluster's
/// descriptors.
pub fn wrk(url: &str, connections: usize, seconds: u64, more: &[&str]) -> f64 {
    let text = wrk_prints(url, connections, seconds, more);
    let line = text.lines().find(|line| line.contains("requests in"));
    let line = line.unwrap_or_else(|| panic!("wrk counts: {text}"));
    let count: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
    if count == 0.0 || text.contains("Non-2xx") {
        println!("a round is left out: {url}\n{text}");
        return f64::NAN;
    }
    count
}

/// The median latency of wrk with one connection, in microseconds.
pub fn median_latency(url: &str, seconds: u64) -> f64 {
    let text = wrk_prints(url, 1, seconds, &["--latency"]);
    assert!(!text.contains("Non-2xx"), "{text}");
    let line = text.lines().find(|line| line.trim_start().starts_with("50%"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default();
    let (number, scale) = match (figure.strip_suffix("us"), figure.strip_suffix("ms")) {
        (Some(number), _) => (number, 1.0),
        (_, Some(number)) => (number, 1_000.0),
        _ => panic!("{text}"),
    };
    number.parse::<f64>().unwrap() * scale
}

fn wrk_prints(url: &str, connections: usize, seconds: u64, more: &[&str]) -> String {
    let mut arguments = vec!["-t1".to_owned(), format!("-c{connections}")];
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    arguments.extend([format!("-d{seconds}"), url.to_owned()]);
    output("wrk", &arguments)
}

/// h2load with 10 connections of 32 streams; with `body` the requests are gRPC calls.
pub fn h2load(url: &str, seconds: u64, body: Option<&Path>) -> f64 {
    let mut arguments: Vec<String> =
        ["-t1", "-c10", "-m32", "--warm-up-time=0"].map(str::to_owned).to_vec();
    if let Some(body) = body {
        arguments.extend(["-d".to_owned(), body.display().to_string()]);
        for field in ["content-type: application/grpc", "te: trailers"] {
            arguments.extend(["-H".to_owned(), field.to_owned()]);
        }
    }
    arguments.extend([format!("--duration={seconds}"), url.to_owned()]);
    let text = output("h2load", &arguments);
    let line = text.lines().find(|line| line.starts_with("status codes:")).expect("h2load counts");
    let count: f64 =
        line.split_whitespace().nth(2).unwrap().parse().unwrap_or_else(|_| panic!("{text}"));
    assert!(count > 0.0, "{text}");
    count
}

/// The bytes of a response's body as sent, with this request field.
pub fn size(url: &str, field: &str) -> f64 {
    let arguments = ["-sS", "-o", "/dev/null", "-w", "%{size_download}", "-H", field, url];
    output("curl", &arguments.map(str::to_owned)).parse().expect("bytes")
}

/// Downloads the large file this often; the number of bytes.
pub fn download(address: SocketAddr, times: usize) -> f64 {
    let arguments = ["-sS", "-o", "/dev/null", "-w", "%{size_download}"].map(str::to_owned);
    let arguments = [arguments.as_slice(), &[format!("http://{address}/big")]].concat();
    (0..times).map(|_| output("curl", &arguments).parse::<f64>().expect("bytes")).sum()
}
