//! Every metric: its name, unit, labels and meaning, in one file, encoded as Prometheus text.
//!
//! A scrape reads the workers' cells and the view in force; nothing here is on the path of a request.

use super::cells::{Aborted, BOUNDS, ExchangeTotals, Registry, SpanTotals};
use crate::decision::index::Table;
use crate::decision::plan::{ClusterIndex, Plan};
use crate::decision::signal::{Signals, State, Why};
use crate::os::process;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Input of a scrape.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// The workers' cells.
    pub registry: &'a Registry,
    /// The plan in force.
    pub plan: &'a Plan,
    /// The signals in force.
    pub signals: &'a Signals,
    /// Exchanges in flight by cluster, parallel to the plan's.
    pub in_flight: Table<ClusterIndex, u32>,
    /// Upstream connections by cluster: active, idle, and exchanges that wait for a connection or capacity.
    pub connections: Table<ClusterIndex, (u32, u32, u32)>,
    /// Labels of the refusals, in the order of the cells.
    pub refusals: &'a [&'a str],
    /// Labels of handshake results, in the order of the cells.
    pub handshakes: &'a [&'a str],
    /// When certificates expire, in seconds since 1970, by listener and name.
    pub certificates: Vec<(String, String, i64)>,
    /// Figures of the process around the data plane.
    pub server: ServerFigures,
}

/// Figures of the process around the data plane.
#[derive(Clone, Debug, Default)]
pub struct ServerFigures {
    /// Generation of the configuration in force.
    pub generation: u64,
    /// Whether the last reload succeeded.
    pub reload_ok: bool,
    /// When the configuration in force was loaded, seconds since 1970.
    pub reload_success_at: f64,
    /// Reloads that succeeded.
    pub reloads_ok: u64,
    /// Reloads that failed.
    pub reloads_failed: u64,
    /// Used shares of descriptors and memory, 0 to 1.
    pub used: (f64, f64),
    /// Tasks of each worker.
    pub tasks: Vec<u32>,
    /// Busy share of each worker.
    pub busy: Vec<f64>,
    /// Age of each cluster's last good DNS answer in seconds.
    pub dns_age: BTreeMap<String, f64>,
    /// Probes by cluster: succeeded, failed.
    pub probes: BTreeMap<String, (u64, u64)>,
    /// Durations of probes by cluster.
    pub probe_spans: BTreeMap<String, SpanTotals>,
    /// Ejections by cluster and cause.
    pub ejections: BTreeMap<(String, &'static str), u64>,
    /// TLS handshakes with endpoints that failed, by cluster and cause.
    pub tls_failures: BTreeMap<(String, &'static str), u64>,
    /// Age of the view in force, in seconds.
    pub view_age: f64,
    /// When the process started, seconds since 1970.
    pub started_at: f64,
}

#[derive(Default)]
struct Families(Vec<MetricFamily>);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Families {
    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> &mut Vec<Metric> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
        let last = self.0.len() - 1;
        self.0[last].mut_metric()
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::GAUGE).push(gauge(&[], value));
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::COUNTER).push(counter(&[], value));
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

fn gauge(labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn histogram(labels: Labels<'_>, totals: &SpanTotals) -> Metric {
    let mut metric = labelled(labels);
    let mut histogram = Histogram::default();
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(BOUNDS.len());
    for (bound, count) in BOUNDS.iter().zip(totals.buckets) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    histogram.set_bucket(buckets);
    histogram.set_sample_count(totals.count());
    histogram.set_sample_sum(totals.sum);
    metric.set_histogram(histogram);
    metric
}

/// The exposition as Prometheus text.
#[must_use]
pub fn text(scrape: &Scrape<'_>) -> String {
    let mut families = Families::default();
    server(&mut families, scrape);
    listeners(&mut families, scrape);
    exchanges(&mut families, &scrape.registry.exchanges());
    clusters(&mut families, scrape);
    services(&mut families, scrape);
    of_process(&mut families, scrape);
    families.0.retain(|family| !family.get_metric().is_empty());
    let mut out = Vec::new();
    match TextEncoder::new().encode(&Gathered(families.0).collect(), &mut out) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        Err(error) => format!("# {error}\n"),
    }
}

struct Gathered(Vec<MetricFamily>);

impl Collector for Gathered {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.clone()
    }
}

fn server(families: &mut Families, scrape: &Scrape<'_>) {
    let server = &scrape.server;
    families
        .family("tidegate_build_info", "Version of this binary.", MetricType::GAUGE)
        .push(gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0));
    families.gauge(
        "tidegate_config_generation",
        "Generation of the configuration in force.",
        server.generation as f64,
    );
    families.gauge(
        "tidegate_config_last_reload_successful",
        "1 if the last reload succeeded.",
        f64::from(u8::from(server.reload_ok)),
    );
    families.gauge(
        "tidegate_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was loaded.",
        server.reload_success_at,
    );
    let reloads =
        families.family("tidegate_config_reloads_total", "Reloads by result.", MetricType::COUNTER);
    reloads.push(counter(&[("result", "success")], server.reloads_ok as f64));
    reloads.push(counter(&[("result", "failure")], server.reloads_failed as f64));
    let busy = families.family(
        "tidegate_worker_busy_ratio",
        "Share of the last second in which a worker was busy.",
        MetricType::GAUGE,
    );
    for (worker, ratio) in server.busy.iter().enumerate() {
        busy.push(gauge(&[("worker", &worker.to_string())], *ratio));
    }
    let help = "Connections, exchanges and flows that a worker has under way, each a task.";
    let tasks = families.family("tidegate_worker_tasks", help, MetricType::GAUGE);
    for (worker, count) in server.tasks.iter().enumerate() {
        tasks.push(gauge(&[("worker", &worker.to_string())], f64::from(*count)));
    }
    let help = "Part of what this process may use that is used; from 0.85 on it is scarce.";
    let used = families.family("tidegate_resource_used_ratio", help, MetricType::GAUGE);
    let (descriptors, memory) = server.used;
    used.push(gauge(&[("resource", "descriptors")], descriptors));
    used.push(gauge(&[("resource", "memory")], memory));
    families.gauge("tidegate_view_age_seconds", "Age of the beliefs in force.", server.view_age);
    let panics = scrape.registry.panics.load(Ordering::Relaxed);
    families.counter("tidegate_panics_total", "Panics; each ended one connection.", panics as f64);
    let dropped = scrape.registry.log_dropped.load(Ordering::Relaxed);
    families.counter(
        "tidegate_access_log_dropped_total",
        "Access log lines dropped because the writer was behind.",
        dropped as f64,
    );
    let shed = scrape.registry.events_shed.load(Ordering::Relaxed);
    let copies = scrape.registry.copies_shed.load(Ordering::Relaxed);
    let (name, about) =
        ("tidegate_events_shed_total", "What was dropped because there was no room.");
    let family = families.family(name, about, MetricType::COUNTER);
    family.push(counter(&[("kind", "exchange")], shed as f64));
    family.push(counter(&[("kind", "mirror")], copies as f64));
}

fn listeners(families: &mut Families, scrape: &Scrape<'_>) {
    let all = scrape.registry.listeners();
    let mut add = |name: &str, help: &str, kind: MetricType, of: &dyn Fn(&str) -> Vec<Metric>| {
        let metrics = families.family(name, help, kind);
        all.keys().for_each(|listener| metrics.extend(of(listener)));
    };
    add("tidegate_connections", "Open connections.", MetricType::GAUGE, &|name| {
        let open = all[name].connections.saturating_sub(all[name].closed);
        vec![gauge(&[("listener", name)], open as f64)]
    });
    add("tidegate_connections_total", "Connections accepted.", MetricType::COUNTER, &|name| {
        vec![counter(&[("listener", name)], all[name].connections as f64)]
    });
    let both = |name: &str, (from, to): (u64, u64)| {
        vec![
            counter(&[("listener", name), ("direction", "in")], from as f64),
            counter(&[("listener", name), ("direction", "out")], to as f64),
        ]
    };
    let help = "Bytes of bodies, tunnels and flows from and to clients.";
    add("tidegate_bytes_total", help, MetricType::COUNTER, &|name| {
        both(name, (all[name].bytes_in, all[name].bytes_out))
    });
    let help = "Bytes of heads from and to clients.";
    add("tidegate_head_bytes_total", help, MetricType::COUNTER, &|name| {
        both(name, (all[name].head_bytes_in, all[name].head_bytes_out))
    });
    let help = "Datagrams that had nowhere to go, or no room to.";
    add("tidegate_datagrams_dropped_total", help, MetricType::COUNTER, &|name| {
        let dropped = Some(all[name].dropped).filter(|dropped| *dropped > 0);
        dropped.map(|count| counter(&[("listener", name)], count as f64)).into_iter().collect()
    });
    add(
        "tidegate_refusals_total",
        "Exchanges not served, by reason.",
        MetricType::COUNTER,
        &|name| {
            let counts =
                scrape.refusals.iter().zip(all[name].refusals).filter(|(_, count)| *count > 0);
            let metric = |(reason, count): (&&str, u64)| {
                counter(&[("listener", name), ("reason", reason)], count as f64)
            };
            counts.map(metric).collect()
        },
    );
    let help = "Exchanges broken off, so that no response came, or not the whole of one: by whom.";
    add("tidegate_aborted_total", help, MetricType::COUNTER, &|name| {
        let counts = Aborted::ALL.iter().zip(all[name].aborted).filter(|(_, count)| *count > 0);
        let metric = |(by, count): (&Aborted, u64)| {
            counter(&[("listener", name), ("by", by.label())], count as f64)
        };
        counts.map(metric).collect()
    });
    add(
        "tidegate_tls_handshakes_total",
        "Handshakes, by how they ended.",
        MetricType::COUNTER,
        &|name| {
            let counts = scrape.handshakes.iter().zip(all[name].handshakes);
            let metric = |(result, count): (&&str, u64)| {
                counter(&[("listener", name), ("result", result)], count as f64)
            };
            counts.filter(|(_, count)| *count > 0).map(metric).collect()
        },
    );
    certificates(families, scrape);
}

fn certificates(families: &mut Families, scrape: &Scrape<'_>) {
    let help = "When a certificate expires, in seconds since 1970.";
    let name = "tidegate_certificate_expiry_timestamp_seconds";
    let expiries = families.family(name, help, MetricType::GAUGE);
    for (listener, name, expires) in &scrape.certificates {
        expiries.push(gauge(&[("listener", listener), ("name", name)], *expires as f64));
    }
}

const CODE_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

fn exchanges(
    families: &mut Families,
    all: &BTreeMap<super::cells::ExchangeLabels, ExchangeTotals>,
) {
    let requests = families.family(
        "tidegate_requests_total",
        "Exchanges by the status sent.",
        MetricType::COUNTER,
    );
    for (labels, totals) in all {
        for (class, count) in CODE_CLASSES.iter().zip(totals.by_class).filter(|(_, c)| *c > 0) {
            let labels = [
                ("listener", labels.listener.as_str()),
                ("service", labels.service.as_str()),
                ("cluster", labels.cluster.as_str()),
                ("code_class", class),
            ];
            requests.push(counter(&labels, count as f64));
        }
    }
    let mut by_pair: BTreeMap<(&str, &str), ExchangeTotals> = BTreeMap::new();
    let mut by_cluster: BTreeMap<&str, SpanTotals> = BTreeMap::new();
    for (labels, totals) in all.iter().filter(|(labels, _)| !labels.cluster.is_empty()) {
        let pair = by_pair.entry((&labels.service, &labels.cluster)).or_default();
        merge_spans(&mut pair.duration, &totals.duration);
        merge_spans(by_cluster.entry(&labels.cluster).or_default(), &totals.upstream);
        for (sum, more) in pair.by_reason.iter_mut().zip(totals.by_reason) {
            *sum += more;
        }
        for (sum, more) in pair.retries.iter_mut().zip(totals.retries) {
            *sum += more;
        }
        for (sum, more) in pair.hedges.iter_mut().zip(totals.hedges) {
            *sum += more;
        }
    }
    let durations = families.family(
        "tidegate_request_duration_seconds",
        "From a request's head to the end of its response.",
        MetricType::HISTOGRAM,
    );
    for ((service, cluster), totals) in &by_pair {
        durations.push(histogram(&[("service", service), ("cluster", cluster)], &totals.duration));
    }
    let upstream = families.family(
        "tidegate_upstream_duration_seconds",
        "From sending a request to the head of its response.",
        MetricType::HISTOGRAM,
    );
    for (cluster, totals) in &by_cluster {
        upstream.push(histogram(&[("cluster", cluster)], totals));
    }
    let decisions = families.family(
        "tidegate_decisions_total",
        "Exchanges by the reason for their cluster.",
        MetricType::COUNTER,
    );
    for ((service, cluster), totals) in &by_pair {
        for (why, count) in Why::ALL.iter().zip(totals.by_reason).filter(|(_, c)| *c > 0) {
            let labels = [("service", *service), ("cluster", *cluster), ("reason", why.label())];
            decisions.push(counter(&labels, count as f64));
        }
    }
    let (name, about) = ("tidegate_retries_total", "Retries by result.");
    let retries = families.family(name, about, MetricType::COUNTER);
    by_service(retries, &by_pair, ["granted", "denied"], |totals| totals.retries);
    let (name, about) = ("tidegate_hedges_total", "Second attempts beside slow first ones.");
    let hedges = families.family(name, about, MetricType::COUNTER);
    by_service(hedges, &by_pair, ["sent", "won", "denied"], |totals| totals.hedges);
}

/// One series for each service and result.
fn by_service<const N: usize>(
    family: &mut Vec<Metric>,
    by_pair: &BTreeMap<(&str, &str), ExchangeTotals>,
    results: [&str; N],
    counts: impl Fn(&ExchangeTotals) -> [u64; N],
) {
    let mut sums: BTreeMap<&str, [u64; N]> = BTreeMap::new();
    for ((service, _), totals) in by_pair {
        let sum = sums.entry(service).or_insert([0; N]);
        sum.iter_mut().zip(counts(totals)).for_each(|(sum, more)| *sum += more);
    }
    for (service, counts) in &sums {
        for (result, count) in results.iter().zip(counts) {
            family.push(counter(&[("service", service), ("result", result)], *count as f64));
        }
    }
}

fn merge_spans(into: &mut SpanTotals, more: &SpanTotals) {
    for (sum, count) in into.buckets.iter_mut().zip(more.buckets) {
        *sum += count;
    }
    into.sum += more.sum;
}

fn clusters(families: &mut Families, scrape: &Scrape<'_>) {
    let beliefs = || scrape.plan.clusters.enumerated().zip(&scrape.signals.clusters);
    // NaN for an unmeasured value: 0 would be a measurement.
    type Figure<'a> =
        &'a dyn Fn(ClusterIndex, &crate::decision::signal::ClusterSignals) -> Option<f64>;
    let mut each = |name: &str, help: &str, figure: Figure<'_>| {
        let metrics = families.family(name, help, MetricType::GAUGE);
        for ((index, cluster), signals) in beliefs() {
            let figure = figure(index, signals).unwrap_or(f64::NAN);
            metrics.push(gauge(&[("cluster", &cluster.name)], figure));
        }
    };
    each("tidegate_cluster_up", "1 if the cluster can serve.", &|_, signals| {
        Some(f64::from(u8::from(matches!(signals.state, State::Up | State::Degraded))))
    });
    each("tidegate_cluster_rtt_seconds", "Round trip to the cluster.", &|_, s| s.rtt);
    let help = "Distance of the cluster: its round trip, and what lies behind a middlebox.";
    each("tidegate_cluster_distance_seconds", help, &|_, signals| signals.distance);
    each("tidegate_cluster_service_seconds", "Service time without queue.", &|_, s| s.service);
    each("tidegate_cluster_queue_seconds", "Queue delay now.", &|_, signals| signals.queue);
    each("tidegate_cluster_in_flight", "Exchanges in flight.", &|index, _| {
        scrape.in_flight.get(index).copied().map(f64::from)
    });
    let up = families.family(
        "tidegate_endpoint_up",
        "1 if the endpoint may be used.",
        MetricType::GAUGE,
    );
    for ((_, cluster), signals) in beliefs() {
        for endpoint in &signals.endpoints {
            let address = endpoint.address.to_string();
            let labels = [("cluster", cluster.name.as_str()), ("endpoint", address.as_str())];
            up.push(gauge(&labels, f64::from(u8::from(endpoint.up))));
        }
    }
    let connections = families.family(
        "tidegate_upstream_connections",
        "Connections to the cluster.",
        MetricType::GAUGE,
    );
    for ((index, cluster), _) in beliefs() {
        let (active, idle, _) = scrape.connections.get(index).copied().unwrap_or_default();
        for (state, count) in [("active", active), ("idle", idle)] {
            let labels = [("cluster", cluster.name.as_str()), ("state", state)];
            connections.push(gauge(&labels, f64::from(count)));
        }
    }
    let pending = families.family(
        "tidegate_cluster_pending",
        "Exchanges that wait for a connection to the cluster or for room in it.",
        MetricType::GAUGE,
    );
    for ((index, cluster), _) in beliefs() {
        let (.., waiting) = scrape.connections.get(index).copied().unwrap_or_default();
        pending.push(gauge(&[("cluster", cluster.name.as_str())], f64::from(waiting)));
    }
    probes(families, scrape);
}

fn probes(families: &mut Families, scrape: &Scrape<'_>) {
    let server = &scrape.server;
    let probes = families.family("tidegate_probes_total", "Probes by result.", MetricType::COUNTER);
    for (cluster, (ok, failed)) in &server.probes {
        probes.push(counter(&[("cluster", cluster), ("result", "success")], *ok as f64));
        probes.push(counter(&[("cluster", cluster), ("result", "failure")], *failed as f64));
    }
    let spans = families.family(
        "tidegate_probe_duration_seconds",
        "How long probes took.",
        MetricType::HISTOGRAM,
    );
    for (cluster, totals) in &server.probe_spans {
        spans.push(histogram(&[("cluster", cluster)], totals));
    }
    let ejections = families.family(
        "tidegate_ejections_total",
        "Endpoints taken out of use, by cause.",
        MetricType::COUNTER,
    );
    for ((cluster, cause), count) in &server.ejections {
        ejections.push(counter(&[("cluster", cluster), ("cause", cause)], *count as f64));
    }
    let failures = families.family(
        "tidegate_upstream_tls_failures_total",
        "TLS handshakes with endpoints that failed, of probes and exchanges, by cause.",
        MetricType::COUNTER,
    );
    for ((cluster, cause), count) in &server.tls_failures {
        failures.push(counter(&[("cluster", cluster), ("cause", cause)], *count as f64));
    }
    let ages = families.family(
        "tidegate_dns_age_seconds",
        "Age of the last good DNS answer.",
        MetricType::GAUGE,
    );
    for (cluster, age) in &server.dns_age {
        ages.push(gauge(&[("cluster", cluster)], *age));
    }
}

/// Spend, desired replicas and forecast demand.
fn money(families: &mut Families, scrape: &Scrape<'_>) {
    let mut spent: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let mut expected: BTreeMap<&str, Option<f64>> = BTreeMap::new();
    for (class, signals) in scrape.plan.classes.iter().zip(&scrape.signals.classes) {
        let service = scrape.plan.services[class.service].name.as_str();
        for (cluster, usd) in class.permitted.clusters.iter().zip(&signals.spent_usd) {
            *spent.entry((service, &scrape.plan.clusters[*cluster].name)).or_default() += usd;
        }
        let sum = expected.entry(service).or_insert(Some(0.0));
        *sum = sum.zip(signals.forecast_rps).map(|(sum, rps)| sum + rps);
    }
    let mut replicas: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (class, signals) in scrape.plan.classes.iter().zip(&scrape.signals.classes) {
        let service = scrape.plan.services[class.service].name.as_str();
        for (cluster, needed) in class.permitted.clusters.iter().zip(&signals.wanted_endpoints) {
            if let Some(needed) = needed {
                let key = (service, scrape.plan.clusters[*cluster].name.as_str());
                *replicas.entry(key).or_default() += needed;
            }
        }
    }
    let help = "Endpoints that this proxy's demand of a minute from now needs: round up the sum over proxies.";
    let family = families.family("tidegate_desired_replicas", help, MetricType::GAUGE);
    for ((service, cluster), needed) in replicas {
        family.push(gauge(&[("service", service), ("cluster", cluster)], needed));
    }
    let help = "Dollars that traffic has cost since the start.";
    let family = families.family("tidegate_spend_usd_total", help, MetricType::COUNTER);
    for ((service, cluster), usd) in spent {
        family.push(counter(&[("service", service), ("cluster", cluster)], usd));
    }
    let help = "Exchanges a second expected a minute from now.";
    let family = families.family("tidegate_demand_forecast_rps", help, MetricType::GAUGE);
    for (service, rps) in expected {
        if let Some(rps) = rps {
            family.push(gauge(&[("service", service)], rps));
        }
    }
}

fn services(families: &mut Families, scrape: &Scrape<'_>) {
    let mut spill: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (class, signals) in scrape.plan.classes.iter().zip(&scrape.signals.classes) {
        let name = scrape.plan.services[class.service].name.as_str();
        let (spilled, demand) = spill.entry(name).or_default();
        *spilled += signals.spill * signals.demand_rps;
        *demand += signals.demand_rps;
    }
    let ratios = families.family(
        "tidegate_spill_ratio",
        "Share of exchanges sent beyond the nearest cluster because of load.",
        MetricType::GAUGE,
    );
    for (service, (spilled, demand)) in &spill {
        let ratio = if *demand > 0.0 { spilled / demand } else { 0.0 };
        ratios.push(gauge(&[("service", service)], ratio));
    }
    money(families, scrape);
    let demands = families.family("tidegate_demand_rps", "Exchanges a second.", MetricType::GAUGE);
    for (service, (_, demand)) in &spill {
        demands.push(gauge(&[("service", service)], *demand));
    }
}

fn of_process(families: &mut Families, scrape: &Scrape<'_>) {
    let figures = process::figures();
    families.counter("process_cpu_seconds_total", "User and system time.", figures.cpu_seconds);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Address space.", figures.virtual_bytes),
        ("process_open_fds", "Open descriptors.", figures.open_fds),
        ("process_max_fds", "Most descriptors it may open.", figures.max_fds),
        ("process_threads", "Threads.", figures.threads),
        ("process_start_time_seconds", "When it started.", scrape.server.started_at),
    ] {
        families.gauge(name, help, value);
    }
}
