//! Network faults of an endpoint: dropped bytes, resets, delays, slow, truncated and corrupted responses.

use super::fault::{Fault, Relay};
use super::load::{Answers, Load};
use super::support::{Proxy, eventually};
use super::{Form, Line, cluster, config_at, ejected, endpoints, errors, time};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Three endpoints, the first behind a relay, and a proxy before them.
struct Rig {
    relay: Relay,
    proxy: Proxy,
    _idc: Vec<cluster::Process>,
    _cloud: Vec<cluster::Process>,
}

impl Rig {
    fn start() -> Rig {
        Rig::with("")
    }

    /// With additional configuration in each cluster.
    fn with(more: &str) -> Rig {
        let (idc, cloud) = (endpoints("idc", 3), endpoints("cloud", 1));
        let relay = Relay::before(idc[0].address);
        let mut near: Vec<SocketAddr> = idc.iter().map(|process| process.address).collect();
        near[0] = relay.at;
        let far: Vec<SocketAddr> = cloud.iter().map(|process| process.address).collect();
        // Round robin: with least wait the relayed endpoint would be avoided, because the relay adds latency.
        let in_turn = "clusters: [idc, cloud], endpoint_policy: round_robin";
        let text = config_at(&near, &far).replace("clusters: [idc, cloud]", in_turn);
        let text = text.replace("probe: {", &format!("{more}probe: {{"));
        let proxy = Proxy::start(&text);
        Rig { relay, proxy, _idc: idc, _cloud: cloud }
    }

    fn out_after(&self) -> Duration {
        ejected(&self.proxy, &self.relay.at.to_string())
    }

    fn is_back(&self) {
        let address = self.relay.at.to_string();
        eventually("it is back", || {
            let idc = self.proxy.cluster("idc");
            let all = idc["endpoints"].as_array().unwrap();
            all.iter().any(|known| known["address"] == address && known["state"] == "up")
        });
    }
}

/// An endpoint that drops all bytes, detected by traffic and by probes.
pub(super) fn blackholed(form: Form) -> Vec<Line> {
    let rig = Rig::start();
    let load = Load::start(rig.proxy.at("web"), form.rate);
    load.warm_up();
    rig.relay.set(Fault::Blackhole);
    let out = rig.out_after();
    load.observe(Duration::from_secs(3));
    let answers = load.stop();
    let slowest = answers.slowest;
    let mut lines = vec![
        errors("blackhole of an endpoint", &answers, 0.0, "0"),
        time(form, "blackhole: out of use, under traffic", out, Duration::from_secs(1), "<= 1 s"),
        time(
            form,
            "blackhole: slowest request in flight",
            slowest,
            Duration::from_millis(1_600),
            "<= 1.6 s",
        ),
    ];
    rig.relay.set(Fault::None);
    rig.is_back();
    rig.relay.set(Fault::Blackhole);
    let most = Duration::from_millis(1_600);
    lines.push(time(
        form,
        "blackhole: out of use, by probes alone",
        rig.out_after(),
        most,
        "<= 1.6 s",
    ));
    lines
}

/// An endpoint whose listen backlog is full: new connections fail, open ones continue.
pub(super) fn unaccepting(form: Form) -> Vec<Line> {
    // With a PROXY header each exchange has a connection of its own.
    let rig = Rig::with("send_proxy_protocol: v1, ");
    let load = Load::start(rig.proxy.at("web"), form.rate);
    load.warm_up();
    rig.relay.set(Fault::NoAccept);
    load.observe(Duration::from_secs(3));
    let answers = load.stop();
    let slowest = answers.slowest;
    vec![
        errors("an endpoint that accepts no connection", &answers, 0.0, "0"),
        time(
            form,
            "it accepts none: slowest request",
            slowest,
            Duration::from_millis(350),
            "<= 250 ms more",
        ),
    ]
}

/// Endpoints that reset, refuse, delay and drip: clients must not see an error.
pub(super) fn unwell(form: Form) -> Vec<Line> {
    let rig = Rig::start();
    let mut lines = Vec::new();
    for (what, fault) in [
        ("an endpoint that resets", Fault::Reset),
        ("an endpoint that refuses", Fault::Refuse),
        ("an endpoint 300 ms away", Fault::Latency(Duration::from_millis(150))),
        (
            "an endpoint whose answers drip",
            Fault::Drip { bytes: 7, every: Duration::from_millis(30) },
        ),
    ] {
        rig.is_back();
        let load = Load::start(rig.proxy.at("web"), form.rate.min(500));
        load.warm_up();
        rig.relay.set(fault);
        load.observe(Duration::from_secs(2));
        let answers = load.stop();
        rig.relay.set(Fault::None);
        lines.push(errors(what, &answers, 0.0, "0"));
    }
    lines
}

/// Endpoints that truncate or corrupt responses: a response that has begun cannot be retried; it must be visibly
/// incomplete, and it must end.
pub(super) fn lying(form: Form) -> Vec<Line> {
    let rig = Rig::start();
    let mut lines = Vec::new();
    for (what, fault) in [
        ("answers cut after 20 bytes", Fault::Truncate { after: 20 }),
        ("answers cut by a reset", Fault::TruncateReset { after: 20 }),
        ("answers that are garbage", Fault::Garbage),
    ] {
        rig.is_back();
        let load = Load::start(rig.proxy.at("web"), form.rate.min(500));
        load.warm_up();
        rig.relay.set(fault);
        rig.out_after();
        // Requests in flight when the fault is detected.
        load.observe(Duration::from_millis(300));
        let found_out = load.take();
        load.observe(Duration::from_millis(500));
        let after = load.stop();
        rig.relay.set(Fault::None);
        lines.push(Line {
            what: format!("{what}: errors until it is found out"),
            figure: format!("{} of {}", found_out.errors.len(), found_out.count),
            gate: "<= 40",
            kept: found_out.errors.len() <= 40,
        });
        lines.push(errors(&format!("{what}: thereafter"), &after, 0.0, "0"));
    }
    lines
}

/// Every endpoint of every cluster answers 503.
pub(super) fn overloaded(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("503", 2), endpoints("503", 2));
    let addresses = |all: &[cluster::Process]| all.iter().map(|p| p.address).collect::<Vec<_>>();
    let proxy = Proxy::start(&config_at(&addresses(&idc), &addresses(&cloud)));
    let load = Load::start(proxy.at("web"), form.rate.min(500));
    load.observe(Duration::from_secs(4));
    let answers = load.stop();
    let retries = proxy.metric("tidegate_retries_total{service=\"shop\",result=\"granted\"}");
    let factor = 1.0 + retries / answers.count.max(1) as f64;
    vec![Line {
        what: "attempts a request when all answer 503".to_owned(),
        figure: format!("{factor:.3} of {}", answers.count),
        gate: "<= 1.2",
        // The retry budget grants three a second, a fifth of the requests, and the initial ones.
        kept: answers.count > 100 && factor <= 1.2 + 20.0 / answers.count as f64,
    }]
}

/// All descriptors are used up by clients that do nothing.
pub(super) fn exhausted(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 1), endpoints("cloud", 1));
    let text = config_at(&[idc[0].address], &[cloud[0].address]);
    let proxy = Proxy::start_with(&text, &[("DESCRIPTORS", "256")]);
    let web = proxy.at("web");
    let idle: Vec<_> = (0..400).filter_map(|_| TcpStream::connect(web).ok()).collect();
    eventually("descriptors are scarce", || {
        proxy.metric("tidegate_resource_used_ratio{resource=\"descriptors\"}") >= 0.94
    });
    let before = proxy.cpu();
    let since = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let busy = (proxy.cpu() - before).as_secs_f64() / since.elapsed().as_secs_f64();
    let alive = proxy.get("/readyz").status == 200;
    drop(idle);
    let since = Instant::now();
    eventually("it serves again", || super::support::get(web, "/").status == 200);
    let back = since.elapsed();
    vec![
        Line {
            what: "descriptors used up: CPU".to_owned(),
            figure: format!("{:.1} %", busy * 100.0),
            gate: "<= 5 %",
            kept: busy <= 0.05 || !form.times,
        },
        Line {
            what: "descriptors used up: the admin API answers".to_owned(),
            figure: alive.to_string(),
            gate: "true",
            kept: alive,
        },
        time(
            form,
            "descriptors used up: served again after",
            back,
            Duration::from_millis(100),
            "<= 100 ms",
        ),
    ]
}

/// Clients that send one byte from time to time.
struct Slow(Vec<TcpStream>);

impl Slow {
    fn connect(to: SocketAddr, count: usize) -> Slow {
        let client = |number: usize| {
            let mut client = TcpStream::connect(to).unwrap();
            // A third each: part of a head; a request and then part of another head; nothing.
            let begin: &[u8] = match number % 3 {
                0 => b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
                1 => b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX-Slow: ",
                _ => b"",
            };
            client.write_all(begin).unwrap();
            client
        };
        Slow((0..count).map(client).collect())
    }

    /// Sends one byte for each client every 300 ms, spread over time: otherwise this program's own load would be
    /// measured.
    fn drip(&mut self, span: Duration) {
        let (since, mut round) = (Instant::now(), 0);
        while since.elapsed() < span {
            round += 1;
            for client in self.0.iter_mut().skip(round % 300).step_by(300) {
                drop(client.write(b"x"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Slow clients together with ordinary ones; and for comparison the same slow clients at another proxy, which shows
/// the effect of the machine itself.
pub(super) fn slow_clients(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 2), endpoints("cloud", 1));
    let addresses = |all: &[cluster::Process]| all.iter().map(|p| p.address).collect::<Vec<_>>();
    let slow = "service: shop, timeouts: { head: 60s, first_byte: 60s, body_idle: 60s }";
    let text = || config_at(&addresses(&idc), &addresses(&cloud)).replace("service: shop", slow);
    let (proxy, other) = (Proxy::start(&text()), Proxy::start(&text()));
    let load = Load::start(proxy.at("web"), form.rate.min(500));
    load.warm_up();
    // As many as this machine's descriptors allow; 10,000 if the limit is 28,000 or more.
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let descriptors =
        usize::try_from(descriptors.unwrap_or(u64::MAX)).unwrap_or(usize::MAX) / 100 * 36;
    let count = if form.times { descriptors.min(10_000) } else { 500 };
    let (span, rounds) = (Duration::from_secs(2), if form.times { 5 } else { 1 });
    let beside = |to: SocketAddr| {
        let mut slow = Slow::connect(to, count);
        load.take();
        slow.drip(span);
        let figures =
            (proxy.resident_mib(), proxy.metric("tidegate_connections{listener=\"web\"}"));
        (load.take(), figures)
    };
    // Alternating: on few cores the load of other processes varies.
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        pairs.push((beside(other.at("web")).0, beside(proxy.at("web"))));
    }
    let times = |(control, (answers, _)): &(Answers, (Answers, (u64, f64)))| {
        answers.p99().as_secs_f64() / control.p99().as_secs_f64()
    };
    pairs.sort_by(|one, two| times(one).total_cmp(&times(two)));
    let median = &pairs[pairs.len() / 2];
    let (control, (answers, (resident, open))) = median;
    let times = times(median);
    vec![
        errors(&format!("{count} slow clients, {open} open"), answers, 0.0, "0"),
        Line {
            what: format!("{count} slow clients: memory"),
            figure: format!("{resident} MiB"),
            gate: "<= 150 MiB",
            kept: *resident <= 150,
        },
        Line {
            what: format!("{count} slow clients: p99 of others, against the same at another proxy"),
            figure: format!(
                "{:.1?} to {:.1?}: {times:.2}, median of {rounds}",
                answers.p99(),
                control.p99()
            ),
            gate: "<= 1.5",
            kept: times <= 1.5 || !form.times,
        },
    ]
}
