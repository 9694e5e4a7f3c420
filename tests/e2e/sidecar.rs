//! Transparent listeners: connections to other addresses that the packet filter redirects, in network namespaces of
//! the test; `docs/sidecar.md` has the same rules.

use super::support::*;
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A network namespace, removed with its test.
struct Network(String);

impl Network {
    /// `None` if namespaces cannot be created; the reason is printed.
    fn new(name: &str) -> Option<Network> {
        if !["ip", "nft"].iter().all(|program| is_installed(program)) {
            return None;
        }
        let name = format!("tidegate-{name}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output().unwrap();
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            skipped(&format!("network namespaces are not permitted here: {why}"));
            return None;
        }
        let network = Network(name);
        network.run("ip", &["link", "set", "lo", "up"]);
        Some(network)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut all = vec!["netns", "exec", &self.0, program];
        all.extend(arguments);
        let output = Command::new("ip").args(&all).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    }

    fn rules(&self, text: &str) {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.0, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{text}");
    }

    /// Runs `work` in the namespace, on a thread of its own.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(space.as_fd(), kind).unwrap();
                work()
            });
            match there.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).status());
    }
}

/// A cluster that answers with the PROXY header that it received.
fn telling() -> Cluster {
    Cluster::scripted(|mut connection| {
        let mut line = Vec::new();
        while let Some(byte) = connection.take(1) {
            line.extend(byte);
            if line.ends_with(b"\r\n") {
                break;
            }
        }
        while connection.request().is_some() {
            connection.reply(String::from_utf8_lossy(&line).trim());
        }
    })
}

fn sidecar(cluster: &Cluster, transparent: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: 0.0.0.0:15001, protocol: http, service: shop, transparent: {transparent} }} }}\n\
         services: {{ shop: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ kind: idc, endpoints: [\"{}\"], send_proxy_protocol: v1, probe: {{ kind: none }} }} }}\n",
        cluster.address
    )
}

fn ask(to: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn redirected_connections_have_their_original_destination() {
    const APPLICATION: u32 = 65_534;
    let Some(network) = Network::new("redirect") else { return };
    network.run("ip", &["addr", "add", "10.8.0.1/32", "dev", "lo"]);
    network.run("ip", &["route", "add", "default", "dev", "lo", "src", "10.8.0.1"]);
    network.rules(&format!(
        "table ip tidegate {{\n chain output {{\n  type nat hook output priority -100;\n  \
         meta skuid {APPLICATION} tcp dport 80 redirect to :15001\n }}\n}}\n"
    ));
    network.within(|| {
        let cluster = telling();
        let _proxy = Proxy::start(&sidecar(&cluster, "original_dst"));
        // The application uses the name and address that it has always used.
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "5", "http://10.9.9.9/"])
            .uid(APPLICATION)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<&str> = said.split(' ').collect();
        assert_eq!((words[0], words[1]), ("PROXY", "TCP4"), "{said} {output:?}");
        assert_eq!((words[3], words[5]), ("10.9.9.9", "80"), "{said}");
        // Direct connections are served, too.
        assert!(ask("127.0.0.1:15001").contains("127.0.0.1 "), "{said}");
    });
}

#[test]
fn tproxy_connections_are_accepted() {
    let Some(network) = Network::new("tproxy") else { return };
    let Some(client) = Network::new("client") else { return };
    let (ours, theirs) = (format!("a{}", std::process::id()), format!("b{}", std::process::id()));
    network.run("ip", &["link", "add", &ours, "type", "veth", "peer", &theirs, "netns", &client.0]);
    network.run("ip", &["addr", "add", "10.7.0.1/24", "dev", &ours]);
    network.run("ip", &["link", "set", &ours, "up"]);
    client.run("ip", &["addr", "add", "10.7.0.2/24", "dev", &theirs]);
    client.run("ip", &["link", "set", &theirs, "up"]);
    client.run("ip", &["route", "add", "default", "via", "10.7.0.1"]);
    network.run("ip", &["rule", "add", "fwmark", "1", "lookup", "100"]);
    network.run("ip", &["route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100"]);
    network.rules(
        "table ip tidegate {\n chain prerouting {\n  type filter hook prerouting priority mangle;\n  \
         tcp dport 80 tproxy to :15001 meta mark set 1 accept\n }\n}\n",
    );
    network.within(|| {
        let cluster = telling();
        let proxy = Proxy::start(&sidecar(&cluster, "tproxy"));
        let answer = client.within(|| ask("10.9.9.9:80"));
        assert!(answer.contains("PROXY TCP4 10.7.0.2 10.9.9.9 "), "{answer}");
        assert!(answer.trim().ends_with(" 80"), "{answer}");
        // A transparent listener has a socket of another kind: a reload replaces it.
        proxy.rewrite(&sidecar(&cluster, "none"));
        eventually("the reload", || proxy.generation() == 2);
        assert!(ask("127.0.0.1:15001").contains("PROXY TCP4"));
    });
}

#[test]
fn transparent_listeners_are_tcp_only() {
    let (code, said) = check(
        &Folder::new(),
        "listeners:\n  a: { address: \"127.0.0.1:5353\", protocol: udp, service: s, transparent: tproxy }\n  \
         b: { address: \"unix:/tmp/x\", protocol: http, service: s, transparent: original_dst }\n  \
         c: { address: \"127.0.0.1:5354\", protocol: http, service: s, transparent: yes }\n\
         services: { s: { clusters: [c] } }\n\
         clusters: { c: { kind: idc, endpoints: [127.0.0.1:1], probe: { kind: none } } }\n",
    );
    assert_eq!(code, 1, "{said}");
    for wrong in ["listeners.a.transparent", "listeners.b.transparent", "listeners.c.transparent"] {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
}

#[test]
fn without_local_ports_another_endpoint_is_tried() {
    let Some(network) = Network::new("ports") else { return };
    let narrow = "echo '40000 40007' > /proc/sys/net/ipv4/ip_local_port_range";
    let set = Command::new("ip").args(["netns", "exec", &network.0, "sh", "-c", narrow]).output();
    if !set.unwrap().status.success() {
        skipped("the range of ports cannot be set here");
        return;
    }
    let text = "runtime: { workers: 1 }\n\
         listeners: { web: { address: 127.0.0.1:8080, protocol: http, service: shop } }\n\
         services: { shop: { clusters: [one, two] } }\n\
         clusters:\n  one: { kind: idc, endpoints: [127.0.0.1:9001], probe: { kind: none } }\n  \
           two: { kind: cloud, endpoints: [127.0.0.1:9002], probe: { kind: none } }\n";
    network.within(|| {
        let _held = Cluster::at("127.0.0.1:9001".parse().unwrap(), |mut connection| {
            while connection.head().is_some() {
                while matches!(connection.stream.read(&mut [0; 64]), Ok(1..)) {}
            }
        });
        let _other = Cluster::at("127.0.0.1:9002".parse().unwrap(), |mut connection| {
            while connection.request().is_some() {
                connection.reply("other");
            }
        });
        let proxy = Proxy::start(text);
        let mut kept = Vec::new();
        for number in 0..12_u8 {
            // From several addresses, because each has a limited number of ports.
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let from = std::net::SocketAddr::from(([127, 0, 0, 2 + number / 4], 0));
            client.bind(&from.into()).unwrap();
            client
                .connect(&"127.0.0.1:8080".parse::<std::net::SocketAddr>().unwrap().into())
                .unwrap();
            let mut client = TcpStream::from(client);
            client.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
            client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").unwrap();
            let mut space = [0; 1024];
            let count = client.read(&mut space).unwrap_or(0);
            kept.push((client, String::from_utf8_lossy(&space[..count]).into_owned()));
        }
        let answers: Vec<&str> = kept.iter().map(|(_, text)| text.as_str()).collect();
        assert!(answers.iter().any(|text| text.ends_with("other")), "{answers:?}");
        assert!(
            answers.iter().all(|text| text.is_empty() || text.ends_with("other")),
            "{answers:?}"
        );
        assert_eq!(proxy.metric("tidegate_ejections_total"), 0.0, "nobody is to blame");
    });
}
