//! The threads that talk to the proxy, so that no answer is waited for between two keys.
//!
//! One thread polls once a second, one asks what is expected of a change, one makes changes. All three send [`News`]
//! through one bounded queue. A thread that waits for the proxy delays nothing but its own next answer.

use super::dialog::{Act, Change, Expectation};
use super::model::News;
use super::operation::Operation;
use super::world::{Fleet, History, World};
use crate::admin::client::{Answer, Call, Remote, escaped};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

/// News that are not read yet, at most: a thread waits while the queue is full.
const NEWS_MAX: usize = 8;
/// From the end of a poll to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The fleet and the history are asked at every second poll: they change slowly or are long.
const SLOW: u64 = 2;
/// How long the proxy may simulate, and how long to wait for another simulation to end.
const SIMULATES: Duration = Duration::from_secs(20);
/// The path of drills and shifts.
const OPERATIONS: &str = "/api/v1/operations";
/// How long the proxy may take for a change.
const CHANGES: Duration = Duration::from_secs(15);

/// The threads.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) news: Receiver<News>,
    questions: SyncSender<(u64, Act)>,
    changes: SyncSender<(u64, Act)>,
    wake: SyncSender<()>,
}

impl Threads {
    /// Starts the threads. They end when this is dropped, after the answer that they wait for.
    pub(super) fn start(remote: &Remote) -> Threads {
        let (send_news, news) = sync_channel(NEWS_MAX);
        let (wake, woken) = sync_channel(1);
        let (questions, asked) = sync_channel(1);
        let (changes, wanted) = sync_channel(1);
        let (own, out) = (remote.clone(), send_news.clone());
        thread::spawn(move || poll(&own, &out, &woken));
        let (own, out) = (remote.clone(), send_news.clone());
        thread::spawn(move || answer(&asked, &out, |act| expected(&own, act), News::Expected));
        let own = remote.clone();
        thread::spawn(move || {
            answer(&wanted, &send_news, |wanted| act(&own, wanted), News::Changed)
        });
        Threads { news, questions, changes, wake }
    }

    /// Asks what is expected of a change; at once answered with a reason where another question is open.
    pub(super) fn ask(&self, ticket: u64, act: Act) -> Option<News> {
        let busy = || News::Expected(ticket, Err("the last question is still open".to_owned()));
        self.questions.try_send((ticket, act)).is_err().then(busy)
    }

    /// Makes a change; at once answered with a reason where another change is under way.
    pub(super) fn act(&self, ticket: u64, act: Act) -> Option<News> {
        let busy = || News::Changed(ticket, Err("the last change is still under way".to_owned()));
        self.changes.try_send((ticket, act)).is_err().then(busy)
    }

    /// Polls soon.
    pub(super) fn poll_soon(&self) {
        if self.wake.try_send(()).is_err() {
            tracing::trace!("a poll is due already");
        }
    }
}

fn poll(remote: &Remote, news: &SyncSender<News>, wake: &Receiver<()>) {
    let (mut fleet, mut history) = (None, History::default());
    for round in 0_u64.. {
        let slow = round.is_multiple_of(SLOW);
        let told = world(remote, slow, &mut fleet, &mut history);
        let told = told.map_or_else(News::Lost, |world| News::Seen(Box::new(world)));
        if news.send(told).is_err() {
            return;
        }
        match wake.recv_timeout(PAUSE) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn world(
    remote: &Remote,
    slow: bool,
    fleet: &mut Option<Fleet>,
    history: &mut History,
) -> Result<World, String> {
    let status = read(remote, "/api/v1/status")?;
    let clusters = read(remote, "/api/v1/clusters")?;
    let services = read(remote, "/api/v1/services")?;
    if slow {
        *fleet = Some(read(remote, "/api/v1/fleet")?);
        let path = "/api/v1/history?range=10m&service=*&figures=requests_per_s&points=120";
        *history = read(remote, path)?;
    }
    let operations = read(remote, OPERATIONS)?;
    let (fleet, history) = (fleet.clone(), history.clone());
    Ok(World { status, clusters, services, operations, fleet, history })
}

fn read<T: DeserializeOwned>(remote: &Remote, path: &str) -> Result<T, String> {
    let answer = remote.get(path)?;
    if answer.status != 200 {
        return Err(refusal(path, &answer));
    }
    serde_json::from_str(&answer.body).map_err(|error| {
        let short = path.split('?').next().unwrap_or(path);
        format!("cannot read {short}: {error}")
    })
}

fn refusal(path: &str, answer: &Answer) -> String {
    let short = path.split('?').next().unwrap_or(path);
    format!("{short} answers {}: {}", answer.status, answer.body.trim())
}

/// Answers one question or change after the other.
fn answer<T>(
    wanted: &Receiver<(u64, Act)>,
    news: &SyncSender<News>,
    ask: impl Fn(&Act) -> Result<T, String>,
    told: impl Fn(u64, Result<T, String>) -> News,
) {
    while let Ok((ticket, act)) = wanted.recv() {
        if news.send(told(ticket, ask(&act))).is_err() {
            return;
        }
    }
}

fn expected(remote: &Remote, act: &Act) -> Result<Expectation, String> {
    let query = match act {
        Act::Dial(Change { kind, name, percent }) => {
            let percent = percent.map_or(String::new(), |percent| format!("&percent={percent}"));
            format!("kind={}&name={}{percent}", kind.path(), escaped(name))
        }
        Act::Begin(operation) => operation.query(),
        Act::Abort(_) => return Ok(Expectation::default()),
    };
    let path = format!("/api/v1/expect?{query}");
    let answer =
        simulated(remote, &Call { method: "GET", path: &path, body: None, timeout: SIMULATES })?;
    match answer.status {
        200 => serde_json::from_str(&answer.body).map_err(|error| error.to_string()),
        _ => Err(refusal(&path, &answer)),
    }
}

/// The answer to a request for which the proxy simulates; another simulation is waited for.
fn simulated(remote: &Remote, call: &Call<'_>) -> Result<Answer, String> {
    let started = Instant::now();
    loop {
        let answer = remote.send(call)?;
        if answer.status != 503 || started.elapsed() >= SIMULATES {
            return Ok(answer);
        }
        thread::park_timeout(Duration::from_millis(300));
    }
}

/// Does it; returns the proxy's warning.
fn act(remote: &Remote, act: &Act) -> Result<Option<String>, String> {
    match act {
        Act::Dial(change) => dial(remote, change),
        Act::Begin(operation) => begin(remote, operation).map(|()| None),
        Act::Abort(id) => {
            let path = format!("{OPERATIONS}/{id}");
            let call = Call { method: "DELETE", path: &path, body: None, timeout: CHANGES };
            let answer = remote.send(&call)?;
            if answer.status == 200 { Ok(None) } else { Err(refusal(&path, &answer)) }
        }
    }
}

fn begin(remote: &Remote, operation: &Operation) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Refused {
        refusal: String,
    }
    let body = operation.body();
    let call = Call { method: "POST", path: OPERATIONS, body: Some(&body), timeout: SIMULATES };
    let answer = simulated(remote, &call).map_err(|error| {
        format!("{error}. It is not known whether it has begun: look at the second line")
    })?;
    let refused = || serde_json::from_str(&answer.body).ok().map(|told: Refused| told.refusal);
    match answer.status {
        202 => Ok(()),
        422 => Err(refused().unwrap_or_else(|| refusal(OPERATIONS, &answer))),
        _ => Err(refusal(OPERATIONS, &answer)),
    }
}

fn dial(remote: &Remote, change: &Change) -> Result<Option<String>, String> {
    let base = format!("/api/v1/{}/{}", change.kind.path(), escaped(&change.name));
    let (method, path, body) = match change.percent {
        Some(0) => ("POST", format!("{base}/drain"), None),
        None => ("POST", format!("{base}/undrain"), None),
        Some(percent) => {
            ("PUT", format!("{base}/dial"), Some(format!("{{\"percent\": {percent}}}")))
        }
    };
    let call = Call { method, path: &path, body: body.as_deref(), timeout: CHANGES };
    let answer = remote.send(&call).map_err(|error| {
        format!("{error}. It is not known whether the change is in force: look at the table")
    })?;
    match answer.status {
        200 => Ok(warning(&answer.body)),
        _ => Err(refusal(&path, &answer)),
    }
}

fn warning(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        warning: Option<String>,
    }
    serde_json::from_str(body).ok().and_then(|told: Told| told.warning)
}
