//! The fleet on NATS, with Debian's server: proxies that see each other, a server that dies and returns, permissions, and
//! messages that are refused.

use super::fleet::{ask, live, site};
use super::support::*;
use super::tls::folder_with;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// A NATS server with this further configuration.
pub fn server(folder: &Folder, address: SocketAddr, more: &str) -> Process {
    let config = folder.write("nats.conf", &format!("listen: \"{address}\"\n{more}\n"));
    let child = Command::new("nats-server")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .arg("--config")
        .arg(config)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the NATS server listens", || TcpStream::connect(address).is_ok());
    Process(child)
}

/// A proxy of a site, with its admin API at this address and these keys of `fleet.nats`.
fn start(folder: &Folder, site: &str, admin: SocketAddr, nats: &str, cluster: &Cluster) -> Process {
    let clusters = config(&[(&format!("at-{site}"), "idc", cluster.address)]);
    let text = format!(
        "site: {{ name: {site} }}\nadmin: {{ address: \"{admin}\" }}\nfleet: {{ nats: {{ {nats} }} }}\n{clusters}"
    );
    Process::proxy(&folder.write(&format!("{site}-{}.yaml", admin.port()), &text))
}

pub fn nats(admin: SocketAddr) -> Value {
    ask(admin).map(|fleet| fleet["nats"].clone()).unwrap_or_default()
}

/// The live proxies of the own site, as it is shown at this address.
pub fn members(admin: SocketAddr) -> u64 {
    ask(admin).and_then(|fleet| fleet["sites"][0]["members"].as_u64()).unwrap_or(0)
}

/// A client of a NATS server that publishes whatever it wants.
pub struct Forger(TcpStream);

impl Forger {
    pub fn connect(to: SocketAddr) -> Forger {
        let stream = TcpStream::connect(to).unwrap();
        let mut info = String::new();
        BufReader::new(&stream).read_line(&mut info).unwrap();
        assert!(info.starts_with("INFO "), "{info}");
        let mut forger = Forger(stream);
        forger.0.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").unwrap();
        forger
    }

    pub fn publish(&mut self, subject: &str, payload: &[u8]) {
        let head = format!("PUB tidegate.fleet.{subject} {}\r\n", payload.len());
        self.0.write_all(&[head.as_bytes(), payload, b"\r\n"].concat()).unwrap();
    }
}

#[test]
fn proxies_see_each_other_on_nats_and_again_after_its_server_has_returned() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let at = free();
    let cluster = Cluster::named("idc");
    let url = format!("url: \"nats://{at}\"");
    // They start before the server does.
    let places = [("east", free()), ("east", free()), ("west", free())];
    let begin = |(site, admin): (&str, SocketAddr)| start(&folder, site, admin, &url, &cluster);
    let mut proxies: Vec<Option<Process>> = places.map(|place| Some(begin(place))).into();
    let all = |what: &str, check: &dyn Fn(SocketAddr) -> bool| {
        eventually(what, || places.iter().all(|(_, admin)| check(*admin)));
    };
    all("no server yet", &|admin| nats(admin)["error"].is_string());
    let first = server(&folder, at, "");
    let meet = |what: &str| {
        eventually(what, || {
            let others = [live(ask(places[0].1)), live(ask(places[2].1))];
            others == [["west"], ["east"]] && members(places[0].1) == 2 && members(places[1].1) == 2
        });
    };
    meet("they meet");
    let east = ask(places[2].1).unwrap();
    let east = site(&east, "east");
    assert_eq!((&east["members"], &east["expected"]), (&2.into(), &2.into()), "{east}");

    drop(first);
    all("they notice", &|admin| {
        nats(admin)["connected"] == false && nats(admin)["dropped"].as_u64().unwrap() > 0
    });
    all("the others go stale", &|admin| live(ask(admin)).is_empty());
    for (_, admin) in places {
        let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        assert_eq!(ask_raw(admin, request.as_bytes()).status, 200, "and serve on");
        assert_eq!(ask(admin).unwrap()["sites"][0]["live"], false, "a part of the site at most");
    }
    let old = ask(places[2].1).unwrap();
    assert_eq!(site(&old, "east")["members"], 2, "old news stays: {old}");
    let second = server(&folder, at, "");
    meet("they meet again");

    // A proxy that dies is silent; its namesake is heard at once.
    proxies[1] = None;
    eventually("one is left", || members(places[0].1) == 1);
    eventually("and speaks for its site", || {
        let west = ask(places[2].1).unwrap();
        site(&west, "east")["members"] == 1 && site(&west, "east")["live"] == true
    });
    proxies[1] = Some(begin(places[1]));
    meet("it returns");
    drop((proxies, second));
}

#[test]
fn forged_malformed_and_too_many_messages_are_refused_counted_and_change_nothing() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let at = free();
    let _server = server(&folder, at, "");
    let cluster = Cluster::named("idc");
    let fleet = format!("site: {{ name: here }}\nfleet: {{ nats: {{ url: \"nats://{at}\" }} }}\n");
    let proxy = Proxy::start(&format!("{fleet}{}", config(&[("idc", "idc", cluster.address)])));
    eventually("a connection", || proxy.json("/api/v1/fleet")["nats"]["connected"] == true);
    let own = proxy.json("/api/v1/fleet")["instance"].as_str().unwrap().to_owned();
    let own = format!("member.here.{}", own.replace('.', "~"));
    let mut forger = Forger::connect(at);
    let row = |row: &str| format!(r#"{{"n":1,"q":1,"c":{{"a":{row}}}}}"#);
    let rows: Vec<String> = (0..600).map(|number| format!("\"c{number}\":[0,1]")).collect();
    let many = format!(r#"{{"n":1,"q":1,"c":{{{}}}}}"#, rows.join(","));
    let named = |by: &str| format!(r#"{{"n":1,"q":1,{by}}}"#);
    for (reason, subject, payload) in [
        ("malformed", "member.here.m:1", row("[0,1e999]")),
        ("malformed", "site.there.m:1", "\u{0}\u{1}".to_owned()),
        ("oversize", "member.here.o:1", "x".repeat(70_000)),
        ("too_many", "member.here.f:1", many),
        ("value", "site.there.v:1", row("[0,-5]")),
        ("name", "member.here.<b>", row("[0,5]")),
        ("site", "site.there.s:1", named(r#""s":"elsewhere""#)),
        ("instance", "member.here.i:1", named(r#""i":"other:1""#)),
        ("instance", &own, row("[0,5]")),
    ] {
        let metric = format!("tidegate_fleet_refused_total{{reason=\"{reason}\"}}");
        let before = proxy.metric(&metric);
        forger.publish(subject, payload.as_bytes());
        eventually(&format!("{reason}: {subject}"), || proxy.metric(&metric) == before + 1.0);
    }
    forger.publish("member.here.r:1", br#"{"n":2,"q":9}"#);
    forger.publish("member.here.r:1", br#"{"n":2,"q":8}"#);
    let stale = "tidegate_fleet_refused_total{reason=\"stale\"}";
    eventually("a replay", || proxy.metric(stale) == 1.0);
    let fleet = proxy.json("/api/v1/fleet");
    assert_eq!(fleet["sites"].as_array().unwrap().len(), 1, "nothing else was heard: {fleet}");
    assert_eq!(fleet["members"].as_array().unwrap().len(), 2, "{fleet}");

    // An honest member beside a flood of one sender, and of a new sender each time.
    let (mut quick, before) = (Forger::connect(at), proxy.resident_mib());
    let padding = format!(r#"{{"n":1,"q":1,"x":"{}"}}"#, "x".repeat(2_000));
    for number in 0..20_000 {
        quick.publish("member.here.flood:1", padding.as_bytes());
        quick.publish(&format!("site.s{}.f:1", number % 5_000), padding.as_bytes());
        if number % 2_000 == 0 {
            forger
                .publish("member.here.r:1", format!(r#"{{"n":2,"q":{}}}"#, 10 + number).as_bytes());
        }
    }
    let flood = "tidegate_fleet_refused_total{reason=\"flood\"}";
    // At least so many are counted: the client counts what it drops only up to a bound.
    eventually("the flood is refused", || proxy.metric(flood) > 500.0);
    println!("{} counted", proxy.metric(flood));
    let fleet = proxy.json("/api/v1/fleet");
    let found = fleet["members"].as_array().unwrap();
    assert!(found.len() <= 769, "{}", found.len());
    assert!(found.iter().any(|member| member["instance"] == "r:1" && member["state"] == "live"));
    assert!(proxy.resident_mib() < before + 100, "{before} to {} MiB", proxy.resident_mib());
    assert_eq!(get(proxy.at("web"), "/").body, "idc", "requests do not notice");
}

#[test]
fn servers_are_authenticated_by_tls_and_proxies_by_keys_with_permissions() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = folder_with(&[("a", &["a.example", "127.0.0.1"])]);
    let keys = ["east", "west", "stranger"].map(|name| {
        let key = nkeys::KeyPair::new_user();
        folder.write(&format!("{name}.nk"), &key.seed().unwrap());
        key.public_key()
    });
    let user = |key: &str, site: &str| {
        format!(
            "{{ nkey: {key}, permissions: {{ subscribe: \"tidegate.fleet.>\", \
             publish: [\"tidegate.fleet.member.{site}.*\", \"tidegate.fleet.site.{site}.*\"] }} }}"
        )
    };
    let users = format!("{}, {}", user(&keys[0], "east"), user(&keys[1], "west"));
    let tls = |name: &str| folder.0.join(name).display().to_string();
    let (cert, key) = (tls("a.pem"), tls("a.key"));
    let at = free();
    let more = format!(
        "tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}\nauthorization {{ users: [{users}] }}"
    );
    let _server = server(&folder, at, &more);
    let cluster = Cluster::named("idc");
    let begin = |site: &str, key: &str| {
        let admin = free();
        let keys = format!("url: \"tls://{at}\", ca: ca.pem, creds_file: {key}.nk");
        (start(&folder, site, admin, &keys, &cluster), admin)
    };
    let (_east, east) = begin("east", "east");
    let (_west, west) = begin("west", "west");
    let (_stranger, stranger) = begin("north", "stranger");
    // It may connect, and not speak for another site.
    let (_forger, forger) = begin("south", "west");
    eventually("east and west meet", || live(ask(east)) == ["west"] && live(ask(west)) == ["east"]);
    eventually("the stranger is not let in", || {
        let error = nats(stranger)["error"].as_str().unwrap_or_default().to_lowercase();
        error.contains("authorization")
    });
    eventually("the forger hears", || live(ask(forger)) == ["east", "west"]);
    assert!(!live(ask(east)).contains(&"south".to_owned()), "and is not heard");
}
