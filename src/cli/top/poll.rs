//! The threads that talk to the proxy, so that no answer is waited for between two keys.
//!
//! One thread polls once a second, one asks what is expected of a change, one makes changes. All three send [`News`]
//! through one bounded queue. A thread that waits for the proxy delays nothing but its own next answer.

use super::dialog::{Change, Expectation};
use super::model::News;
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
/// How long the proxy may take for a change.
const CHANGES: Duration = Duration::from_secs(15);

/// The threads.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) news: Receiver<News>,
    questions: SyncSender<(u64, Change)>,
    changes: SyncSender<(u64, Change)>,
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
        thread::spawn(move || {
            answer(&asked, &out, |change| expected(&own, change), News::Expected)
        });
        let own = remote.clone();
        thread::spawn(move || {
            answer(&wanted, &send_news, |change| act(&own, change), News::Changed)
        });
        Threads { news, questions, changes, wake }
    }

    /// Asks what is expected of a change; at once answered with a reason where another question is open.
    pub(super) fn ask(&self, ticket: u64, change: Change) -> Option<News> {
        let busy = || News::Expected(ticket, Err("the last question is still open".to_owned()));
        self.questions.try_send((ticket, change)).is_err().then(busy)
    }

    /// Makes a change; at once answered with a reason where another change is under way.
    pub(super) fn act(&self, ticket: u64, change: Change) -> Option<News> {
        let busy = || News::Changed(ticket, Err("the last change is still under way".to_owned()));
        self.changes.try_send((ticket, change)).is_err().then(busy)
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
    Ok(World { status, clusters, services, fleet: fleet.clone(), history: history.clone() })
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
    wanted: &Receiver<(u64, Change)>,
    news: &SyncSender<News>,
    ask: impl Fn(&Change) -> Result<T, String>,
    told: impl Fn(u64, Result<T, String>) -> News,
) {
    while let Ok((ticket, change)) = wanted.recv() {
        if news.send(told(ticket, ask(&change))).is_err() {
            return;
        }
    }
}

fn expected(remote: &Remote, change: &Change) -> Result<Expectation, String> {
    let mut path =
        format!("/api/v1/expect?kind={}&name={}", change.kind.path(), escaped(&change.name));
    if let Some(percent) = change.percent {
        path.push_str(&format!("&percent={percent}"));
    }
    let call = Call { method: "GET", path: &path, body: None, timeout: SIMULATES };
    let started = Instant::now();
    loop {
        let answer = remote.send(&call)?;
        match answer.status {
            200 => {
                return serde_json::from_str(&answer.body).map_err(|error| error.to_string());
            }
            // Another simulation runs.
            503 if started.elapsed() < SIMULATES => {
                thread::park_timeout(Duration::from_millis(300))
            }
            _ => return Err(refusal(&path, &answer)),
        }
    }
}

/// Makes a change; returns the proxy's warning.
fn act(remote: &Remote, change: &Change) -> Result<Option<String>, String> {
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
