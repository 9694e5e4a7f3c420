//! The request for an operation: parsed, and checked against the plan and the current state.

use crate::admin::expect::{Asked, shift_of};
use crate::admin::history::Second;
use crate::decision::change::{Change, Shift};
use crate::decision::operation::{Kind, Limits, OfService, Seen, Span};
use crate::decision::plan::{Class, ClassIndex, ClusterIndex, Plan, ServiceIndex, Strategy};
use crate::decision::signal::ClassSignals;
use crate::shared::View;
use axum::http::StatusCode;
use serde::Deserialize;
use std::time::Duration;

/// The bounds of a drill and of a shift, in seconds.
const DRILL: (u64, u64) = (5, 3_600);
const SHIFT: (u64, u64) = (10, 86_400);

/// The body of the request.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Wanted {
    Drill {
        site: String,
        for_s: u64,
        #[serde(default = "all")]
        percent: u8,
        #[serde(default)]
        force: bool,
        #[serde(default = "one")]
        max_errors_percent: f64,
        max_p99_ms: Option<f64>,
    },
    Shift {
        service: String,
        from: String,
        to: String,
        over_s: u64,
        #[serde(default = "all")]
        percent: u8,
        #[serde(default)]
        force: bool,
        #[serde(default = "one")]
        max_errors_percent: f64,
        max_p99_ms: Option<f64>,
    },
}

fn all() -> u8 {
    100
}

fn one() -> f64 {
    1.0
}

/// What moves.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// All services of a site.
    Site(String),
    /// A service, from one cluster to another.
    Service { service: String, from: String, to: String },
}

/// A checked request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) subject: Subject,
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) limits: Limits,
    pub(super) force: bool,
}

/// The status and the text of a refusal.
pub(super) type Refusal = (StatusCode, String);

fn refuse(status: StatusCode, text: &str) -> Refusal {
    (status, format!("{text}\n"))
}

/// Parses and checks a request; whether other clusters can carry the traffic is not checked here.
pub(super) fn order(body: &[u8], view: &View) -> Result<Order, Refusal> {
    let wanted: Wanted = serde_json::from_slice(body)
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, &format!("invalid body: {error}")))?;
    match wanted {
        Wanted::Drill { site, for_s, percent, force, max_errors_percent, max_p99_ms } => {
            if !view.plan.clusters.iter().any(|cluster| cluster.site == site) {
                let text = format!("no cluster has the site `{site}`");
                return Err(refuse(StatusCode::NOT_FOUND, &text));
            }
            let lasts = within("for_s", for_s, DRILL)?;
            let span = Span { start: 0, target: percentage(percent)? };
            let limits = limits(max_errors_percent, max_p99_ms)?;
            Ok(Order {
                subject: Subject::Site(site),
                kind: Kind::Drill { lasts },
                span,
                limits,
                force,
            })
        }
        Wanted::Shift {
            service,
            from,
            to,
            over_s,
            percent,
            force,
            max_errors_percent,
            max_p99_ms,
        } => {
            let over = within("over_s", over_s, SHIFT)?;
            let limits = limits(max_errors_percent, max_p99_ms)?;
            let shift = Shift { from, to, percent: percentage(percent)? };
            let (subject, span) = shifted(view, service, shift)?;
            Ok(Order { subject, kind: Kind::Shift { over }, span, limits, force })
        }
    }
}

fn within(name: &str, seconds: u64, (least, most): (u64, u64)) -> Result<Duration, Refusal> {
    match (least..=most).contains(&seconds) {
        true => Ok(Duration::from_secs(seconds)),
        false => {
            let text = format!("{name} must be from {least} to {most}");
            Err(refuse(StatusCode::BAD_REQUEST, &text))
        }
    }
}

fn percentage(percent: u8) -> Result<u8, Refusal> {
    match (1..=100).contains(&percent) {
        true => Ok(percent),
        false => Err(refuse(StatusCode::BAD_REQUEST, "percent must be from 1 to 100")),
    }
}

fn limits(errors_percent: f64, p99_ms: Option<f64>) -> Result<Limits, Refusal> {
    if !(0.0..=100.0).contains(&errors_percent) {
        let text = "max_errors_percent must be from 0 to 100";
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    }
    if p99_ms.is_some_and(|ms| !(ms.is_finite() && ms > 0.0)) {
        return Err(refuse(StatusCode::BAD_REQUEST, "max_p99_ms must be above 0"));
    }
    Ok(Limits { errors: errors_percent / 100.0, p99: p99_ms.map(|ms| ms / 1e3) })
}

/// The subject and the span of a shift. A shift against the one in force takes that one back.
fn shifted(view: &View, service: String, wanted: Shift) -> Result<(Subject, Span), Refusal> {
    let plan = &view.plan;
    let Some(index) = plan.services.find(|known| known.name == service) else {
        return Err(refuse(StatusCode::NOT_FOUND, &format!("no service `{service}`")));
    };
    let Shift { from, to, percent } = wanted;
    for name in [&from, &to] {
        let is_named = |cluster: &ClusterIndex| plan.clusters[*cluster].name == *name;
        if !plan.services[index].clusters.iter().any(is_named) {
            let text = format!("service `{service}` has no cluster `{name}`");
            return Err(refuse(StatusCode::NOT_FOUND, &text));
        }
    }
    let moves = |at: ClassIndex| {
        permits(plan, &plan.classes[at], &from) && permits(plan, &plan.classes[at], &to)
    };
    if !classes(plan, index).any(moves) {
        let text = format!("both `{from}` and `{to}` are permitted for no request of `{service}`");
        return Err(refuse(StatusCode::CONFLICT, &text));
    }
    if from == to {
        return Err(refuse(StatusCode::BAD_REQUEST, "from and to are the same cluster"));
    }
    if plan.services[index].strategy != Strategy::Nearest {
        let text =
            format!("a shift needs strategy nearest, which service `{service}` does not have");
        return Err(refuse(StatusCode::CONFLICT, &text));
    }
    let undo = format!("POST /api/v1/services/{service}/undrain removes it");
    let (from, to, span) = match shift_in_force(view, index) {
        None => (from, to, Span { start: 0, target: percent }),
        Some(known) if known.from == from && known.to == to => {
            if known.percent >= percent {
                let text = format!("{} % are shifted already; {undo}", known.percent);
                return Err(refuse(StatusCode::CONFLICT, &text));
            }
            (from, to, Span { start: known.percent, target: percent })
        }
        Some(known) if known.from == to && known.to == from && percent == 100 => {
            (to, from, Span { start: known.percent, target: 0 })
        }
        Some(known) => {
            let text = format!("a shift from {} to {} is in force; {undo}", known.from, known.to);
            return Err(refuse(StatusCode::CONFLICT, &text));
        }
    };
    Ok((Subject::Service { service, from, to }, span))
}

fn permits(plan: &Plan, class: &Class, cluster: &str) -> bool {
    class.permitted.clusters.iter().any(|at| plan.clusters[*at].name == cluster)
}

fn classes(plan: &Plan, service: ServiceIndex) -> impl Iterator<Item = ClassIndex> + '_ {
    plan.classes.enumerated().filter(move |(_, class)| class.service == service).map(|(at, _)| at)
}

fn shift_in_force(view: &View, service: ServiceIndex) -> Option<Shift> {
    let signals = classes(&view.plan, service).filter_map(|at| view.signals.classes.get(at));
    signals.into_iter().find_map(|class| shift_of(&view.plan, class))
}

impl Order {
    /// The change at this part of the traffic, in percent.
    pub(super) fn change(&self, percent: u8) -> Change {
        match &self.subject {
            Subject::Site(site) => {
                Change::Site { site: site.clone(), percent: 100 - percent.min(100) }
            }
            Subject::Service { service, .. } => {
                Change::Shift { service: service.clone(), shift: self.shift(percent) }
            }
        }
    }

    /// The shift at this part of the traffic; `None` for a drill, and for no traffic.
    pub(super) fn shift(&self, percent: u8) -> Option<Shift> {
        let Subject::Service { from, to, .. } = &self.subject else { return None };
        (percent > 0).then(|| Shift { from: from.clone(), to: to.clone(), percent })
    }

    /// The question to the simulation.
    pub(super) fn asked(&self, plan: &Plan) -> Option<Asked> {
        match &self.subject {
            Subject::Site(site) => Some(Asked::site(plan, site, 100 - self.span.target)),
            Subject::Service { service, .. } => {
                let service = plan.services.find(|known| known.name == *service)?;
                Some(Asked::Shift { service, shift: self.shift(self.span.target) })
            }
        }
    }

    fn concerns(&self, plan: &Plan, class: &Class) -> bool {
        match &self.subject {
            Subject::Site(site) => {
                class.permitted.clusters.iter().any(|at| plan.clusters[*at].site == *site)
            }
            // Requests that may not use both clusters do not move.
            Subject::Service { service, from, to } => {
                plan.services[class.service].name == *service
                    && permits(plan, class, from)
                    && permits(plan, class, to)
            }
        }
    }

    /// Whether the traffic of a class can go where it should.
    fn has_target(&self, plan: &Plan, signals: &ClassSignals) -> bool {
        let mut live = signals.choices.iter().map(|choice| &plan.clusters[choice.cluster]);
        match &self.subject {
            Subject::Site(_) if self.span.target < 100 => true,
            Subject::Site(site) => live.any(|cluster| cluster.site != *site),
            Subject::Service { from, to, .. } => {
                let target = if self.span.target > self.span.start { to } else { from };
                live.any(|cluster| cluster.name == *target)
            }
        }
    }

    /// A service whose traffic has nowhere to go.
    pub(super) fn nowhere(&self, view: &View) -> Option<String> {
        let plan = &view.plan;
        let mut classes = plan.classes.iter().zip(&view.signals.classes);
        let stuck = classes
            .find(|(class, signals)| self.concerns(plan, class) && !self.has_target(plan, signals));
        stuck.map(|(class, _)| plan.services[class.service].name.clone())
    }

    /// The figures of the last second of all services that are watched.
    pub(super) fn seen(&self, view: &View, second: &Second) -> Seen {
        let plan = &view.plan;
        let watched = plan.classes.iter().filter(|class| self.concerns(plan, class));
        let figures = |class: &Class| {
            let name = &plan.services[class.service].name;
            let of = second.services.get(name)?;
            let one = OfService {
                rate: of.requests_per_s,
                failed: of.refused_per_s + of.errors_per_s,
                p99: of.p99_ms.map(|ms| ms / 1e3),
                to: of.to.clone(),
            };
            Some((name.clone(), one))
        };
        let services = watched.filter_map(figures).collect();
        Seen { services, nowhere: self.nowhere(view).filter(|_| !self.force) }
    }

    /// `drill` or `shift`.
    pub(super) fn label(&self) -> &'static str {
        match self.subject {
            Subject::Site(_) => "drill",
            Subject::Service { .. } => "shift",
        }
    }

    /// The kind and the name of the subject, as the audit log has them.
    pub(super) fn named(&self) -> (&'static str, &str) {
        match &self.subject {
            Subject::Site(site) => ("sites", site),
            Subject::Service { service, .. } => ("services", service),
        }
    }
}
