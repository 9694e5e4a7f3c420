//! The data sources of the admin API.

use super::control::Figures;
use super::key_origin::SourcePicture;
use super::origin::Origin;
use super::reload::Reloader;
use super::reports::Reports;
use super::status::{Status, Texts};
use crate::acme::Certificates;
use crate::admin;
use crate::config::difference::{Change, difference};
use crate::decision::plan::Address;
use crate::discover::{Ages, ApiHealths};
use crate::fleet::{Fleet, SitePicture};
use crate::os::clock;
use crate::scaling::Scaling;
use crate::shared::Shared;
use crate::telemetry::cells::Registry;
use crate::telemetry::metrics::{
    ApiServerFigures, FleetFigures, ScalingFigures, ServerFigures, SourceFigures,
};
use arc_swap::ArcSwap;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// The sources of the admin API's figures.
pub(super) struct Sources {
    shared: Arc<Shared>,
    fleet: Arc<Fleet>,
    scaling: Arc<Scaling>,
    acme: Arc<Certificates>,
    status: Arc<Mutex<Status>>,
    figures: Arc<Mutex<Figures>>,
    ages: Ages,
    api_healths: ApiHealths,
    origin: Origin,
}

impl Sources {
    pub(super) fn of(
        shared: &Arc<Shared>,
        reloader: &Reloader,
        figures: Arc<Mutex<Figures>>,
        (ages, api_healths): (Ages, ApiHealths),
        origin: Origin,
    ) -> Sources {
        Sources {
            shared: shared.clone(),
            fleet: reloader.fleet().clone(),
            scaling: reloader.scaling().clone(),
            acme: reloader.acme().clone(),
            status: reloader.status(),
            figures,
            ages,
            api_healths,
            origin,
        }
    }
}

/// The admin API's backend over these sources; `reports` of operations are kept where there are some.
pub(super) fn backend(
    sources: Sources,
    requests: mpsc::Sender<admin::Request>,
    decisions: Arc<admin::Decisions>,
    address: Option<Address>,
    access: Arc<ArcSwap<admin::Access>>,
    reports: Option<Reports>,
) -> admin::Backend {
    let registry = sources.shared.registry.clone();
    let kept = reports.as_ref().map_or(Vec::new(), |reports| reports.read(&registry));
    let started = clock::now();
    let started_at = clock::since_epoch();
    let (status, in_force) = (sources.status.clone(), sources.status.clone());
    let (texts, origin) = (sources.status.clone(), sources.origin.clone());
    admin::Backend {
        shared: sources.shared.clone(),
        fleet: sources.fleet.clone(),
        requests,
        config: Box::new(move || config_status(&status, &origin)),
        effective: Box::new(move || {
            in_force.lock().unwrap_or_else(PoisonError::into_inner).effective.clone()
        }),
        difference: Box::new(move || {
            let status = texts.lock().unwrap_or_else(PoisonError::into_inner);
            let texts = status.texts.clone();
            drop(status);
            config_difference(&texts)
        }),
        figures: Box::new(move || figures(&sources, started_at)),
        decisions,
        uptime: Box::new(move || clock::now().since(started).as_secs()),
        address,
        access,
        now: clock::since_epoch,
        rfc3339: clock::rfc3339,
        keep: keeper(reports, registry),
        memory: admin::Memory::restored(kept),
    }
}

/// The function that keeps the reports of operations.
fn keeper(
    reports: Option<Reports>,
    registry: Arc<Registry>,
) -> Box<dyn Fn(admin::Keep) + Send + Sync> {
    match reports.map(|reports| reports.keeper(registry)) {
        Some(Ok(keep)) => Box::new(keep),
        Some(Err(error)) => {
            tracing::error!(%error, "reports of operations not kept: cannot start a thread");
            Box::new(drop)
        }
        None => Box::new(drop),
    }
}

fn config_status(status: &Mutex<Status>, origin: &Origin) -> serde_json::Value {
    let status = status.lock().unwrap_or_else(PoisonError::into_inner);
    json!({
        "hash": status.hash,
        "generation": status.generation,
        "loaded_at": clock::rfc3339(status.loaded_at),
        "last_reload": {
            "ok": status.ok,
            "at": clock::rfc3339(status.at),
            "error": status.error,
        },
        "source": source(origin).map(|source| json!({
            "kind": "nats",
            "bucket": source.bucket,
            "key": source.key,
            "connected": source.connected,
            "error": source.error,
            "revision": source.revision,
            "newest_revision": source.newest,
            "last_good": source.kept,
        })),
    })
}

/// The key in NATS, if the configuration comes from one.
fn source(origin: &Origin) -> Option<SourcePicture> {
    match origin {
        Origin::Key(key) => Some(key.picture()),
        Origin::File(_) | Origin::Text(_) => None,
    }
}

/// The differences between the rejected text and the text in force.
fn config_difference(texts: &Texts) -> serde_json::Value {
    let disk = texts.rejected.as_ref().unwrap_or(&texts.in_force);
    let changes = difference(&texts.in_force, disk);
    let change = |change: &Change| {
        json!({
            "path": change.path,
            "file": change.at.and_then(|at| disk.name_at(at)),
            "line": change.at.map(|at| at.line),
            "in_force": change.before,
            "on_disk": change.after,
        })
    };
    json!({
        "file": texts.name,
        "comparable": changes.is_some(),
        "changes": changes.iter().flatten().map(change).collect::<Vec<_>>(),
        "problems": texts.problems,
    })
}

fn figures(sources: &Sources, started_at: Duration) -> ServerFigures {
    let status = sources.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let figures = sources.figures.lock().unwrap_or_else(PoisonError::into_inner);
    let now = clock::now();
    let ages = sources.ages.lock().unwrap_or_else(PoisonError::into_inner);
    let healths = sources.api_healths.lock().unwrap_or_else(PoisonError::into_inner);
    let busy = sources.shared.busy.iter();
    ServerFigures {
        generation: status.generation,
        reload_ok: status.ok,
        reload_success_at: status.loaded_at.as_secs_f64(),
        reloads_ok: status.succeeded,
        reloads_failed: status.failed,
        used: sources.shared.used(),
        tasks: sources.shared.tasks.iter().map(|tasks| tasks.load(Ordering::Relaxed)).collect(),
        busy: busy.map(|busy| f64::from(busy.load(Ordering::Relaxed)) / 1e3).collect(),
        dns_age: ages.iter().map(|(name, at)| (name.clone(), now.secs_since(*at))).collect(),
        kubernetes: healths
            .iter()
            .map(|(name, health)| {
                let age = health.answered.map(|at| now.secs_since(at));
                (name.clone(), ApiServerFigures { age, faults: health.faults() })
            })
            .collect(),
        probes: figures.probes.clone(),
        probe_spans: figures.spans.clone(),
        ejections: figures.ejections.clone(),
        tls_failures: figures.tls_failures.clone(),
        view_age: now.secs_since(sources.shared.view.load().signals.at),
        started_at: started_at.as_secs_f64(),
        fleet: fleet(&sources.fleet),
        scaling: scaling(&sources.scaling),
        acme: sources.acme.results(),
        source: source(&sources.origin).map(|source| SourceFigures {
            connected: source.connected,
            revision: source.revision,
            kept: source.kept,
        }),
    }
}

fn scaling(scaling: &Arc<Scaling>) -> ScalingFigures {
    let scaler = scaling.scaler_figures();
    ScalingFigures {
        scaler_streams: scaler.as_ref().map(|scaler| scaler.streams),
        webhook: scaling.webhook_figures(),
        scaler_calls: scaler.map_or(Vec::new(), |scaler| scaler.calls),
    }
}

fn fleet(fleet: &Fleet) -> FleetFigures {
    let site = |site: SitePicture| {
        let members = site.report.filter(|_| site.live || site.is_own);
        (site.name, members.map_or(0, |report| report.members), site.age)
    };
    let picture = fleet.picture();
    FleetFigures {
        sites: picture.sites.into_iter().map(site).collect(),
        refused: fleet.refused(),
        samples: fleet.samples(),
        nats: picture.bus.map(|bus| (bus.connected, bus.dropped)),
    }
}
