//! Metrics of listeners: connections, bytes, refusals, handshakes, certificates.

use super::families::{Families, counter, gauge};
use super::scrape::Scrape;
use crate::counter::{Count, PerVariant, Variants};
use prometheus::proto::{Metric, MetricType};
use std::iter;

pub(super) fn listeners(families: &mut Families, scrape: &Scrape<'_>) {
    let all = scrape.registry.listeners();
    let mut add = |name: &str, help: &str, kind: MetricType, of: &dyn Fn(&str) -> Vec<Metric>| {
        let metrics = families.family(name, help, kind);
        all.keys().for_each(|listener| metrics.extend(of(listener)));
    };
    add("tidegate_connections", "Open connections.", MetricType::GAUGE, &|name| {
        let open = all[name].connections.get().saturating_sub(all[name].closed.get());
        vec![gauge(&[("listener", name)], open as f64)]
    });
    add("tidegate_connections_total", "Connections accepted.", MetricType::COUNTER, &|name| {
        vec![counter(&[("listener", name)], all[name].connections.get() as f64)]
    });
    let both = |name: &str, (from, to): (&Count, &Count)| {
        vec![
            counter(&[("listener", name), ("direction", "in")], from.get() as f64),
            counter(&[("listener", name), ("direction", "out")], to.get() as f64),
        ]
    };
    let help = "Bytes of bodies, tunnels and flows from and to clients.";
    add("tidegate_bytes_total", help, MetricType::COUNTER, &|name| {
        both(name, (&all[name].bytes_in, &all[name].bytes_out))
    });
    let help = "Bytes of heads from and to clients.";
    add("tidegate_head_bytes_total", help, MetricType::COUNTER, &|name| {
        both(name, (&all[name].head_bytes_in, &all[name].head_bytes_out))
    });
    let help = "Datagrams dropped for lack of an endpoint or of buffer space.";
    add("tidegate_datagrams_dropped_total", help, MetricType::COUNTER, &|name| {
        vec![counter(&[("listener", name)], all[name].dropped.get() as f64)]
    });
    add(
        "tidegate_refusals_total",
        "Exchanges not served, by reason.",
        MetricType::COUNTER,
        &|name| by_label(name, "reason", &all[name].refusals),
    );
    let help = "Exchanges that ended without a complete response, by the side that aborted them.";
    add("tidegate_aborted_total", help, MetricType::COUNTER, &|name| {
        by_label(name, "by", &all[name].aborted)
    });
    let help = "TLS handshakes by result.";
    add("tidegate_tls_handshakes_total", help, MetricType::COUNTER, &|name| {
        let succeeded = all[name].handshakes_ok.get();
        let ok = counter(&[("listener", name), ("result", "ok")], succeeded as f64);
        iter::once(ok).chain(by_label(name, "result", &all[name].handshakes_failed)).collect()
    });
    certificates(families, scrape);
}

/// The counters of a listener, by variant.
fn by_label<E: Variants>(listener: &str, label: &str, counts: &PerVariant<E>) -> Vec<Metric> {
    let metric = |(variant, count): (E, u64)| {
        counter(&[("listener", listener), (label, variant.label())], count as f64)
    };
    counts.iter().map(metric).collect()
}

fn certificates(families: &mut Families, scrape: &Scrape<'_>) {
    let help = "Expiry of a certificate, in seconds since 1970.";
    let name = "tidegate_certificate_expiry_timestamp_seconds";
    let expiries = families.family(name, help, MetricType::GAUGE);
    for (listener, name, expires) in &scrape.certificates {
        expiries.push(gauge(&[("listener", listener), ("name", name)], *expires as f64));
    }
    let help = "Names without a certificate, because an ACME authority has not issued it yet.";
    let pending = families.family("tidegate_certificates_pending", help, MetricType::GAUGE);
    for (listener, count) in &scrape.pending {
        pending.push(gauge(&[("listener", listener)], *count as f64));
    }
    let Some(results) = &scrape.server.acme else { return };
    let help = "Orders of certificates from an ACME authority, by result.";
    let orders = families.family("tidegate_acme_renewals_total", help, MetricType::COUNTER);
    for (result, count) in results {
        orders.push(counter(&[("result", result)], *count as f64));
    }
}
