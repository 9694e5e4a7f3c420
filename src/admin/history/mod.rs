//! The history of services and clusters: one point per second for ten minutes, one point per ten seconds for a day.

mod ring;
mod second;

pub(super) use second::{OfService, Second, tolerates};

use super::Backend;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::{Keep, SECONDS, STRETCH, STRETCHES, Series, thin};
use second::{OfCluster, Recorder};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};

/// The limit of series of ten minutes, and of series of a day.
const SERIES_MAX: usize = 12_288;
const LONG_MAX: usize = 1_024;
/// Stretches of an hour.
const HOUR: usize = 360;
/// The number of events that are kept.
const EVENTS_MAX: usize = 500;
/// The limit of values in one response; above it, the response has fewer points.
const VALUES_MAX: usize = 400_000;

/// The subject of a series: a service, a service at a cluster, or a cluster.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Owner {
    Service(String),
    Share(String, String),
    Cluster(String),
}

/// The figures of the last ten minutes and of the last day.
#[derive(Debug, Default)]
struct Figures {
    series: BTreeMap<(Owner, &'static str), Series>,
    long: usize,
    /// The number of series that were dropped because the limit was reached.
    refused: u64,
    /// The second after the newest.
    next: u64,
}

/// The history kept by the admin API.
#[derive(Debug, Default)]
pub(super) struct History {
    figures: Mutex<Figures>,
    last: Mutex<Arc<Second>>,
    recorded: Notify,
    events: Mutex<VecDeque<Value>>,
}

impl History {
    /// The figures of the last second.
    pub(super) fn last(&self) -> Arc<Second> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Dollars of a service in the last hour and in the last day, as far as they were recorded; `None` if the limit of
    /// series was reached.
    pub(super) fn usd(&self, service: &str) -> (Option<f64>, Option<f64>) {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Owner::Service(service.to_owned()), "usd_per_hour");
        let Some(series) = figures.series.get(&key).filter(|series| series.is_long()) else {
            return (None, None);
        };
        let points = series.stretches_before(figures.next, STRETCHES);
        // `sum` of nothing is -0, which would be shown as such; adding 0 makes it 0.
        let sum = |points: &[Option<f64>]| {
            (points.iter().flatten().sum::<f64>() + 0.0) * STRETCH as f64 / 3600.0
        };
        (Some(sum(&points[STRETCHES - HOUR..])), Some(sum(&points)))
    }

    /// Waits until a second is recorded that no other call has waited for.
    pub(super) async fn next(&self) -> Arc<Second> {
        self.recorded.notified().await;
        self.last()
    }

    /// Stores an event.
    pub(super) fn event(&self, event: Value) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn push(&self, at: u64, second: Second) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, of) in &second.services {
            figures.service(at, name, of);
        }
        for (name, of) in &second.clusters {
            figures.cluster(at, name, of);
        }
        figures.next = figures.next.max(at + 1);
        if at.is_multiple_of(STRETCH) {
            figures.forget(at);
        }
        drop(figures);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(second);
        self.recorded.notify_one();
    }
}

impl Figures {
    fn service(&mut self, at: u64, name: &str, of: &OfService) {
        let owner = || Owner::Service(name.to_owned());
        for (figure, keep, value) in [
            ("requests_per_s", Keep::Mean, Some(of.requests_per_s)),
            ("refused_per_s", Keep::Mean, Some(of.refused_per_s)),
            ("errors_per_s", Keep::Mean, Some(of.errors_per_s)),
            ("p50_ms", Keep::Mean, of.p50_ms),
            ("p99_ms", Keep::Greatest, of.p99_ms),
            ("forecast_rps", Keep::Mean, of.forecast_rps),
            ("usd_per_hour", Keep::Mean, Some(of.usd_per_hour)),
        ] {
            self.push((owner(), figure), keep, at, value);
        }
        for (cluster, rate) in &of.to {
            let owner = Owner::Share(name.to_owned(), cluster.clone());
            self.push((owner, "requests_per_s"), Keep::Mean, at, Some(*rate));
        }
    }

    fn cluster(&mut self, at: u64, name: &str, of: &OfCluster) {
        for (figure, keep, value) in [
            ("requests_per_s", Keep::Mean, Some(of.requests_per_s)),
            ("in_flight", Keep::Mean, Some(of.in_flight)),
            ("queue_ms", Keep::Mean, of.queue_ms),
            ("tolerates_ms", Keep::Mean, of.tolerates_ms),
            ("distance_ms", Keep::Mean, of.distance_ms),
            ("service_ms", Keep::Mean, of.service_ms),
            ("success_ratio", Keep::Mean, of.success),
            ("state", Keep::Greatest, Some(of.state)),
        ] {
            self.push((Owner::Cluster(name.to_owned()), figure), keep, at, value);
        }
    }

    fn push(&mut self, key: (Owner, &'static str), keep: Keep, at: u64, value: Option<f64>) {
        if let Some(series) = self.series.get_mut(&key) {
            series.push(at, value);
            return;
        }
        if self.series.len() == SERIES_MAX {
            self.refused += 1;
            return;
        }
        let mut series = Series::new(keep, self.long < LONG_MAX);
        self.long += usize::from(series.is_long());
        series.push(at, value);
        self.series.insert(key, series);
    }

    /// Drops the series of names that were not recorded for a day.
    fn forget(&mut self, at: u64) {
        let day = STRETCHES as u64 * STRETCH;
        self.series.retain(|_, series| series.next() + day > at);
        self.long = self.series.values().filter(|series| series.is_long()).count();
    }
}

/// Records every second, and the events in between, until the process ends.
pub(super) async fn record(backend: Arc<Backend>) {
    let mut news = backend.shared.news.subscribe();
    let mut recorder = Recorder::default();
    let mut before = Instant::now();
    // The timer fires in the middle of each second, so that a late timer does not skip a second.
    let into = (backend.now)().subsec_nanos();
    let wait = Duration::from_nanos(u64::from((1_500_000_000 - into) % 1_000_000_000));
    let mut ticks = tokio::time::interval_at(before + wait, Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            told = news.recv() => match told {
                Ok(text) => match serde_json::from_str(&text) {
                    Ok(event) => backend.memory.history.event(event),
                    Err(error) => tracing::debug!(%error, "event not stored"),
                },
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "events not stored: too many at once");
                }
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                let elapsed = before.elapsed().as_secs_f64();
                before = Instant::now();
                let totals = backend.shared.registry.exchanges();
                let second = recorder.second(&backend.shared.view.load(), totals, elapsed);
                for (service, empty) in &second.budgets {
                    backend.tell(json!({"kind": "budget", "service": service, "empty": empty}));
                }
                backend.memory.history.push((backend.now)().as_secs(), second);
            }
        }
    }
}

/// The query of `/api/v1/history`.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    /// `10m`, `1h` or `24h`.
    range: Option<String>,
    /// A name, or `*`; without service and cluster, all services and clusters.
    service: Option<String>,
    cluster: Option<String>,
    /// Names of figures, separated by commas; all figures if absent.
    figures: Option<String>,
    /// The most points in the response.
    points: Option<usize>,
}

/// The time span and the points of a response.
struct Cut {
    end: u64,
    count: usize,
    long: bool,
    each: usize,
}

impl Cut {
    fn of(&self, series: &Series) -> Vec<Option<f64>> {
        let points = match self.long {
            true => series.stretches_before(self.end, self.count),
            false => series.seconds_before(self.end, self.count),
        };
        thin(&points, self.each)
    }

    fn step_s(&self) -> u64 {
        self.each as u64 * if self.long { STRETCH } else { 1 }
    }

    /// The end of the newest second: the second after the newest point.
    fn end_s(&self) -> u64 {
        if self.long { self.end / STRETCH * STRETCH } else { self.end }
    }
}

pub(super) async fn history(
    State(backend): State<Arc<Backend>>,
    Query(question): Query<Question>,
) -> Response {
    let (count, long) = match question.range.as_deref().unwrap_or("10m") {
        "10m" => (SECONDS, false),
        "1h" => (HOUR, true),
        "24h" => (STRETCHES, true),
        _ => return (StatusCode::BAD_REQUEST, "range must be 10m, 1h or 24h\n").into_response(),
    };
    let events =
        backend.memory.history.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let figures = backend.memory.history.figures.lock().unwrap_or_else(PoisonError::into_inner);
    let text = answer(&figures, &question, count, long, &json!(events));
    drop(figures);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn answer(
    figures: &Figures,
    question: &Question,
    count: usize,
    long: bool,
    events: &Value,
) -> String {
    let everything = question.service.is_none() && question.cluster.is_none();
    let wanted = |asked: &Option<String>, name: &str| match asked {
        Some(asked) => asked == "*" || asked == name,
        None => everything,
    };
    let listed = |figure: &str| {
        question.figures.as_ref().is_none_or(|all| all.split(',').any(|known| known == figure))
    };
    let chosen: Vec<_> = figures
        .series
        .iter()
        .filter(|((owner, figure), _)| {
            listed(figure)
                && match owner {
                    Owner::Service(name) | Owner::Share(name, _) => wanted(&question.service, name),
                    Owner::Cluster(name) => wanted(&question.cluster, name),
                }
        })
        .collect();
    let most = question.points.unwrap_or(count).clamp(1, count);
    let most = most.min(VALUES_MAX / chosen.len().max(1)).max(1);
    let cut = Cut { end: figures.next, count, long, each: count.div_ceil(most) };
    let (mut services, mut shares) = (Nested::default(), BTreeMap::<&str, Nested<'_>>::new());
    let mut clusters = Nested::default();
    for ((owner, figure), series) in chosen {
        let points = written(&cut.of(series));
        match owner {
            Owner::Service(name) => services.put(name, figure, points),
            Owner::Share(name, cluster) => {
                shares.entry(name).or_default().put("to", cluster, points);
            }
            Owner::Cluster(name) => clusters.put(name, figure, points),
        }
    }
    for (name, nested) in shares {
        services.put(name, "to", nested.0.get("to").map_or("{}".to_owned(), object));
    }
    format!(
        "{{\"end\":{},\"step_s\":{},\"not_kept\":{},\"services\":{},\"clusters\":{},\"events\":{events}}}",
        cut.end_s(),
        cut.step_s(),
        figures.refused,
        services.text(),
        clusters.text()
    )
}

/// A JSON object of objects, already serialised.
#[derive(Default)]
struct Nested<'a>(BTreeMap<&'a str, BTreeMap<&'a str, String>>);

impl<'a> Nested<'a> {
    fn put(&mut self, outer: &'a str, inner: &'a str, text: String) {
        self.0.entry(outer).or_default().insert(inner, text);
    }

    fn text(&self) -> String {
        let whole = self.0.iter().map(|(name, inner)| (*name, object(inner)));
        object(&whole.collect())
    }
}

fn object(fields: &BTreeMap<&str, String>) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, text)| format!("{}:{text}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}

/// Points as JSON, with four significant digits.
fn written(points: &[Option<f64>]) -> String {
    let mut text = String::with_capacity(points.len() * 5 + 2);
    text.push('[');
    for (index, point) in points.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let decimals = |value: f64| match value {
            _ if value == 0.0 => 0,
            _ if value < 0.1 => 5,
            _ if value < 10.0 => 3,
            _ if value < 1_000.0 => 1,
            _ => 0,
        };
        // Writing to a string cannot fail.
        match point {
            Some(value) => write!(text, "{value:.0$}", decimals(*value)).unwrap_or_default(),
            None => text.push_str("null"),
        }
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(service: Option<&str>, cluster: Option<&str>, points: Option<usize>) -> Question {
        let owned = |name: &str| name.to_owned();
        let (service, cluster) = (service.map(owned), cluster.map(owned));
        Question { range: None, service, cluster, figures: None, points }
    }

    fn filled() -> Figures {
        let history = History::default();
        for at in 100..130 {
            let mut second = Second::default();
            let to = BTreeMap::from([("a\"b".to_owned(), at as f64)]);
            let of = OfService { requests_per_s: at as f64, to, ..OfService::default() };
            second.services.insert("shop".to_owned(), of);
            second.clusters.insert("a\"b".to_owned(), OfCluster::default());
            history.push(at, second);
        }
        history.figures.into_inner().unwrap()
    }

    #[test]
    fn an_answer_has_what_was_asked_and_ends_with_the_newest_second() {
        let figures = filled();
        let told = |question: &Question| -> Value {
            serde_json::from_str(&answer(&figures, question, SECONDS, false, &json!([]))).unwrap()
        };
        let all = told(&question(None, None, None));
        let rates = all["services"]["shop"]["requests_per_s"].as_array().unwrap();
        assert_eq!((rates.len(), all["end"].as_u64()), (SECONDS, Some(130)));
        assert!((rates[SECONDS - 1].as_f64().unwrap() - 129.0).abs() < 0.1);
        assert!(rates[SECONDS - 31].is_null());
        assert!(all["services"]["shop"]["to"]["a\"b"][SECONDS - 1].is_f64());
        assert!(all["clusters"]["a\"b"]["queue_ms"][SECONDS - 1].is_null());
        let one = told(&question(None, Some("a\"b"), Some(60)));
        assert!(one["services"].as_object().unwrap().is_empty());
        assert_eq!(one["clusters"]["a\"b"]["state"].as_array().unwrap().len(), 60);
        assert_eq!(one["step_s"], 10);
    }

    #[test]
    fn series_beyond_the_bound_are_counted_and_names_are_forgotten_after_a_day() {
        let mut figures = Figures::default();
        for index in 0..=SERIES_MAX {
            let key = (Owner::Cluster(index.to_string()), "state");
            figures.push(key, Keep::Mean, 1_000, Some(1.0));
        }
        assert_eq!((figures.series.len(), figures.refused), (SERIES_MAX, 1));
        assert_eq!(figures.long, LONG_MAX);
        figures.forget(1_000 + 86_402);
        assert_eq!((figures.series.len(), figures.long), (0, 0));
    }

    #[test]
    fn dollars_of_an_hour_without_a_point_are_zero_without_a_sign() {
        let mut figures = Figures::default();
        let key = (Owner::Service("shop".to_owned()), "usd_per_hour");
        figures.push(key, Keep::Mean, 1_000, None);
        figures.next = 1_001;
        let history = History { figures: Mutex::new(figures), ..History::default() };

        let (hour, day) = history.usd("shop");

        assert_eq!([hour, day].map(|usd| usd.unwrap().to_bits()), [0; 2]);
    }

    #[test]
    fn events_are_bounded() {
        let history = History::default();
        (0..EVENTS_MAX + 5).for_each(|number| history.event(json!(number)));
        let events = history.events.into_inner().unwrap();
        assert_eq!((events.len(), &events[0]), (EVENTS_MAX, &json!(5)));
    }
}
