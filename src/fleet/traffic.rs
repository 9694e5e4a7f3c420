//! The network traffic of the fleet: the bytes that a proxy receives and sends, measured with real reports.

use crate::decision::fleet::{ClusterRow, Identity, Members, Peer, Report, ServiceRow, links};
use crate::decision::units::{Dice, Timestamp, hash};
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

#[test]
fn a_proxy_of_a_thousand_receives_and_sends_at_most_20_kb_a_second() {
    let mut dice = Dice::seeded(1);
    let mut peers: Vec<Peer> = Vec::new();
    for (site, count) in (0..20).map(|site| (site, if site == 0 { 49 } else { 2 })) {
        peers.extend((0..count).map(|proxy| Peer {
            site: format!("site-{site}"),
            url: format!("https://gateway-{site}-{proxy}:9901"),
            ..Peer::default()
        }));
    }
    let own = report(0, 49, &mut dice);
    let mut members = Members::default();
    for proxy in 0..49 {
        let heard = report(0, proxy, &mut dice).for_members();
        members.merge(&format!("{proxy}"), "site-0", &own.by, heard, Timestamp::START).unwrap();
    }
    let site = members.site(&own, Timestamp::START);
    assert_eq!(site.members, 50);
    let length =
        |report: &Report| serde_json::to_string(&report.unnamed()).unwrap().len() + 1 + RECORD;
    let (member, site) = (length(&own.for_members()), length(&site));
    let question = 1 + RECORD;

    let links = links(&peers, "site-0", |peer| hash(peer.url.as_bytes()));

    let (mut answers, mut questions) = (0.0, 0.0);
    for link in &links {
        let rate = Duration::from_secs(1).as_secs_f64() / link.every.as_secs_f64();
        questions += rate * question as f64;
        answers += rate * if link.member { member } else { site } as f64;
    }
    // Every proxy requests as many reports as it sends, so it sends as many bytes as it receives.
    let each_way = answers + questions;
    println!(
        "{} links; a proxy's report {member} B, a site's {site} B, a question {question} B; \
         {:.1} kB/s received and {:.1} kB/s sent by a proxy, TLS records included",
        links.len(),
        each_way / 1e3,
        each_way / 1e3
    );
    assert_eq!(links.len(), 49 + 38);
    assert!(each_way <= 20_000.0, "{each_way} B/s");
}

/// The bytes of messages that a NATS server delivers, and that a client publishes, each in a TLS record of its own.
#[cfg(feature = "nats")]
#[test]
fn on_nats_a_proxy_of_a_thousand_receives_and_sends_at_most_20_kb_a_second() {
    use super::nats::payload;
    use crate::decision::fleet::broadcast::{Publisher, Scope};
    let mut dice = Dice::seeded(1);
    let own = report(0, 49, &mut dice);
    let mut members = Members::default();
    for proxy in 0..49 {
        let heard = report(0, proxy, &mut dice).for_members();
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
    let (member, site) = (frame(Scope::Member, &own.for_members()), frame(Scope::Site, &site));

    // The sums of all 20 sites arrive, the own one included, each every two seconds.
    let received = 49.0 * member as f64 + 20.0 * site as f64 / 2.0;
    let sent = member as f64 + site as f64 / 2.0;

    println!(
        "a proxy's report {member} B, a site's {site} B; {:.1} kB/s received and {:.1} kB/s sent by a proxy",
        received / 1e3,
        sent / 1e3
    );
    assert!(received <= 20_000.0 && sent <= 1_000.0, "{received} B/s, {sent} B/s");
}
