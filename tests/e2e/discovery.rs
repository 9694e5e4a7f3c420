//! Discovery: DNS with a test server, SRV, and a watched file.

use super::support::*;
use hickory_resolver::proto::op::{Message, MessageType, Metadata, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// A small authoritative server; unknown names are NXDOMAIN.
struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Vec<RData>>>>,
    silent: Arc<Mutex<bool>>,
    /// Queries answered with SERVFAIL, and their number.
    failing: Arc<Mutex<HashSet<(String, RecordType)>>>,
    failed: Arc<Mutex<usize>>,
    /// Names whose queries are not answered.
    unanswered: Arc<Mutex<HashSet<String>>>,
}

impl Dns {
    fn start() -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dns = Dns {
            address: socket.local_addr().unwrap(),
            zone: Arc::default(),
            silent: Arc::default(),
            failing: Arc::default(),
            failed: Arc::default(),
            unanswered: Arc::default(),
        };
        let (zone, silent) = (dns.zone.clone(), dns.silent.clone());
        let (failing, failed) = (dns.failing.clone(), dns.failed.clone());
        let unanswered = dns.unanswered.clone();
        std::thread::spawn(move || {
            let mut space = [0; 4096];
            while let Ok((count, peer)) = socket.recv_from(&mut space) {
                let Ok(asked) = Message::from_vec(&space[..count]) else { continue };
                if *silent.lock().unwrap() {
                    continue;
                }
                let Some(query) = asked.queries.first() else { continue };
                let name = query.name.to_lowercase().to_ascii();
                if unanswered.lock().unwrap().contains(&name) {
                    continue;
                }
                if failing.lock().unwrap().contains(&(name, query.query_type)) {
                    *failed.lock().unwrap() += 1;
                    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
                    message.metadata.response_code = ResponseCode::ServFail;
                    message.add_query(query.clone());
                    drop(socket.send_to(&message.to_vec().unwrap(), peer));
                    continue;
                }
                if let Some(answer) = answer(&asked, &zone.lock().unwrap()) {
                    drop(socket.send_to(&answer, peer));
                }
            }
        });
        dns
    }

    fn set(&self, name: &str, data: Vec<RData>) {
        self.zone.lock().unwrap().insert(name.to_owned(), data);
    }
}

fn answer(asked: &Message, zone: &HashMap<String, Vec<RData>>) -> Option<Vec<u8>> {
    let query = asked.queries.first()?.clone();
    let name = query.name.to_lowercase();
    let found = zone.get(&name.to_ascii());
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata = Metadata::response_from_request(&asked.metadata);
    message.metadata.message_type = MessageType::Response;
    message.metadata.authoritative = true;
    if found.is_none() {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    let of_type = |data: &&RData| match query.query_type {
        RecordType::A => matches!(data, RData::A(_)),
        RecordType::AAAA => matches!(data, RData::AAAA(_)),
        RecordType::SRV => matches!(data, RData::SRV(_)),
        _ => false,
    };
    let records = found.into_iter().flatten().filter(of_type);
    let records: Vec<Record> =
        records.map(|data| Record::from_rdata(name.clone(), 1, data.clone())).collect();
    message.add_query(query);
    message.add_answers(records);
    message.to_vec().ok()
}

fn a(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(127, 0, 0, last)))
}

fn with_dns(dns: &Dns, text: &str) -> Proxy {
    let server = dns.address.to_string();
    Proxy::start_with(text, &[("TIDEGATE_NAME_SERVER", &server)])
}

/// Clusters with one port and several loopback addresses.
fn on_port(last: u8, port: u16, name: &'static str) -> Cluster {
    Cluster::at(SocketAddr::from(([127, 0, 0, last], port)), move |mut connection| {
        while connection.request().is_some() {
            connection.reply(name);
        }
    })
}

fn discovered(source: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [one], retry: {{ retries: 1 }} }} }}\n\
         clusters: {{ one: {{ kind: idc, {source}, probe: {{ interval: 100ms, timeout: 100ms }} }} }}\n"
    )
}

fn endpoints(proxy: &Proxy) -> Vec<String> {
    let cluster = proxy.cluster("one");
    let all = cluster["endpoints"].as_array().unwrap().iter();
    let mut all: Vec<String> = all.map(|e| e["address"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

#[test]
fn dns_is_followed_and_a_silent_server_changes_nothing() {
    let first = on_port(2, 0, "two");
    let port = first.address.port();
    let _second = on_port(3, port, "three");
    let dns = Dns::start();
    dns.set("shop.test.", vec![a(2)]);
    let proxy = with_dns(&dns, &discovered(&format!("discover: {{ dns: \"shop.test.:{port}\" }}")));
    let at = |last: u8| format!("127.0.0.{last}:{port}");
    eventually("the first answer", || endpoints(&proxy) == [at(2)]);
    eventually("it serves", || get(proxy.at("web"), "/").body == "two");
    dns.set("shop.test.", vec![a(2), a(3)]);
    eventually("the second answer, after its time to live", || endpoints(&proxy) == [at(2), at(3)]);
    *dns.silent.lock().unwrap() = true;
    let age = || proxy.metric("tidegate_dns_age_seconds{tidegate_cluster=\"one\"}");
    eventually("the answer grows old", || age() > 2.5);
    assert_eq!(endpoints(&proxy), [at(2), at(3)], "the last good answer is kept");
    proxy.says("DNS name shop.test. not resolved");
    *dns.silent.lock().unwrap() = false;
    dns.set("shop.test.", vec![a(3)]);
    eventually("it answers again", || endpoints(&proxy) == [at(3)]);
    proxy.says("DNS name shop.test. resolved again");
    for printed in ["DNS name shop.test. not resolved", "DNS name shop.test. resolved again"] {
        let count = proxy.log().iter().filter(|line| line.contains(printed)).count();
        assert_eq!(count, 1, "{printed}: once, and not by family: {:?}", proxy.log());
    }
    assert_eq!(get(proxy.at("web"), "/").body, "three");
}

#[test]
fn listed_names_resolve_and_an_unknown_name_is_down_not_a_start_failure() {
    let cluster = on_port(2, 0, "two");
    let port = cluster.address.port();
    let dns = Dns::start();
    let proxy = with_dns(&dns, &discovered(&format!("endpoints: [\"app.test.:{port}\"]")));
    let down = proxy.cluster("one");
    assert_eq!(
        (down["state"].as_str(), down["cause"].as_str()),
        (Some("down"), Some("no_endpoints"))
    );
    assert_eq!(get(proxy.at("web"), "/").refusal(), "no_healthy_cluster");
    dns.set("app.test.", vec![a(2)]);
    eventually("the name is there", || get(proxy.at("web"), "/").body == "two");
}

#[test]
fn a_name_without_records_is_logged_at_the_beginning_and_end() {
    let dns = Dns::start();
    let other =
        "two: { kind: idc, discover: { srv: \"_http._tcp.shop.test.\" }, probe: { kind: none } }";
    let text = discovered("endpoints: [\"app.test.:1\"]")
        .replace("clusters: { one:", &format!("clusters: {{ {other}, one:"));
    let proxy = with_dns(&dns, &text);
    let nothing = |name: &str| {
        let said = format!("of cluster {name} has no records");
        proxy.log().iter().filter(|line| line.contains(&said)).count()
    };
    eventually("both are told", || nothing("one") == 1 && nothing("two") == 1);
    dns.set("app.test.", vec![a(2)]);
    let target = Name::from_ascii("app.test.").unwrap();
    dns.set("_http._tcp.shop.test.", vec![RData::SRV(SRV::new(10, 1, 1, target))]);
    for name in ["one", "two"] {
        proxy.says(&format!("of cluster {name} has records again"));
        assert_eq!(nothing(name), 1, "once, however often it is asked");
    }
}

#[test]
fn srv_gives_ports_and_weights() {
    let cluster = on_port(2, 0, "two");
    let port = cluster.address.port();
    let dns = Dns::start();
    let target = Name::from_ascii("app.test.").unwrap();
    let last = Name::from_ascii("backup.test.").unwrap();
    dns.set(
        "_http._tcp.shop.test.",
        vec![RData::SRV(SRV::new(20, 1, 1, last)), RData::SRV(SRV::new(10, 7, port, target))],
    );
    dns.set("app.test.", vec![a(2)]);
    dns.set("backup.test.", vec![a(9)]);
    let proxy = with_dns(&dns, &discovered("discover: { srv: \"_http._tcp.shop.test.\" }"));
    eventually("the records", || endpoints(&proxy) == [format!("127.0.0.2:{port}")]);
    eventually("it serves", || get(proxy.at("web"), "/").body == "two");
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap()))
}

#[test]
fn a_family_that_fails_keeps_its_last_good_answer() {
    let cluster = on_port(2, 0, "two");
    let port = cluster.address.port();
    let dns = Dns::start();
    dns.set("shop.test.", vec![a(2), RData::AAAA(AAAA(std::net::Ipv6Addr::LOCALHOST))]);
    let proxy = with_dns(&dns, &discovered(&format!("discover: {{ dns: \"shop.test.:{port}\" }}")));
    let both = [format!("127.0.0.2:{port}"), format!("[::1]:{port}")];
    eventually("both families", || endpoints(&proxy) == both);
    dns.failing.lock().unwrap().insert(("shop.test.".to_owned(), RecordType::A));
    eventually("A fails", || *dns.failed.lock().unwrap() > 0);
    proxy.says("DNS name shop.test. not resolved");
    // The next AAAA answer shows that the failure was processed.
    dns.set("shop.test.", vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))]);
    eventually("AAAA is answered anew", || !endpoints(&proxy).contains(&both[1]));
    assert!(endpoints(&proxy).contains(&both[0]), "{:?}", endpoints(&proxy));
    assert_eq!(get(proxy.at("web"), "/").body, "two");
}

#[test]
fn an_unanswered_name_delays_no_other() {
    let cluster = on_port(2, 0, "two");
    let port = cluster.address.port();
    let dns = Dns::start();
    let dead: Vec<String> = (0..5).map(|index| format!("dead{index}.test.")).collect();
    dns.unanswered.lock().unwrap().extend(dead.iter().cloned());
    dns.set("app.test.", vec![a(3)]);
    let names = dead.iter().map(|name| format!("\"{name}:80\", ")).collect::<String>();
    let listed = format!("endpoints: [{names}\"app.test.:{port}\", \"127.0.0.2:{port}\"]");
    let begun = std::time::Instant::now();
    let proxy = with_dns(&dns, &discovered(&listed));
    let both = [format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}")];
    eventually("the address and the live name", || endpoints(&proxy) == both);
    eventually("it serves", || get(proxy.at("web"), "/").body == "two");
    // Five names with timeouts one after the other would take ten seconds.
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn srv_priorities_are_a_fallback_and_a_dead_target_affects_no_other() {
    let last = on_port(4, 0, "last");
    let port = last.address.port();
    let dns = Dns::start();
    dns.unanswered.lock().unwrap().insert("dead.test.".to_owned());
    dns.set(
        "_http._tcp.shop.test.",
        vec![
            srv(10, 1, port, "first.test."),
            srv(10, 1, port, "dead.test."),
            srv(20, 1, port, "last.test."),
        ],
    );
    dns.set("first.test.", vec![a(2)]);
    dns.set("last.test.", vec![a(4)]);
    let proxy = with_dns(&dns, &discovered("discover: { srv: \"_http._tcp.shop.test.\" }"));
    let at = |last: u8| format!("127.0.0.{last}:{port}");
    eventually("the first is down", || get(proxy.at("web"), "/").body == "last");
    assert_eq!(endpoints(&proxy), [at(2), at(4)]);
    let _first = on_port(2, port, "first");
    eventually("the first is back", || endpoints(&proxy) == [at(2)]);
    eventually("it serves", || get(proxy.at("web"), "/").body == "first");
}

#[test]
fn srv_weights_keep_their_proportions() {
    let big = on_port(2, 0, "big");
    let port = big.address.port();
    let _small = on_port(3, port, "small");
    let dns = Dns::start();
    let records = vec![srv(10, 60_000, port, "big.test."), srv(10, 6_000, port, "small.test.")];
    dns.set("_http._tcp.shop.test.", records);
    dns.set("big.test.", vec![a(2)]);
    dns.set("small.test.", vec![a(3)]);
    let text = discovered("discover: { srv: \"_http._tcp.shop.test.\" }")
        .replace("clusters: [one],", "clusters: [one], endpoint_policy: round_robin,");
    let proxy = with_dns(&dns, &text);
    eventually("both", || endpoints(&proxy).len() == 2);
    eventually("both are up", || {
        proxy.cluster("one")["endpoints"].as_array().unwrap().iter().all(|e| e["state"] == "up")
    });
    let big = (0..110).filter(|_| get(proxy.at("web"), "/").body == "big").count();
    assert!((90..110).contains(&big), "{big} of 110");
}

#[test]
fn a_file_of_endpoints_is_watched_and_a_bad_one_changes_nothing() {
    let (one, two) = (Cluster::named("one"), Cluster::named("two"));
    let folder = Folder::new();
    let path = folder.write("endpoints.yaml", &format!("- \"{}\"\n", one.address));
    let proxy = Proxy::start(&discovered(&format!("discover: {{ file: {} }}", path.display())));
    eventually("the first list", || get(proxy.at("web"), "/").body == "one");
    folder.write("endpoints.yaml", &format!("- {{ address: \"{}\", weight: 3 }}\n", two.address));
    eventually("the second list", || get(proxy.at("web"), "/").body == "two");
    folder.write("endpoints.yaml", "- nonsense\n");
    proxy.says("of cluster one ignored, the last endpoints stay");
    assert_eq!(get(proxy.at("web"), "/").body, "two");
    folder.write("endpoints.yaml", "[]\n");
    eventually("an empty list empties at once", || proxy.cluster("one")["cause"] == "no_endpoints");
}

/// Waits for further queries; a name is queried again several seconds after a bad answer.
fn asked_beyond(dns: &super::lying_dns::LyingDns, count: usize) {
    let deadline = std::time::Instant::now() + 4 * PATIENCE;
    while dns.asked() <= count {
        assert!(std::time::Instant::now() < deadline, "it is asked again");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

#[test]
fn bad_dns_answers_keep_the_last_good_endpoints() {
    use super::lying_dns::{Lie, LyingDns};
    let good = Ipv4Addr::new(127, 0, 0, 2);
    let cluster = on_port(2, 0, "two");
    let port = cluster.address.port();
    let dns = LyingDns::start(Lie::ShortTtl(vec![good]));
    let text = discovered(&format!("discover: {{ dns: \"shop.test.:{port}\" }}"));
    let proxy = Proxy::start_with(&text, &[("TIDEGATE_NAME_SERVER", &dns.at.to_string())]);
    let at = [format!("{good}:{port}")];
    eventually("the first answer", || endpoints(&proxy) == at);
    for lie in
        [Lie::ServFail, Lie::Garbage, Lie::WrongId, Lie::Truncated, Lie::LinkLocal, Lie::Silence]
    {
        dns.set(lie.clone());
        let before = dns.asked();
        asked_beyond(&dns, before);
        assert_eq!(endpoints(&proxy), at, "{lie:?}");
        assert_eq!(get(proxy.at("web"), "/").body, "two", "{lie:?}");
        dns.set(Lie::ShortTtl(vec![good]));
        let before = dns.asked();
        asked_beyond(&dns, before + 1);
    }
}

#[test]
fn link_local_endpoints_need_allow_link_local() {
    use super::lying_dns::{Lie, LyingDns};
    let dns = LyingDns::start(Lie::LinkLocal);
    let text = discovered("discover: { dns: \"shop.test.:80\" }");
    let meant = text.replace("kind: idc,", "kind: idc, allow_link_local: true,");
    let name_server = dns.at.to_string();
    let proxy = Proxy::start_with(&meant, &[("TIDEGATE_NAME_SERVER", &name_server)]);
    eventually("it is meant", || endpoints(&proxy) == ["169.254.169.254:80"]);
    proxy.rewrite(&text);
    eventually("the reload", || proxy.generation() == 2);
    eventually("it is meant no more", || endpoints(&proxy).is_empty());
    let (code, printed) = check(
        &Folder::new(),
        &discovered("endpoints: [\"169.254.169.254:80\", \"168.63.129.16:80\"]"),
    );
    assert_eq!((code, printed.matches("link-local or metadata").count()), (1, 2), "{printed}");
}
