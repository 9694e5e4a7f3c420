//! Chaos tests: the errors caused by outages, reloads and upgrades under load, with real processes that are killed.
//!
//! `make chaos` runs the long form against a release build and also gates times; `make test` runs the short form, which
//! gates errors alone, because a slow machine does not change them.
//!
//! Errors are judged after a number of requests, not after a time ([`Load::observe`]). No test waits for a state by
//! sleeping.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test, and it shares its support")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, reads the clock, and prints its figures"
)]

mod cluster;
mod fault;
mod faults;
mod load;
mod soak;
#[path = "../e2e/support.rs"]
mod support;

use cluster::Process;
use load::{Answers, Load};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::{Proxy, eventually, whole, within};

/// A figure, and whether it meets its gate.
struct Line {
    what: String,
    figure: String,
    gate: &'static str,
    kept: bool,
}

/// Runs a scenario; returns its figures.
type Scenario = fn(Form) -> Vec<Line>;

/// The length of the scenarios, and whether times are gated.
#[derive(Clone, Copy)]
struct Form {
    rate: u32,
    reloads: u32,
    upgrades: usize,
    times: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name] = arguments.as_slice()
        && word == "cluster"
    {
        cluster::serve(name);
    }
    // A test runner that lists tests gets a single entry.
    if arguments.iter().any(|argument| argument == "--list") {
        println!("chaos: test");
        return ExitCode::SUCCESS;
    }
    let long = std::env::var_os("CHAOS_LONG").is_some();
    let form = match long {
        true => Form { rate: 2_000, reloads: 1_000, upgrades: 50, times: true },
        false => Form { rate: 300, reloads: 40, upgrades: 4, times: false },
    };
    let only = std::env::var("CHAOS_ONLY").unwrap_or_default();
    let scenarios: [(&str, Scenario); 13] = [
        ("killed", killed),
        ("stopped", stopped),
        ("frozen", frozen),
        ("cloud_lost", cloud_lost),
        ("blackholed", faults::blackholed),
        ("unaccepting", faults::unaccepting),
        ("unwell", faults::unwell),
        ("lying", faults::lying),
        ("overloaded", faults::overloaded),
        ("exhausted", faults::exhausted),
        ("slow_clients", faults::slow_clients),
        ("reloads", reloads),
        ("upgrades", upgrades),
    ];
    let chosen = scenarios.iter().filter(|(name, _)| only.is_empty() || only.contains(name));
    let lines = match std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()) {
        Some(seconds) => soak::soak(Duration::from_secs(seconds)),
        None => chosen.flat_map(|(_, scenario)| scenario(form)).collect::<Vec<Line>>(),
    };
    println!("| what | figure | gate | |\n|---|---|---|---|");
    let mut kept = true;
    for line in &lines {
        let verdict = if line.kept { "kept" } else { "MISSED" };
        println!("| {} | {} | {} | {verdict} |", line.what, line.figure, line.gate);
        kept &= line.kept;
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Endpoints of a cluster, as processes of this program.
fn endpoints(name: &str, count: usize) -> Vec<Process> {
    (0..count).map(|_| Process::start(name)).collect()
}

fn config(idc: &[Process], cloud: &[Process]) -> String {
    let addresses = |all: &[Process]| all.iter().map(|p| p.address).collect::<Vec<_>>();
    config_at(&addresses(idc), &addresses(cloud))
}

fn config_at(idc: &[SocketAddr], cloud: &[SocketAddr]) -> String {
    let list = |all: &[SocketAddr]| {
        all.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
    };
    let web = cluster::free();
    let probe = "probe: { kind: http, path: /healthz, interval: 200ms, timeout: 150ms }";
    format!(
        "access_log: {{ format: \"off\" }}\ndrain: {{ deadline: 5s }}\n\
         listeners: {{ web: {{ address: {web}, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc, cloud] }} }}\n\
         clusters:\n  idc: {{ kind: idc, endpoints: [{}], {probe} }}\n  \
           cloud: {{ kind: cloud, endpoints: [{}], {probe} }}\n",
        list(idc),
        list(cloud)
    )
}

/// The time from now until an endpoint is ejected.
fn ejected(proxy: &Proxy, address: &str) -> Duration {
    let since = Instant::now();
    eventually("it is out of use", || {
        let idc = proxy.cluster("idc");
        let endpoints = idc["endpoints"].as_array().unwrap();
        let known = endpoints.iter().find(|endpoint| endpoint["address"] == address);
        known.is_none_or(|endpoint| endpoint["state"] != "up")
    });
    since.elapsed()
}

fn errors(what: &str, answers: &Answers, most: f64, gate: &'static str) -> Line {
    let share = answers.errors.len() as f64 / answers.count.max(1) as f64;
    let first = answers.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Line {
        what: format!("{what}: errors"),
        figure: format!("{} of {}{first}", answers.errors.len(), answers.count),
        gate,
        kept: share <= most && answers.count > 0,
    }
}

fn time(form: Form, what: &str, figure: Duration, most: Duration, gate: &'static str) -> Line {
    Line {
        what: what.to_owned(),
        figure: format!("{figure:.0?}"),
        gate,
        kept: figure <= most || !form.times,
    }
}

/// One of three endpoints is killed.
fn killed(form: Form) -> Vec<Line> {
    let (mut idc, cloud) = (endpoints("idc", 3), endpoints("cloud", 1));
    let proxy = Proxy::start(&config(&idc, &cloud));
    let load = Load::start(proxy.at("web"), form.rate);
    load.warm_up();
    let address = idc[0].address.to_string();
    idc.remove(0).kill();
    let out = ejected(&proxy, &address);
    load.observe(Duration::from_secs(2));
    let answers = load.stop();
    vec![
        errors("kill -9 of an endpoint", &answers, 0.0, "0"),
        time(form, "kill -9: out of use after", out, Duration::from_millis(200), "<= 200 ms"),
    ]
}

/// One of three endpoints is stopped (SIGSTOP): its connections stay open and silent.
fn stopped(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 3), endpoints("cloud", 1));
    let proxy = Proxy::start(&config(&idc, &cloud));
    let load = Load::start(proxy.at("web"), form.rate);
    load.warm_up();
    idc[0].signal("STOP");
    let out = ejected(&proxy, &idc[0].address.to_string());
    load.observe(Duration::from_secs(3));
    let answers = load.stop();
    idc[0].signal("CONT");
    vec![
        errors("SIGSTOP of an endpoint", &answers, 0.0, "0"),
        time(form, "SIGSTOP: out of use after", out, Duration::from_millis(1_600), "<= 1.6 s"),
        time(
            form,
            "SIGSTOP: slowest request in flight",
            answers.slowest,
            Duration::from_millis(1_600),
            "<= 1.6 s",
        ),
    ]
}

/// Every endpoint of the nearest cluster is stopped: requests in flight are served by the other cluster.
fn frozen(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 5), endpoints("cloud", 1));
    // At the default probe interval, so that the endpoints are detected one after the other.
    let text = config(&idc, &cloud).replace(", interval: 200ms, timeout: 150ms", "");
    let proxy = Proxy::start(&text);
    let load = Load::start(proxy.at("web"), form.rate);
    load.warm_up();
    idc.iter().for_each(|endpoint| endpoint.signal("STOP"));
    load.observe(Duration::from_secs(4));
    let answers = load.take();
    idc.iter().for_each(|endpoint| endpoint.signal("CONT"));
    // Stalled requests complete and are counted now, after more than four seconds.
    load.observe(Duration::from_millis(500));
    let woken = load.stop();
    let slowest = answers.slowest.max(woken.slowest);
    let most = if form.times { 1_600 } else { 3_000 };
    vec![
        errors("SIGSTOP of a whole cluster", &answers, 0.0, "0"),
        Line {
            what: "SIGSTOP of a whole cluster: slowest request".to_owned(),
            figure: format!("{slowest:.1?}"),
            gate: "<= 1.6 s, 3 s in short",
            kept: slowest <= Duration::from_millis(most),
        },
    ]
}

/// Every endpoint of the nearest cluster is killed at once.
fn cloud_lost(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 3), endpoints("cloud", 3));
    let proxy = Proxy::start(&config(&idc, &cloud));
    let load = Load::start(proxy.at("web"), form.rate);
    load.warm_up();
    idc.into_iter().for_each(Process::kill);
    load.observe(Duration::from_secs(if form.times { 10 } else { 3 }));
    let answers = load.stop();
    // A request is retried once: a request that meets two kills is lost. With few requests, up to two may be lost.
    let few = 2.0 / answers.count.max(1) as f64;
    vec![errors("loss of a whole cluster", &answers, few.max(0.000_5), "<= 0.05 %, or 2")]
}

/// Valid, invalid, half-written, deleted and link-swapped configurations.
fn reloads(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 2), endpoints("cloud", 1));
    let text = config(&idc, &cloud);
    let proxy = Proxy::start(&text);
    let load = Load::start(proxy.at("web"), form.rate.min(500));
    load.warm_up();
    let path = proxy.config_path();
    let folder = path.parent().unwrap().to_owned();
    for number in 0..form.reloads {
        let fresh = whole(&format!("{text}# {number}\n"));
        match number % 20 {
            // A tenth each; the rest are plain edits.
            0 | 1 => std::fs::write(&path, "listeners: [what]\n").unwrap(),
            2 | 3 => std::fs::write(&path, &fresh[..fresh.len() / 2]).unwrap(),
            4 => drop(std::fs::remove_file(&path)),
            5 | 6 => {
                let target = folder.join(format!("version-{number}.yaml"));
                std::fs::write(&target, &fresh).unwrap();
                let link = folder.join("..link");
                symlink(&target, &link).unwrap();
                std::fs::rename(&link, &path).unwrap();
            }
            _ => {
                let new = folder.join("..new");
                std::fs::write(&new, &fresh).unwrap();
                std::fs::rename(&new, &path).unwrap();
            }
        }
        // A file must stay unchanged for a moment before it is loaded.
        std::thread::sleep(Duration::from_millis(220));
    }
    let last = folder.join("..last");
    std::fs::write(&last, whole(&text)).unwrap();
    std::fs::rename(&last, &path).unwrap();
    let count = proxy.metric("tidegate_config_reloads_total");
    let answers = load.stop();
    let mut lines = vec![errors("reloads of every kind", &answers, 0.0, "0")];
    lines.push(Line {
        what: "reloads of every kind: taken or refused".to_owned(),
        figure: format!("{count} of {} changes", form.reloads),
        gate: ">= a third",
        kept: count >= f64::from(form.reloads) / 3.0,
    });
    lines
}

/// Successive upgrades, while clients use a new connection for each request.
fn upgrades(form: Form) -> Vec<Line> {
    let (idc, cloud) = (endpoints("idc", 2), endpoints("cloud", 1));
    let proxy = Proxy::start(&config(&idc, &cloud));
    let load = Load::connecting(proxy.at("web"), form.rate.min(400));
    load.warm_up();
    let logged = |text: &str| proxy.log().iter().filter(|line| line.contains(text)).count();
    let mut ids: Vec<String> = Vec::new();
    for number in 1..=form.upgrades {
        match ids.last() {
            None => proxy.signal(libc::SIGUSR2),
            Some(id) => cluster::kill(id, "USR2"),
        }
        eventually("a successor is ready", || logged("successor ready") == number);
        eventually("its predecessor ends", || logged("INFO proxy stopped") == number);
        load.observe(Duration::from_millis(300));
        let line = proxy.said(" starting process=").unwrap();
        ids.push(line.rsplit("process=").next().unwrap().trim().to_owned());
    }
    let answers = load.stop();
    ids.last().into_iter().for_each(|id| cluster::kill(id, "KILL"));
    vec![errors(&format!("{} upgrades", form.upgrades), &answers, 0.0, "0")]
}
