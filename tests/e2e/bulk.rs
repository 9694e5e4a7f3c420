//! Long bodies and flows, which pass the proxy in large pieces or inside the kernel: unchanged, and never mixed up.

use super::support::*;
use std::io::{Read, Write};
use std::net::Shutdown;

/// The bytes of a path: `/SEED/LENGTH`.
fn bytes_of(path: &str) -> Vec<u8> {
    let mut parts = path.split('/').skip(1).map(|part| part.parse::<u64>().unwrap());
    let (mut state, length) = (parts.next().unwrap(), parts.next().unwrap());
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while (bytes.len() as u64) < length {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

/// A cluster whose responses have the bytes of their paths; those of `/SEED/LENGTH/HALF` end in the middle.
fn cluster() -> Cluster {
    Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let (whole, half) = match path.strip_suffix("/half") {
                Some(path) => (bytes_of(path), true),
                None => (bytes_of(&path), false),
            };
            let length = whole.len();
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes());
            if half {
                connection.send(&whole[..length / 2]);
                return;
            }
            connection.send(&whole);
        }
    })
}

fn one_worker(text: &str) -> String {
    format!("runtime: {{ workers: 1 }}\n{text}")
}

/// The body of a response on a connection of its own, as far as it came.
fn fetch(proxy: &Proxy, path: &str) -> Vec<u8> {
    let mut stream = connect(proxy.at("web"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = read_all(&mut stream);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    all.split_off(end + 4)
}

#[test]
fn long_bodies_arrive_unchanged_and_use_pipes() {
    let cluster = cluster();
    let proxy = Proxy::start(&one_worker(&config(&[("a", "idc", cluster.address)])));
    for length in [0, 8_000, 8_192, 40_000, 65_536, 73_728, 262_144] {
        let path = format!("/{length}/{length}");
        assert!(fetch(&proxy, &path) == bytes_of(&path), "{path}");
    }
    let before = proxy.pipes();
    for length in [1_000_000, 5_000_001] {
        let path = format!("/{length}/{length}");
        assert!(fetch(&proxy, &path) == bytes_of(&path), "{path}");
    }
    assert_eq!(proxy.pipes(), before + 2, "one pipe was made, and is kept");
    let line = r#"tidegate_bytes_total{listener="web",direction="out"}"#;
    proxy.counts(line, f64::from(8_000 + 8_192 + 40_000 + 65_536 + 73_728 + 262_144 + 6_000_001));
}

#[test]
fn a_client_that_leaves_a_long_body_leaves_nothing_for_the_next() {
    let cluster = cluster();
    let proxy = Proxy::start(&one_worker(&config(&[("a", "idc", cluster.address)])));
    for number in 0..20 {
        let mut leaver = connect(proxy.at("web"));
        write!(leaver, "GET /1/9000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        leaver.read_exact(&mut vec![0; 700_000]).unwrap();
        drop(leaver);
        let path = format!("/{number}/1000000");
        assert!(fetch(&proxy, &path) == bytes_of(&path), "{path}");
    }
}

#[test]
fn a_long_body_that_ends_too_soon_is_visibly_incomplete() {
    let cluster = cluster();
    let proxy = Proxy::start(&one_worker(&config(&[("a", "idc", cluster.address)])));
    for number in 0..5 {
        let path = format!("/{number}/4000000");
        let half = fetch(&proxy, &format!("{path}/half"));
        assert!(half.len() < 4_000_000 && bytes_of(&path).starts_with(&half), "{}", half.len());
        assert!(fetch(&proxy, &path) == bytes_of(&path), "{path}");
    }
    proxy.counts(r#"tidegate_aborted_total{listener="web",by="cluster"}"#, 5.0);
}

#[test]
fn a_flow_carries_bulk_both_ways_at_once() {
    let cluster = Cluster::scripted(|connection| {
        let mut reader = connection.stream.try_clone().unwrap();
        let mut writer = connection.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(&bytes_of("/2/8000000")).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == bytes_of("/1/9000000"));
        writing.join().unwrap();
        drop(connection);
    });
    let text = config(&[("a", "idc", cluster.address)]).replace("protocol: http", "protocol: tcp");
    let proxy = Proxy::start(&one_worker(&text));
    let before = proxy.pipes();
    let mut stream = connect(proxy.at("web"));
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes_of("/1/9000000")).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    writing.join().unwrap();
    assert!(all == bytes_of("/2/8000000"));
    let line: serde_json::Value =
        serde_json::from_str(&proxy.says("\"protocol\":\"tcp\"")).unwrap();
    let bytes = (line["bytes_in"].as_u64(), line["bytes_out"].as_u64());
    assert_eq!(bytes, (Some(9_000_000), Some(8_000_000)));
    assert!(proxy.pipes() > before, "pipes are kept");
}
