//! Metrics of the process: version, configuration, workers, resources.

use super::families::{Families, counter, gauge};
use super::scrape::{Scrape, SourceFigures};
use crate::os::process;
use prometheus::proto::MetricType;
use std::sync::atomic::Ordering;

pub(super) fn server(families: &mut Families, scrape: &Scrape<'_>) {
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
        "Time at which the configuration in force was loaded.",
        server.reload_success_at,
    );
    let reloads =
        families.family("tidegate_config_reloads_total", "Reloads by result.", MetricType::COUNTER);
    reloads.push(counter(&[("result", "success")], server.reloads_ok as f64));
    reloads.push(counter(&[("result", "failure")], server.reloads_failed as f64));
    if let Some(source) = &server.source {
        source_of_config(families, source);
    }
    let busy = families.family(
        "tidegate_worker_busy_ratio",
        "Share of the last second in which a worker was busy.",
        MetricType::GAUGE,
    );
    for (worker, ratio) in server.busy.iter().enumerate() {
        busy.push(gauge(&[("worker", &worker.to_string())], *ratio));
    }
    let help = "Tasks of a worker: connections, exchanges and flows.";
    let tasks = families.family("tidegate_worker_tasks", help, MetricType::GAUGE);
    for (worker, count) in server.tasks.iter().enumerate() {
        tasks.push(gauge(&[("worker", &worker.to_string())], f64::from(*count)));
    }
    let help = "Used part of the descriptors and memory of this process; scarce from 0.85 on.";
    let used = families.family("tidegate_resource_used_ratio", help, MetricType::GAUGE);
    let (descriptors, memory) = server.used;
    used.push(gauge(&[("resource", "descriptors")], descriptors));
    used.push(gauge(&[("resource", "memory")], memory));
    families.gauge("tidegate_view_age_seconds", "Age of the view in force.", server.view_age);
    let panics = scrape.registry.panics.load(Ordering::Relaxed);
    families.counter(
        "tidegate_panics_total",
        "Panics; each ended one connection or stream.",
        panics as f64,
    );
    let dropped = scrape.registry.log_dropped.load(Ordering::Relaxed);
    families.counter(
        "tidegate_access_log_dropped_total",
        "Access log lines dropped because the writer was behind.",
        dropped as f64,
    );
    let shed = scrape.registry.events_shed.load(Ordering::Relaxed);
    let copies = scrape.registry.copies_shed.load(Ordering::Relaxed);
    let (name, about) = (
        "tidegate_events_shed_total",
        "Events and mirrored requests dropped because a limit was reached.",
    );
    let family = families.family(name, about, MetricType::COUNTER);
    family.push(counter(&[("kind", "exchange")], shed as f64));
    family.push(counter(&[("kind", "mirror")], copies as f64));
}

/// What the admin API refused.
pub(super) fn admin(families: &mut Families, scrape: &Scrape<'_>) {
    let help = "Requests and connections that the admin API refused, closed or delayed, by reason.";
    let refused = families.family("tidegate_admin_refused_total", help, MetricType::COUNTER);
    for (reason, count) in scrape.registry.admin_refused.iter() {
        refused.push(counter(&[("reason", reason)], count as f64));
    }
}

/// Failures of the state folder.
pub(super) fn state(families: &mut Families, scrape: &Scrape<'_>) {
    let help = "Reads and writes of `state_dir` that failed.";
    let family = families.family("tidegate_state_failures_total", help, MetricType::COUNTER);
    let unread = scrape.registry.state_unread.load(Ordering::Relaxed);
    let unwritten = scrape.registry.state_unwritten.load(Ordering::Relaxed);
    family.push(counter(&[("operation", "read")], unread as f64));
    family.push(counter(&[("operation", "write")], unwritten as f64));
}

/// Drills and shifts.
pub(super) fn operations(families: &mut Families, scrape: &Scrape<'_>) {
    let help = "Drills and shifts that ended, by kind and result.";
    let ended = families.family("tidegate_operations_total", help, MetricType::COUNTER);
    for (kind, result, count) in &scrape.operations.ended {
        ended.push(counter(&[("kind", kind), ("result", result)], *count as f64));
    }
    let running = f64::from(u8::from(scrape.operations.running));
    families.gauge("tidegate_operation_running", "1 while a drill or a shift is running.", running);
}

/// Spans for the collector, if one is configured.
pub(super) fn spans(families: &mut Families, scrape: &Scrape<'_>) {
    if scrape.plan.sampling.is_none() {
        return;
    }
    let spans = &scrape.registry.spans;
    let family = families.family(
        "tidegate_trace_spans_total",
        "Spans of traced exchanges, by result.",
        MetricType::COUNTER,
    );
    for (result, count) in [
        ("exported", &spans.exported),
        ("queue_full", &spans.queue_full),
        ("failed", &spans.failed),
        ("rejected", &spans.rejected),
    ] {
        family.push(counter(&[("result", result)], count.load(Ordering::Relaxed) as f64));
    }
}

fn source_of_config(families: &mut Families, source: &SourceFigures) {
    let is = |flag: bool| f64::from(u8::from(flag));
    families.gauge(
        "tidegate_config_source_connected",
        "Whether the key in NATS that holds the configuration can be read.",
        is(source.connected),
    );
    families.gauge(
        "tidegate_config_source_revision",
        "Revision of the key's value that is in force.",
        source.revision as f64,
    );
    families.gauge(
        "tidegate_config_source_last_good",
        "1 if the configuration in force is the last good one in state_dir.",
        is(source.kept),
    );
}

pub(super) fn of_process(families: &mut Families, scrape: &Scrape<'_>) {
    let figures = process::figures();
    families.counter("process_cpu_seconds_total", "User and system time.", figures.cpu_seconds);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", figures.resident_bytes),
        ("process_virtual_memory_bytes", "Address space.", figures.virtual_bytes),
        ("process_open_fds", "Open descriptors.", figures.open_fds),
        ("process_max_fds", "Limit of open descriptors.", figures.max_fds),
        ("process_threads", "Threads.", figures.threads),
        (
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970.",
            scrape.server.started_at,
        ),
    ] {
        families.gauge(name, help, value);
    }
}
