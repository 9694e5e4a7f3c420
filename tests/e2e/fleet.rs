//! The fleet: proxies of three sites that exchange reports, partitions between them, and peers with
//! false reports.

use super::fault::{Fault, Relay};
use super::support::*;
use super::tls::{curl, folder_with};
use serde_json::Value;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

/// A proxy at a fixed admin address, so that it can be killed and started again.
fn start(folder: &Folder, site: &str, admin: &str, fleet: &str, cluster: SocketAddr) -> Process {
    let text = format!(
        "site: {{ name: {site} }}\nadmin: {admin}\nfleet: {{ {fleet} }}\n{}",
        config(&[(&format!("at-{site}"), "idc", cluster)])
    );
    let file = folder.write(&format!("{site}.yaml"), &text);
    Process::proxy(&file)
}

pub fn site<'a>(fleet: &'a Value, name: &str) -> &'a Value {
    fleet["sites"].as_array().unwrap().iter().find(|site| site["site"] == name).unwrap()
}

/// The other sites of which the proxy at this address has a recent report; empty while the proxy does not answer.
pub fn live(fleet: Option<Value>) -> Vec<String> {
    let Some(fleet) = fleet else { return Vec::new() };
    let others = fleet["sites"].as_array().unwrap().iter();
    let others = others.filter(|site| site["own"] == false && site["live"] == true);
    others.map(|site| site["site"].as_str().unwrap().to_owned()).collect()
}

pub fn ask(at: SocketAddr) -> Option<Value> {
    std::net::TcpStream::connect(at).ok()?;
    serde_json::from_str(
        &ask_raw(at, b"GET /api/v1/fleet HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .body,
    )
    .ok()
}

#[test]
fn three_sites_show_each_other_by_tls_and_one_that_is_killed_goes_stale_and_returns() {
    let folder = folder_with(&[("a", &["a.example", "127.0.0.1"])]);
    folder.write("token", "secret\n");
    let cluster = Cluster::named("idc");
    let places = [("east", free()), ("west", free()), ("north", free())];
    let begin = |own: usize| {
        let others = places.iter().enumerate().filter(|(index, _)| *index != own);
        let peers: Vec<String> = others
            .map(|(_, (site, at))| {
                format!("{{ site: {site}, url: \"https://{at}\", token_file: token, ca: ca.pem }}")
            })
            .collect();
        let (site, at) = places[own];
        // Off loopback, so that reads need the token.
        let admin = format!(
            "{{ address: \"0.0.0.0:{}\", token_file: token, tls: {{ cert: a.pem, key: a.key }} }}",
            at.port()
        );
        let fleet = format!("peers: [{}]", peers.join(", "));
        start(&folder, site, &admin, &fleet, cluster.address)
    };
    let read = |own: usize, path: &str| -> Option<Value> {
        let url = format!("https://a.example/api/v1/{path}");
        let fields = ["-H", "host: 127.0.0.1", "-H", "authorization: Bearer secret"];
        let arguments = [&[url.as_str()][..], &fields].concat();
        serde_json::from_str(&curl(&folder, places[own].1, "a.example", &arguments).0).ok()
    };
    let show = |own: usize| read(own, "fleet");
    let mut proxies: Vec<Option<Process>> = (0..3).map(|own| Some(begin(own))).collect();
    for (own, expected) in
        [["north", "west"], ["east", "north"], ["east", "west"]].iter().enumerate()
    {
        eventually(&format!("{own} sees {expected:?}"), || live(show(own)) == *expected);
    }
    let fleet = show(0).unwrap();
    assert_eq!(fleet["site"], "east");
    assert_eq!(fleet["members"].as_array().unwrap().len(), 3, "{fleet}");
    assert_eq!(site(&fleet, "west")["members"], 1, "{fleet}");

    proxies[1] = None;
    eventually("it goes stale", || live(show(0)) == ["north"]);
    let fleet = show(0).unwrap();
    let west = site(&fleet, "west");
    assert!(
        west["age_s"].as_f64().unwrap() > 6.0 && west["members"] == 1,
        "it stays, with its age: {west}"
    );
    proxies[1] = Some(begin(1));
    eventually("it returns", || live(show(0)) == ["north", "west"]);
    let refused = &read(0, "status").unwrap()["admin_refused"];
    assert_eq!(refused["fleet_requests"], 0, "no honest peer is early: {refused}");
    drop(proxies);
}

#[test]
fn a_fleet_token_permits_the_report_and_nothing_else() {
    let folder = Folder::new();
    folder.write("token", "secret\n");
    folder.write("fleet-token", "only reports\n");
    let cluster = Cluster::named("idc");
    let places = [("east", free()), ("west", free())];
    let begin = |own: usize| {
        // Off loopback, so that reads need a token, too. The other proxy is asked with the fleet token.
        let admin = format!(
            "{{ address: \"0.0.0.0:{}\", token_file: token, insecure: true }}",
            places[own].1.port()
        );
        let (site, at) = places[1 - own];
        let peer = format!("{{ site: {site}, url: \"http://{at}\", token_file: fleet-token }}");
        let fleet = format!("peers: [{peer}], token_file: fleet-token");
        start(&folder, places[own].0, &admin, &fleet, cluster.address)
    };
    let proxies = [begin(0), begin(1)];
    let admin = places[0].1;
    let ask = |request: &str, token: &str| {
        let fields = format!("host: localhost\r\nauthorization: Bearer {token}\r\n");
        let end = "connection: close\r\ncontent-length: 0\r\n\r\n";
        ask_raw(admin, format!("{request} HTTP/1.1\r\n{fields}{end}").as_bytes())
    };
    let sees = || -> Option<Value> {
        std::net::TcpStream::connect(admin).ok()?;
        serde_json::from_str(&ask("GET /api/v1/fleet", "secret").body).ok()
    };
    eventually("the conversation is permitted", || live(sees()) == ["west"]);
    let report = "GET /api/v1/fleet/report";
    for (request, token, status) in [
        (report, "only reports", 200),
        (report, "secret", 200),
        (report, "wrong", 401),
        (report, "", 401),
        ("HEAD /api/v1/fleet/report", "only reports", 401),
        ("POST /api/v1/fleet/report", "only reports", 401),
        ("GET /api/v1/fleet/report/", "only reports", 404),
        ("GET /api/v1/fleet", "only reports", 401),
        ("GET /api/v1/config", "only reports", 401),
        ("GET /api/v1/status", "only reports", 401),
        ("GET /api", "only reports", 401),
        ("GET /", "only reports", 401),
        ("POST /api/v1/token", "only reports", 401),
        ("POST /api/v1/reload", "only reports", 401),
        ("POST /api/v1/clusters/at-east/drain", "only reports", 401),
        ("PUT /api/v1/clusters/at-east/dial", "only reports", 401),
        ("POST /api/v1/token", "secret", 204),
    ] {
        assert_eq!(ask(request, token).status, status, "{request} with `{token}`");
    }
    drop(proxies);
}

/// Two proxies of two sites, each connected to the other through its own relay.
#[test]
fn a_cut_is_seen_by_those_who_hear_nothing_and_heals_by_itself() {
    let folder = Folder::new();
    let cluster = Cluster::named("idc");
    let places = [("east", free()), ("west", free())];
    let relays = [Relay::before(places[1].1), Relay::before(places[0].1)];
    let proxies: Vec<Process> = (0..2)
        .map(|own| {
            let (admin, peer) = (places[own].1, places[1 - own].0);
            let peers = format!("peers: [{{ site: {peer}, url: \"http://{}\" }}]", relays[own].at);
            start(
                &folder,
                places[own].0,
                &format!("{{ address: \"{admin}\" }}"),
                &peers,
                cluster.address,
            )
        })
        .collect();
    let sees = |own: usize| !live(ask(places[own].1)).is_empty();
    let both = |what: &str, expected: [bool; 2]| {
        eventually(what, || [sees(0), sees(1)] == expected);
    };
    both("they meet", [true, true]);
    // One direction of requests and reports.
    relays[0].set(Fault::Blackhole);
    both("one hears nothing", [false, true]);
    relays[1].set(Fault::Blackhole);
    both("cut in two", [false, false]);
    for at in [places[0].1, places[1].1] {
        assert_eq!(get_local(at, "/readyz").status, 200, "and serves on");
    }
    relays[0].set(Fault::None);
    relays[1].set(Fault::None);
    both("they meet again", [true, true]);
    // Slow, but within the deadline of a report: the age shows the delay.
    relays[0].set(Fault::Latency(Duration::from_millis(300)));
    eventually("the age is that of the question", || {
        let fleet = ask(places[0].1).unwrap();
        let west = site(&fleet, "west");
        west["live"] == true && west["age_s"].as_f64().unwrap() >= 0.6
    });
    relays[0].set(Fault::Latency(Duration::from_millis(1_200)));
    both("too slow an answer is none", [false, true]);
    relays[0].set(Fault::None);
    both("quick again", [true, true]);
    drop(proxies);
}

/// Requests that the cluster never answers.
pub fn hold(web: SocketAddr, count: usize) -> Vec<std::net::TcpStream> {
    let send = |_| {
        let mut stream = connect(web);
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
        stream
    };
    (0..count).map(send).collect()
}

#[test]
fn a_shared_ceiling_is_divided_lent_and_held_by_whoever_is_left_alone() {
    let folder = Folder::new();
    let cluster = Cluster::scripted(|mut connection| while connection.take(1).is_some() {});
    let admins = [free(), free()];
    let web = [free(), free()];
    let start = |own: usize| {
        let text = format!(
            "site: {{ name: east }}\nadmin: {{ address: \"{}\" }}\n\
             fleet: {{ peers: [{{ site: east, url: \"http://{}\" }}, {{ site: east, url: \"http://{}\" }}] }}\n\
             listeners: {{ web: {{ address: \"{}\", protocol: http, service: shop }} }}\n\
             services: {{ shop: {{ clusters: [idc], timeout: 60s }} }}\n\
             clusters: {{ idc: {{ endpoints: [\"{}\"], capacity: {{ concurrent: 16, shared_by: fleet }} }} }}\n",
            admins[own], admins[0], admins[1], web[own], cluster.address
        );
        let file = folder.write(&format!("{own}.yaml"), &text);
        Process::proxy(&file)
    };
    let view = |own: usize| -> Option<Value> {
        std::net::TcpStream::connect(admins[own]).ok()?;
        serde_json::from_str(&get_local(admins[own], "/api/v1/clusters/idc").body).ok()
    };
    let ceiling = |own: usize| view(own).and_then(|view| view["ceiling"].as_u64());
    let mut proxies = [Some(start(0)), Some(start(1))];
    // The proxy's own address is listed too, and not counted twice. A part is eight; half of it may have been lent
    // before the start.
    eventually("half a part", || [ceiling(0), ceiling(1)] == [Some(4), Some(4)]);
    eventually("a part", || [ceiling(0), ceiling(1)] == [Some(8), Some(8)]);
    let held = hold(web[0], 16);
    eventually("one borrows, the other lends", || [ceiling(0), ceiling(1)] == [Some(12), Some(4)]);
    eventually("they are sent", || view(0).unwrap()["in_flight"] == 12);
    proxies[1] = None;
    eventually("a part, once the loan has run out", || ceiling(0) == Some(8));
    drop((held, proxies));
}

#[test]
fn proxies_of_a_site_with_few_requests_tell_each_other_response_times() {
    let folder = Folder::new();
    let cluster = Cluster::named("idc");
    let (admins, webs) = ([free(), free()], [free(), free()]);
    let start = |own: usize| {
        let text = format!(
            "site: {{ name: east }}\nadmin: {{ address: \"{}\" }}\n\
             fleet: {{ peers: [{{ site: east, url: \"http://{}\" }}] }}\n\
             listeners: {{ web: {{ address: \"{}\", protocol: http, service: shop }} }}\n\
             services: {{ shop: {{ clusters: [idc] }} }}\n\
             clusters: {{ idc: {{ endpoints: [\"{}\"] }} }}\n",
            admins[own],
            admins[1 - own],
            webs[own],
            cluster.address
        );
        Process::proxy(&folder.write(&format!("{own}.yaml"), &text))
    };
    let _proxies = [start(0), start(1)];
    let told = |own: usize| ask(admins[own]).map_or(0, |fleet| fleet["samples"].as_u64().unwrap());
    for web in webs {
        eventually("it serves", || std::net::TcpStream::connect(web).is_ok());
        eventually("it serves", || get(web, "/").status == 200);
    }
    let mut sent = 0;
    within(2 * PATIENCE, "the other proxy's response times", || {
        assert_eq!(get(webs[0], "/").status, 200);
        sent += 1;
        std::thread::park_timeout(Duration::from_millis(150));
        told(1) >= 10
    });
    assert!(told(1) <= sent + 1, "{} of {sent}", told(1));
    let metrics = get_local(admins[1], "/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with("tidegate_fleet_samples_total "));
    let count: f64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
    assert!(count >= 10.0, "{line:?}");

    let before = told(1);
    let mut client = Keeping::new(webs[0]);
    (0..400).for_each(|_| assert_eq!(client.get("/").status, 200));
    std::thread::park_timeout(Duration::from_secs(2));
    assert!(told(1) - before <= 40, "with enough of its own, it tells few: {}", told(1) - before);
}

/// Sends requests to each proxy as fast as it answers, for so long; returns those that passed, over all, and the time.
fn flood(webs: &[SocketAddr], span: Duration) -> (usize, Duration) {
    let begun = std::time::Instant::now();
    let one = |web: SocketAddr| {
        std::thread::spawn(move || {
            let mut client = Keeping::new(web);
            let mut passed = 0;
            while begun.elapsed() < span {
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                let answer = client.answer();
                assert!([200, 429].contains(&answer.status), "{}", answer.status);
                passed += usize::from(answer.status == 200);
            }
            passed
        })
    };
    let clients: Vec<_> = webs.iter().map(|web| one(*web)).collect();
    let passed = clients.into_iter().map(|client| client.join().unwrap()).sum();
    (passed, begun.elapsed())
}

#[test]
fn three_proxies_divide_a_limit_and_two_take_over_the_part_of_a_dead_one() {
    let folder = Folder::new();
    let cluster = Cluster::scripted(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/hold") {
                while connection.take(1).is_some() {}
                return;
            }
            connection.reply("a");
        }
    });
    let (admins, webs) = ([free(), free(), free()], [free(), free(), free()]);
    let peers = admins.map(|admin| format!("{{ site: east, url: \"http://{admin}\" }}")).join(", ");
    let start = |own: usize| {
        let text = format!(
            "site: {{ name: east }}\nadmin: {{ address: \"{}\" }}\naccess_log: {{ format: off }}\n\
             fleet: {{ peers: [{peers}] }}\n\
             listeners: {{ web: {{ address: \"{}\", protocol: http, service: shop }} }}\n\
             services: {{ shop: {{ clusters: [idc], timeout: 60s, concurrency: 6, concurrency_scope: site,\n  \
               rate_limit: {{ requests: 90, per: 1s, burst: 30, key: all, scope: site }} }} }}\n\
             clusters: {{ idc: {{ endpoints: [\"{}\"] }} }}\n",
            admins[own], webs[own], cluster.address
        );
        Process::proxy(&folder.write(&format!("{own}.yaml"), &text))
    };
    let parts = |own: usize| ask(admins[own]).and_then(|fleet| fleet["limit_parts"].as_u64());
    let in_flight = |own: usize| {
        let of = get_local(admins[own], "/api/v1/clusters/idc").body;
        serde_json::from_str::<Value>(&of).unwrap()["in_flight"].as_u64().unwrap()
    };
    let mut proxies: Vec<Option<Process>> = (0..3).map(|own| Some(start(own))).collect();
    // Alone at its start, none of them has more than a third.
    for own in 0..3 {
        eventually("it runs", || parts(own).is_some());
        assert!(parts(own) >= Some(3), "{own}: {:?}", parts(own));
    }
    eventually("all hear each other", || (0..3).all(|own| parts(own) == Some(3)));

    let (passed, time) = flood(&webs, Duration::from_secs(4));
    let most = 30.0 + 90.0 * time.as_secs_f64();
    assert!(passed as f64 <= most + 3.0, "{passed} in {time:?}");
    assert!(passed as f64 >= 0.85 * 90.0 * time.as_secs_f64(), "{passed} in {time:?}");

    // A burst after a second; two of six exchanges at once for each proxy.
    let held: Vec<_> = (0..3)
        .map(|own| {
            eventually("its bucket has tokens", || get(webs[own], "/").status == 200);
            std::thread::park_timeout(Duration::from_secs(1));
            (0..5)
                .map(|_| {
                    let mut client = Keeping::new(webs[own]);
                    client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
                    client
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for (own, web) in webs.iter().enumerate() {
        eventually("two are sent", || in_flight(own) == 2);
        assert_eq!(get(*web, "/").status, 503);
    }
    drop(held);
    eventually("they have ended", || (0..3).all(|own| in_flight(own) == 0));

    proxies[2] = None;
    eventually("the others take its part over", || parts(0) == Some(2) && parts(1) == Some(2));
    let (passed, time) = flood(&webs[..2], Duration::from_secs(4));
    let most = 30.0 + 90.0 * time.as_secs_f64();
    assert!(passed as f64 <= most + 3.0, "{passed} in {time:?}");
    assert!(passed as f64 >= 0.85 * 90.0 * time.as_secs_f64(), "{passed} in {time:?}");

    // The last one may be cut off: it has a third again.
    proxies[1] = None;
    eventually("the last one has its part", || parts(0) == Some(3));
    let (passed, time) = flood(&webs[..1], Duration::from_secs(2));
    assert!(passed as f64 <= 15.0 + 30.0 * time.as_secs_f64() + 3.0, "{passed} in {time:?}");
    drop(proxies);
}

pub fn get_local(at: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    ask_raw(at, request.as_bytes())
}

/// A peer that upgrades the connection and then runs its script.
fn forged(
    name: &'static str,
    site: &'static str,
    script: impl Fn(&mut Connection) + Send + Sync + 'static,
) -> Cluster {
    Cluster::scripted(move |mut connection| {
        if connection.head().is_some() {
            let by = format!(r#"{{"s":"{site}","n":7,"i":"{name}:1"}}"#);
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: tidegate-fleet\r\ntidegate-fleet: ";
            connection.send(format!("{head}{by}\r\n\r\n").as_bytes());
            script(&mut connection);
        }
    })
}

/// A peer that answers each request with the next of these lines, and then always with the last.
fn saying(name: &'static str, site: &'static str, lines: Vec<String>) -> Cluster {
    forged(name, site, move |connection| {
        for line in lines.iter().chain(std::iter::repeat(&lines[lines.len() - 1])) {
            if connection.take(1).is_none() {
                return;
            }
            connection.send(format!("{line}\n").as_bytes());
        }
    })
}

/// A report with this row of a cluster.
fn line(sequence: u64, cluster: &str, row: &str) -> String {
    format!(r#"{{"q":{sequence},"c":{{"{cluster}":{row}}}}}"#)
}

/// Peers that each violate one rule, by the reason of the refusal.
fn liars() -> Vec<(&'static str, Cluster)> {
    let rows: Vec<String> = (0..600).map(|number| format!("\"c{number}\":[0,1]")).collect();
    let many = format!(r#"{{"q":1,"c":{{{}}}}}"#, rows.join(","));
    let endless = |connection: &mut Connection| {
        drop(connection.take(1));
        (0..64).for_each(|_| connection.send(&[b'x'; 4_096]));
    };
    let flood = |connection: &mut Connection| {
        drop(connection.take(1));
        connection.send(format!("{}\n", line(1, "a", "[]")).repeat(500).as_bytes());
    };
    let here = "there";
    vec![
        ("timeout", forged("t", here, |connection| while connection.take(1).is_some() {})),
        ("oversize", forged("o", here, endless)),
        ("unasked", forged("u", here, flood)),
        ("malformed", saying("m", here, vec![line(1, "a", "[0,1e999]")])),
        ("site", saying("s", "elsewhere", vec![line(1, "a", "[0,1]")])),
        ("value", saying("v", here, vec![line(1, "a", "[0,-5]")])),
        ("value", saying("p", here, vec![r#"{"q":1,"p":{"shop":{"idc":"none"}}}"#.to_owned()])),
        ("name", saying("n", here, vec![line(1, "<img src=x>", "[0,5]")])),
        ("too_many", saying("f", here, vec![many])),
        ("stale", saying("replay", here, vec![line(9, "a", "[]"), line(8, "a", "[]")])),
    ]
}

#[test]
fn peers_that_lie_flood_or_fall_silent_are_refused_counted_and_change_nothing() {
    let peers = liars();
    let honest = (1..60).map(|sequence| line(sequence, "a", "[0,5,50]")).collect();
    let honest = saying("honest", "there", honest);
    let all = peers.iter().map(|(_, peer)| peer).chain([&honest]);
    // As members of the proxy's own site, all of them are requested.
    let listed: Vec<String> =
        all.map(|peer| format!("{{ site: there, url: \"http://{}\" }}", peer.address)).collect();
    let idc = Cluster::named("idc");
    let text = config(&[("idc", "idc", idc.address)]);
    let proxy = Proxy::start(&format!(
        "site: {{ name: there }}\nfleet: {{ peers: [{}] }}\n{text}",
        listed.join(", ")
    ));
    for (reason, _) in &peers {
        let metric = format!("tidegate_fleet_refused_total{{reason=\"{reason}\"}}");
        eventually(reason, || proxy.metric(&metric) >= 1.0);
    }
    let member = |name: &str| {
        let fleet = proxy.json("/api/v1/fleet");
        let members = fleet["members"].as_array().unwrap();
        members.iter().find(|member| member["instance"] == name).cloned().unwrap_or_default()
    };
    eventually("the honest one is heard", || member("honest:1")["state"] == "live");
    eventually("a replay makes nobody younger", || {
        let replayed = member("replay:1");
        replayed["state"] == "silent" && replayed["age_s"].as_f64().unwrap() > 3.0
    });
    let fleet = proxy.json("/api/v1/fleet");
    let own = &fleet["sites"][0];
    let names: Vec<&str> =
        own["clusters"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!((names, own["members"].as_u64()), (vec!["a"], Some(2)), "the honest one's: {own}");
    assert_eq!(get(proxy.at("web"), "/").body, "idc", "requests do not notice");
    assert!(proxy.resident_mib() < 300, "{} MiB", proxy.resident_mib());
}

#[test]
fn questions_are_answered_within_bounds_and_the_admin_api_stays_free() {
    let idc = Cluster::named("idc");
    let proxy = Proxy::start(&config(&[("idc", "idc", idc.address)]));
    let told: Value = proxy.json("/api/v1/fleet/report");
    assert_eq!(told["i"], proxy.json("/api/v1/fleet")["instance"]);
    let enter = || {
        let mut stream = connect(proxy.admin);
        let request = b"GET /api/v1/fleet/report HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: tidegate-fleet\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 1];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "the head has an end");
            head.push(byte[0]);
        }
        (parse(&head).status, stream)
    };
    // A flood of requests is answered at a limited rate.
    let (status, mut stream) = enter();
    assert_eq!(status, 101);
    std::io::Write::write_all(&mut stream, &[b'm'; 1_000]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut heard = Vec::new();
    let mut space = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut space) {
        heard.extend_from_slice(&space[..count]);
        if heard.iter().filter(|byte| **byte == b'\n').count() >= 5 {
            break;
        }
    }
    let answers = heard.iter().filter(|byte| **byte == b'\n').count();
    assert!((5..=8).contains(&answers), "{answers} answers at once");
    let counted = |reason: &str| {
        proxy.metric(&format!("tidegate_admin_refused_total{{reason=\"{reason}\"}}"))
    };
    assert!(counted("fleet_requests") >= 4.0, "{}", counted("fleet_requests"));
    // More connections than the limit: the last ones are refused, and all others are served.
    let open: Vec<_> = (0..260).map(|_| enter()).collect();
    let refused = open.iter().filter(|(status, _)| *status == 503).count();
    assert_eq!(refused, 260 - 255);
    assert_eq!(counted("fleet_connections"), 5.0);
    assert_eq!(proxy.get("/livez").status, 200);
    drop(open);
    eventually("there is room again", || enter().0 == 101);
    // An unknown request ends the connection.
    let (_, mut stream) = enter();
    std::io::Write::write_all(&mut stream, b"?").unwrap();
    assert_eq!(stream.read(&mut space).unwrap(), 0);
}
