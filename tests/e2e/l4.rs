//! L4 flows: both directions, half-close, reset, fail-over.

use super::support::*;
use std::io::{Read, Write};
use std::net::Shutdown;

fn tcp(clusters: &[(&str, &str, std::net::SocketAddr)]) -> String {
    config(clusters).replace("protocol: http", "protocol: tcp")
}

/// One request on a flow of its own; the flow ends after the answer.
fn first_answer(proxy: &Proxy) -> String {
    let mut client = Keeping::new(proxy.at("web"));
    client.get("/").body
}

#[test]
fn bytes_pass_both_ways_and_a_half_close_is_passed_on() {
    let cluster = Cluster::scripted(|mut connection| {
        let mut all = Vec::new();
        while let Some(byte) = connection.take(1) {
            all.extend(byte);
        }
        // Answers only after the client's FIN.
        connection.send(format!("{} bytes", all.len()).as_bytes());
    });
    let proxy = Proxy::start(&tcp(&[("a", "idc", cluster.address)]));
    let mut stream = connect(proxy.at("web"));
    stream.write_all(&vec![b'x'; 300_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "300000 bytes");
    let line: serde_json::Value =
        serde_json::from_str(&proxy.says("\"protocol\":\"tcp\"")).unwrap();
    assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(300_000), Some(12)));
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let cluster = Cluster::scripted(|mut connection| {
        connection.take(2);
        let socket = socket2::SockRef::from(&connection.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        connection.reset = true;
    });
    let proxy = Proxy::start(&tcp(&[("a", "idc", cluster.address)]));
    let mut stream = connect(proxy.at("web"));
    stream.write_all(b"hi").unwrap();
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_flow_goes_to_the_next_cluster_when_the_nearest_refuses() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let proxy =
        Proxy::start(&tcp(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]));
    assert_eq!(first_answer(&proxy), "idc");
    idc.kill();
    for _ in 0..20 {
        assert_eq!(first_answer(&proxy), "cloud");
    }
}

#[test]
fn a_sensitive_flow_is_reset_rather_than_sent_to_a_cloud() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = tcp(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
        .replace("clusters: [idc, cloud] }", "clusters: [idc, cloud], data: sensitive }");
    let proxy = Proxy::start(&text);
    assert_eq!(first_answer(&proxy), "idc");
    idc.kill();
    eventually("the idc is down", || proxy.cluster("idc")["state"] == "down");
    let mut stream = connect(proxy.at("web"));
    assert!(matches!(stream.read(&mut [0; 8]), Err(_) | Ok(0)));
    assert!(cloud.seen().is_empty());
}

#[test]
fn flows_survive_reloads() {
    let cluster = Cluster::scripted(|mut connection| {
        while let Some(byte) = connection.take(1) {
            connection.send(&byte);
        }
    });
    let text = tcp(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&text);
    let mut stream = connect(proxy.at("web"));
    let mut echo = |byte: u8| {
        stream.write_all(&[byte]).unwrap();
        let mut back = [0];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    };
    echo(1);
    for number in 2..8 {
        proxy.rewrite(&format!("{text}# {number}\n"));
        eventually("the reload", || proxy.generation() == u64::from(number));
        echo(number);
    }
}
