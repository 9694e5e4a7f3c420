//! The network traffic of the fleet: the bytes that a proxy receives and sends, measured with real reports.

use crate::decision::fleet::samples::texts;
use crate::decision::fleet::{ClusterRow, Identity, Members, Peer, Report, ServiceRow, links};
use crate::decision::permit::Permitted;
use crate::decision::plan::{Class, Cluster, ClusterIndex, Plan, Service, ServiceIndex};
use crate::decision::pool::{MOST, Observed, Recent, Texts};
use crate::decision::signal::{ClassSignals, Signals};
use crate::decision::units::{Dice, Timestamp, hash};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that TLS 1.3 adds to a record: header, content type and tag.
const RECORD: usize = 5 + 1 + 16;

/// A proxy of a busy site: its own cluster has a queue, and two clouds with a price receive the spill of two of
/// five services; one service has a budget. Clusters without traffic are left out, however many there are.
fn report(site: usize, proxy: usize, dice: &mut Dice) -> Report {
    let row = |name: &str, dice: &mut Dice| ClusterRow {
        in_flight: 10.0 + dice.below(200) as f64,
        requests_per_s: 100.0 + 900.0 * dice.unit(),
        queue: if name == "idc" { 0.010 + 0.020 * dice.unit() } else { 0.0 },
        distance: 0.010 + 0.060 * dice.unit(),
        service: 0.010 + 0.200 * dice.unit(),
        usd_per_hour: if name == "idc" { 0.0 } else { 1.0 + 9.0 * dice.unit() },
        ..ClusterRow::default()
    };
    let clusters = ["idc", "aws-eu-west-1", "gcp-europe-west4"];
    let services = ["shop", "search", "checkout", "accounts", "images"];
    let service = |name: &str, dice: &mut Dice| ServiceRow {
        demand: 100.0 + 300.0 * dice.unit(),
        spill: if ["shop", "search"].contains(&name) { 0.1 + 0.5 * dice.unit() } else { 0.0 },
        budget_left: if name == "shop" { 1.0 + 5.0 * dice.unit() } else { 0.0 },
    };
    Report {
        by: Identity {
            site: format!("site-{site}"),
            instance: format!("gateway-{site}-{proxy}:9901"),
            incarnation: 1_732_824_459_123,
        },
        sequence: 604_800 + dice.below(1_000) as u64,
        members: 1,
        expected: 50,
        leaving: false,
        clusters: clusters.iter().map(|name| ((*name).to_owned(), row(name, dice))).collect(),
        services: services.iter().map(|name| ((*name).to_owned(), service(name, dice))).collect(),
        ..Report::default()
    }
}

/// The same proxy with little traffic: 10 to 20 requests a second of each service, most of them to its own cluster, and
/// the response times that it tells.
fn quiet_report(site: usize, proxy: usize, dice: &mut Dice) -> Report {
    let mut report = report(site, proxy, dice);
    for row in report.clusters.values_mut() {
        row.in_flight = dice.below(4) as f64;
        row.requests_per_s = 5.0 + 50.0 * dice.unit();
        row.usd_per_hour /= 20.0;
    }
    report.services.values_mut().for_each(|row| row.demand = 10.0 + 10.0 * dice.unit());
    report.samples = samples(&report, proxy as u64, dice);
    report
}

/// Response times of each service at the proxy's own cluster, and of those that spill at a cloud.
fn samples(report: &Report, scatter: u64, dice: &mut Dice) -> Texts {
    let (clusters, services) = (report.clusters.keys(), report.services.iter());
    let home = report.clusters.keys().position(|name| name == "idc").unwrap();
    let class = |service: usize| Class {
        service: ServiceIndex(service),
        data: Vec::new(),
        permitted: Permitted {
            clusters: (0..report.clusters.len()).map(ClusterIndex).collect(),
            rejected: Vec::new(),
        },
        l4: false,
        id: service as u64,
    };
    let mut recent = |is_used: bool| {
        let observed = |_| Observed { ended: 99.0, seconds: 0.01 + 0.2 * dice.unit(), stratum: 1 };
        let newest = if is_used { (0..MOST).map(observed).collect() } else { Vec::new() };
        Recent { total: 9_999, endpoints: 9_999, newest }
    };
    let mut signals = |row: &ServiceRow| {
        let recent = (0..report.clusters.len())
            .map(|slot| recent(slot == home || slot == 0 && row.spill > 0.0))
            .collect();
        Arc::new(ClassSignals { recent, ..ClassSignals::default() })
    };
    let plan = Plan {
        clusters: clusters.map(|name| Cluster::named(name)).collect(),
        classes: (0..report.services.len()).map(class).collect(),
        services: services.clone().map(|(name, _)| Service::named(name, Vec::new())).collect(),
        ..Plan::default()
    };
    let classes = services.map(|(_, row)| signals(row)).collect();
    let signals = Signals { classes, ..Signals::default() };
    texts(&plan, &signals, (50, scatter), 100.0)
}

/// The mean length of the reports of the other proxies of the site: not each of them has samples in each second.
fn mean(members: &Members, own: &Identity, length: impl Fn(&Report) -> usize) -> f64 {
    let all = members.colleagues(own, Timestamp::START, Duration::ZERO);
    let lengths: Vec<usize> = all.map(|(report, _)| length(report)).collect();
    lengths.iter().sum::<usize>() as f64 / lengths.len() as f64
}

/// A proxy's report.
type Make = fn(usize, usize, &mut Dice) -> Report;

#[test]
fn a_proxy_of_a_thousand_receives_and_sends_at_most_20_kb_a_second() {
    for make in [report as Make, quiet_report] {
        let each_way = bytes_each_way(make);
        assert!(each_way <= 20_000.0, "{each_way} B/s");
    }
}

fn bytes_each_way(make: Make) -> f64 {
    let mut dice = Dice::seeded(1);
    let mut peers: Vec<Peer> = Vec::new();
    for (site, count) in (0..20).map(|site| (site, if site == 0 { 49 } else { 2 })) {
        peers.extend((0..count).map(|proxy| Peer {
            site: format!("site-{site}"),
            url: format!("https://gateway-{site}-{proxy}:9901"),
            ..Peer::default()
        }));
    }
    let own = make(0, 49, &mut dice);
    let mut members = Members::default();
    for proxy in 0..49 {
        let heard = make(0, proxy, &mut dice).for_members();
        members.merge(&format!("{proxy}"), "site-0", &own.by, heard, Timestamp::START).unwrap();
    }
    let site = members.site(&own, Timestamp::START);
    assert_eq!(site.members, 50);
    let length =
        |report: &Report| serde_json::to_string(&report.unnamed()).unwrap().len() + 1 + RECORD;
    let (member, site) = (mean(&members, &own.by, length), length(&site));
    let question = 1 + RECORD;

    let links = links(&peers, "site-0", |peer| hash(peer.url.as_bytes()));

    let (mut answers, mut questions) = (0.0, 0.0);
    for link in &links {
        let rate = Duration::from_secs(1).as_secs_f64() / link.every.as_secs_f64();
        questions += rate * question as f64;
        answers += rate * if link.member { member } else { site as f64 };
    }
    // Every proxy requests as many reports as it sends, so it sends as many bytes as it receives.
    let each_way = answers + questions;
    println!(
        "{} links; a proxy's report {member:.0} B, a site's {site} B, a question {question} B; \
         {:.1} kB/s received and {:.1} kB/s sent by a proxy, TLS records included",
        links.len(),
        each_way / 1e3,
        each_way / 1e3
    );
    assert_eq!(links.len(), 49 + 38);
    each_way
}

/// The bytes of messages that a NATS server delivers, and that a client publishes, each in a TLS record of its own.
#[cfg(feature = "nats")]
#[test]
fn on_nats_a_proxy_of_a_thousand_receives_and_sends_at_most_20_kb_a_second() {
    for make in [report as Make, quiet_report] {
        let (received, sent) = bytes_on_nats(make);
        assert!(received <= 20_000.0 && sent <= 1_000.0, "{received} B/s, {sent} B/s");
    }
}

#[cfg(feature = "nats")]
fn bytes_on_nats(make: Make) -> (f64, f64) {
    use super::nats::payload;
    use crate::decision::fleet::broadcast::{Publisher, Scope};
    let mut dice = Dice::seeded(1);
    let own = make(0, 49, &mut dice);
    let mut members = Members::default();
    for proxy in 0..49 {
        let heard = make(0, proxy, &mut dice).for_members();
        let publisher = Publisher {
            scope: Scope::Member,
            site: "site-0".to_owned(),
            instance: heard.by.instance.clone(),
        };
        members.merge_published(&publisher, &own.by, heard, Timestamp::START).unwrap();
    }
    let site = members.site(&own, Timestamp::START);
    assert_eq!(site.members, 50);
    let subject = |scope: Scope| {
        let (site, instance) = (own.by.site.clone(), own.by.instance.clone());
        Publisher { scope, site, instance }.subject("tidegate.fleet")
    };
    let frame = |scope: Scope, report: &Report| {
        let payload = payload(report);
        let head = format!("MSG {} 12 {}\r\n", subject(scope), payload.len());
        head.len() + payload.len() + 2 + RECORD
    };
    let member = mean(&members, &own.by, |report| frame(Scope::Member, report));
    let site = frame(Scope::Site, &site);

    // The sums of all 20 sites arrive, the own one included, each every two seconds.
    let received = 49.0 * member + 20.0 * site as f64 / 2.0;
    let sent = member + site as f64 / 2.0;

    println!(
        "a proxy's report {member:.0} B, a site's {site} B; {:.1} kB/s received and {:.1} kB/s sent by a proxy",
        received / 1e3,
        sent / 1e3
    );
    (received, sent)
}
