//! Endpoints from Kubernetes: the EndpointSlices of a Service, listed once and watched from then on.
//!
//! Each cluster has its own thread. The answer of an API server can be large, and a plugin of a kubeconfig can hang:
//! neither may delay other clusters, a reload or the admin API.
//!
//! # Invariants
//! * Only a complete list, or an event of a watch that follows one, changes endpoints. After any failure the last
//!   endpoints stay, and the list is read anew, with new credentials.
//! * A list without slices empties the cluster at once.
//! * Every wait has a deadline, every answer a bound.

mod api;
mod slices;

use super::Teller;
use super::api_health::Fault;
use crate::decision::plan::Kubernetes;
use crate::decision::units::Dice;
use crate::os::clock;
use api::{Api, Events, Failure, SILENCE, Told};
use slices::{Remarks, Slices, Wanted};
use std::future::Future;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The first delay after a failure; it doubles with each further failure.
const DELAY_FIRST: Duration = Duration::from_millis(250);
/// The longest delay after a failure.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// How long a list must be followed before the next delay is the first one again.
const STEADY: Duration = Duration::from_secs(30);
/// The time after which the list is read anew, so that an event that was lost for any reason does no lasting harm.
const RESYNC: Duration = Duration::from_secs(600);
/// The shortest time between two changes of endpoints: a rolling update or a hostile server must not keep the control
/// thread busy.
const GAP: Duration = Duration::from_millis(100);
/// A watch that ends within this time without an event counts as short.
const WATCH_MIN: Duration = Duration::from_secs(1);
/// So many short watches in a row are a failure.
const SHORT_MAX: u32 = 3;
/// The time until a thread that ended unexpectedly starts again.
const RESTART: Duration = Duration::from_secs(30);
/// Lines of the log at once about what slices contain, and the time until a further one.
const LOG_BURST: u32 = 10;
const LOG_GAP: Duration = Duration::from_secs(10);
/// Threads that wait for the plugin of a kubeconfig or for DNS.
const WAITING_MAX: usize = 4;

/// Follows a Service. The thread ends soon after this future is dropped.
pub(super) async fn follow(source: Kubernetes, teller: Teller) {
    loop {
        let (_keep, stop) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel::<()>();
        let (source, work_teller) = (source.clone(), teller.clone());
        let work = move || {
            let _ended = ended;
            run(source, work_teller, stop)
        };
        let spawned = std::thread::Builder::new().name("kubernetes".to_owned()).spawn(work);
        let cluster = &teller.cluster;
        match spawned {
            Ok(_) => drop(end.await),
            Err(error) => tracing::error!(cluster, %error, "no thread to follow Kubernetes"),
        }
        tracing::error!(cluster, "cluster {cluster} does not follow Kubernetes for {RESTART:?}");
        tokio::time::sleep(RESTART).await;
    }
}

fn run(source: Kubernetes, teller: Teller, stop: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(WAITING_MAX)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(cluster = teller.cluster, %error, "no runtime to follow Kubernetes");
            return;
        }
    };
    let connect = || api::connect(&source);
    let follower = Follower::new(teller, &source);
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = stop => {}
            () = follower.follow(connect) => {}
        }
    });
    // A plugin that hangs must not keep the thread.
    runtime.shutdown_background();
}

/// Follows one Service, and tells what it finds.
struct Follower {
    teller: Teller,
    source: Kubernetes,
    slices: Slices,
    /// When the endpoints last changed.
    published: Option<Instant>,
    /// Whether the slices changed since then.
    is_dirty: bool,
    /// Short watches in a row.
    short_watches: u32,
    dice: Dice,
    /// The failure that was logged last, until it is over.
    logged: Option<Fault>,
    /// The remarks that were logged last.
    remarks: Remarks,
    /// Whether the log last said that the Service has no slices.
    is_empty: bool,
    log: LogBudget,
}

impl Follower {
    fn new(teller: Teller, source: &Kubernetes) -> Follower {
        teller.count_api(|_| ());
        Follower {
            teller,
            source: source.clone(),
            slices: Slices::default(),
            published: None,
            is_dirty: false,
            short_watches: 0,
            dice: Dice::seeded(clock::entropy()),
            logged: None,
            remarks: Remarks::default(),
            is_empty: false,
            log: LogBudget { left: LOG_BURST, refilled: Instant::now() },
        }
    }

    async fn follow<C, F>(mut self, connect: C)
    where
        C: Fn() -> F,
        F: Future<Output = Result<Api, Failure>>,
    {
        let mut failures = 0;
        loop {
            let begin = Instant::now();
            let failure = match self.session(&connect).await {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            self.failed(&failure);
            failures = if begin.elapsed() < STEADY { failures + 1 } else { 1 };
            tokio::time::sleep(delay(failures, self.dice.unit())).await;
        }
    }

    /// Lists and watches until the list must be read anew, or a failure.
    async fn session<C, F>(&mut self, connect: &C) -> Result<(), Failure>
    where
        C: Fn() -> F,
        F: Future<Output = Result<Api, Failure>>,
    {
        let api = connect().await?;
        let wanted = Wanted {
            namespace: self.source.namespace.clone().unwrap_or_else(|| api.namespace.clone()),
            service: self.source.service.clone(),
            port: self.source.port.clone(),
            // Only an API server on this host can know endpoints on this host.
            allow_loopback: api.is_local,
            allow_link_local: self.teller.allow_link_local,
        };
        let (listed, mut version) = api.list(&wanted.namespace, &wanted.service).await?;
        let (mut slices, mut remarks) = (Slices::default(), Remarks::default());
        for slice in listed {
            slices.put(slice, &wanted, &mut remarks).map_err(too_large)?;
        }
        self.slices = slices;
        self.answered();
        self.remark(remarks, &wanted);
        self.is_dirty = true;
        // Jitter: proxies that started at the same time must not relist at the same time.
        let resync = Instant::now() + RESYNC.mul_f64(0.75 + self.dice.unit() / 2.0);
        while Instant::now() < resync {
            self.publish_if_due().await;
            let watch = self.watch(&api, &wanted, &mut version);
            if let Ok(ended) = tokio::time::timeout_at(resync, watch).await {
                ended?;
            }
        }
        Ok(())
    }

    /// Follows one watch to its end.
    async fn watch(
        &mut self,
        api: &Api,
        wanted: &Wanted,
        version: &mut String,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let mut events = api.watch(&wanted.namespace, &wanted.service, version).await?;
        self.answered();
        self.recovered();
        let mut seen = false;
        while let Some(told) = self.next(&mut events).await {
            seen = true;
            let mut remarks = Remarks::default();
            for told in told? {
                *version = self.apply(told, wanted, &mut remarks)?;
            }
            self.answered();
            self.remark(remarks, wanted);
            self.publish_if_due().await;
        }
        let is_short = !seen && begin.elapsed() < WATCH_MIN;
        self.short_watches = if is_short { self.short_watches + 1 } else { 0 };
        match self.short_watches {
            0 => Ok(()),
            1..SHORT_MAX => {
                tokio::time::sleep(delay(self.short_watches, self.dice.unit())).await;
                Ok(())
            }
            _ => Err(Failure::new(Fault::Connect, "watches end at once")),
        }
    }

    /// The next events; publishes changes that had to wait. `None` at the end of the watch, or after too long a silence:
    /// a new watch shows whether the server still answers.
    async fn next(&mut self, events: &mut Events) -> Option<Result<Vec<Told>, Failure>> {
        let silent = Instant::now() + SILENCE;
        while self.is_dirty {
            let due = self.due();
            match tokio::time::timeout_at(due, events.next()).await {
                Ok(told) => return told,
                Err(_) => self.publish_if_due().await,
            }
        }
        tokio::time::timeout_at(silent, events.next()).await.ok()?
    }

    /// Applies an event; returns the version after it.
    fn apply(
        &mut self,
        told: Told,
        wanted: &Wanted,
        remarks: &mut Remarks,
    ) -> Result<String, Failure> {
        let version = match told {
            Told::Version(version) => return Ok(version),
            Told::Removed(slice) => {
                self.slices.remove(&slice);
                slice.metadata.resource_version
            }
            Told::Put(slice) => {
                let version = slice.metadata.resource_version.clone();
                self.slices.put(slice, wanted, remarks).map_err(too_large)?;
                version
            }
        };
        self.is_dirty = true;
        Ok(version)
    }

    fn due(&self) -> Instant {
        self.published.map_or_else(Instant::now, |published| published + GAP)
    }

    async fn publish_if_due(&mut self) {
        if self.is_dirty && self.due() <= Instant::now() {
            self.is_dirty = false;
            self.published = Some(Instant::now());
            self.note_emptiness();
            self.teller.tell(self.slices.endpoints()).await;
        }
    }

    /// Notes an answer of the API server.
    fn answered(&self) {
        self.teller.count_api(|health| health.answered = Some(clock::now()));
    }

    /// Logs when the Service loses its last slice, and when it has one again.
    fn note_emptiness(&mut self) {
        let is_empty = self.slices.is_empty();
        if is_empty == self.is_empty || !self.log.take() {
            return;
        }
        self.is_empty = is_empty;
        let (cluster, service) = (&self.teller.cluster, &self.source.service);
        if is_empty {
            tracing::warn!(cluster, "Service {service} of cluster {cluster} has no EndpointSlices");
        } else {
            tracing::info!(
                cluster,
                "Service {service} of cluster {cluster} has EndpointSlices again"
            );
        }
    }

    /// Logs the end of failures: a watch is open.
    fn recovered(&mut self) {
        let cluster = &self.teller.cluster;
        if self.logged.take().is_some() {
            tracing::info!(cluster, "cluster {cluster} follows Kubernetes again");
        }
    }

    /// Counts a failure, and logs the first of a kind.
    fn failed(&mut self, failure: &Failure) {
        let Failure { fault, text } = failure;
        self.teller.count_api(|health| health.count(*fault));
        // A version is gone after any longer pause; reading the list anew is the remedy, not a problem.
        if *fault == Fault::Expired || self.logged == Some(*fault) {
            return;
        }
        self.logged = Some(*fault);
        let (cluster, reason) = (&self.teller.cluster, fault.label());
        tracing::warn!(
            cluster,
            reason,
            "cluster {cluster} does not follow Kubernetes, the last endpoints stay: {text}"
        );
    }

    /// Counts what is wrong about slices, and logs it when it changes.
    fn remark(&mut self, remarks: Remarks, wanted: &Wanted) {
        for (fault, count) in [
            (Fault::Address, remarks.addresses.len()),
            (Fault::Port, remarks.without_port),
            (Fault::Foreign, remarks.foreign),
        ] {
            self.teller.count_api(|health| (0..count).for_each(|_| health.count(fault)));
        }
        if remarks == Remarks::default() || remarks == self.remarks || !self.log.take() {
            return;
        }
        let (cluster, Wanted { service, port, .. }) = (&self.teller.cluster, wanted);
        if let Some(first) = remarks.addresses.first() {
            let (count, first) = (remarks.addresses.len(), first.chars().take(64));
            let first = first.collect::<String>();
            tracing::warn!(
                cluster,
                "{count} addresses of Service {service} of cluster {cluster} ignored: {first:?} cannot be an endpoint"
            );
        }
        if remarks.without_port > 0 {
            tracing::warn!(
                cluster,
                "EndpointSlices of Service {service} of cluster {cluster} ignored: no port {port:?}"
            );
        }
        if remarks.foreign > 0 {
            tracing::warn!(
                cluster,
                "EndpointSlices in an answer for Service {service} of cluster {cluster} ignored: they belong to another one"
            );
        }
        self.remarks = remarks;
    }
}

/// Bounds the lines of the log that an API server can cause.
struct LogBudget {
    left: u32,
    refilled: Instant,
}

impl LogBudget {
    /// Whether a further line may be logged.
    fn take(&mut self) -> bool {
        let gained = self.refilled.elapsed().as_secs() / LOG_GAP.as_secs();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(LOG_BURST);
            self.left = self.left.saturating_add(gained).min(LOG_BURST);
            self.refilled = Instant::now();
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

fn too_large(text: String) -> Failure {
    Failure::new(Fault::TooLarge, text)
}

/// The delay after this many failures in a row, with `chance` in `0.0..1.0`: between half and the whole of the
/// exponential delay, so that proxies that lost their server together do not return together.
fn delay(failures: u32, chance: f64) -> Duration {
    let whole = DELAY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(DELAY_MAX);
    whole.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::assess::Event;
    use crate::shared::View;
    use bytes::Bytes;
    use hyper::body::Frame;
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};
    use tokio::sync::mpsc;

    /// A body of these frames, which arrive 10 ms apart; then it ends, or is silent forever.
    struct Body {
        frames: VecDeque<String>,
        ends: bool,
        wait: Option<Pin<Box<tokio::time::Sleep>>>,
    }

    impl Body {
        fn whole(text: String) -> Body {
            Body { frames: [text].into(), ends: true, wait: None }
        }

        fn silent_after(frames: Vec<String>) -> Body {
            Body { frames: frames.into(), ends: false, wait: None }
        }
    }

    impl hyper::body::Body for Body {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.frames.is_empty() {
                return if self.ends { Poll::Ready(None) } else { Poll::Pending };
            }
            let pause = || Box::pin(tokio::time::sleep(Duration::from_millis(10)));
            let wait = self.wait.get_or_insert_with(pause);
            std::task::ready!(wait.as_mut().poll(context));
            self.wait = None;
            Poll::Ready(self.frames.pop_front().map(|text| Ok(Frame::data(text.into()))))
        }
    }

    /// The answer to a request; `None` is none at all.
    type Script = fn(&str) -> Option<Body>;

    struct Rig {
        /// When each request came, and whether it is a watch.
        requests: Arc<Mutex<Vec<(Duration, bool)>>>,
        told: mpsc::Receiver<Event>,
        health: crate::discover::ApiHealths,
        _follower: tokio::task::JoinHandle<()>,
    }

    impl Rig {
        fn start(script: Script) -> Rig {
            let (events, told) = mpsc::channel(1_000);
            let health = crate::discover::ApiHealths::default();
            let teller = Teller {
                cluster: "one".to_owned(),
                allow_link_local: false,
                events,
                view: Arc::new(arc_swap::ArcSwap::from_pointee(View {
                    plan: Arc::default(),
                    tls: Arc::default(),
                    policies: Arc::default(),
                    signals: Default::default(),
                    clusters: Arc::default(),
                    places: Arc::default(),
                    slots: Arc::default(),
                    generation: 1,
                })),
                ages: Arc::default(),
                api_healths: health.clone(),
                sent_usable: Arc::default(),
            };
            let requests = Arc::new(Mutex::new(Vec::new()));
            let (seen, begin) = (requests.clone(), Instant::now());
            let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
                let target = request.uri().to_string();
                seen.lock().unwrap().push((begin.elapsed(), target.contains("watch=true")));
                async move {
                    match script(&target) {
                        Some(body) => Ok::<_, Infallible>(http::Response::new(body)),
                        None => std::future::pending().await,
                    }
                }
            });
            let api = Api::at(kube::Client::new(service, "shop"));
            let source = Kubernetes {
                namespace: None,
                service: "web".to_owned(),
                port: None,
                kubeconfig: None,
                context: None,
            };
            let follower = Follower::new(teller, &source);
            let connect = move || std::future::ready(Ok(api.clone()));
            let follower = tokio::spawn(follower.follow(connect));
            Rig { requests, told, health, _follower: follower }
        }

        fn count(&self, watches: bool) -> usize {
            self.requests.lock().unwrap().iter().filter(|(_, watch)| *watch == watches).count()
        }

        fn faults(&self, label: &str) -> u64 {
            let all = self.health.lock().unwrap()["one"].faults();
            all.into_iter().find(|(known, _)| *known == label).unwrap().1
        }
    }

    fn empty_list() -> Option<Body> {
        let text = r#"{"kind":"EndpointSliceList","metadata":{"resourceVersion":"7"},"items":[]}"#;
        Some(Body::whole(text.to_owned()))
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_left_and_asked_ever_more_rarely() {
        let mut rig = Rig::start(|_| None);
        pass(600).await;
        let at: Vec<Duration> = rig.requests.lock().unwrap().iter().map(|(at, _)| *at).collect();
        let gaps: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let least = Duration::from_secs(15);
        assert!(gaps[0] >= least && gaps[0] < least + DELAY_FIRST * 2, "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= least + DELAY_MAX), "{gaps:?}");
        assert!(gaps.last().unwrap() > &(least + DELAY_MAX / 3), "{gaps:?}");
        assert!(rig.faults("timeout") >= at.len() as u64 - 1);
        assert!(rig.told.try_recv().is_err(), "no answer is no news");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watch_is_opened_anew_and_the_list_is_read_anew_from_time_to_time() {
        let script: Script = |target| match target.contains("watch=true") {
            true => Some(Body::silent_after(Vec::new())),
            false => empty_list(),
        };
        let rig = Rig::start(script);
        pass(101).await;
        assert_eq!((rig.count(false), rig.count(true)), (1, 2));
        pass(300).await;
        assert_eq!((rig.count(false), rig.count(true)), (1, 5));
        pass(400).await;
        assert_eq!(rig.count(false), 2, "between 450 s and 750 s");
        for label in ["timeout", "connect"] {
            assert_eq!(rig.faults(label), 0, "{label}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_slowed_and_counted() {
        let script: Script = |target| match target.contains("watch=true") {
            true => Some(Body::whole(String::new())),
            false => empty_list(),
        };
        let rig = Rig::start(script);
        pass(300).await;
        assert!(rig.faults("connect") >= 3);
        assert!(rig.count(true) < 60, "{}", rig.count(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_events_becomes_a_few_changes() {
        let script: Script = |target| {
            if !target.contains("watch=true") {
                return empty_list();
            }
            let event = |number: u32| {
                format!(
                    r#"{{"type":"ADDED","object":{{"metadata":{{"name":"web-a","namespace":"shop","resourceVersion":"{number}","labels":{{"kubernetes.io/service-name":"web"}}}},"addressType":"IPv4","ports":[{{"port":80}}],"endpoints":[{{"addresses":["10.0.0.{number}"]}}]}}}}{}"#,
                    '\n'
                )
            };
            Some(Body::silent_after((1..=200).map(event).collect()))
        };
        let mut rig = Rig::start(script);
        pass(10).await;
        let (mut changes, mut last) = (0, Vec::new());
        while let Ok(Event::Endpoints { found, .. }) = rig.told.try_recv() {
            (changes, last) = (changes + 1, found);
        }
        // 200 events in 2 s.
        assert!((15..=22).contains(&changes), "{changes}");
        assert_eq!(
            last.iter().map(|one| one.address.to_string()).collect::<Vec<_>>(),
            ["10.0.0.200:80"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_has_a_bound() {
        let mut log = LogBudget { left: LOG_BURST, refilled: Instant::now() };
        let lines = |log: &mut LogBudget| (0..1_000).filter(|_| log.take()).count();
        assert_eq!(lines(&mut log), 10);
        pass(25).await;
        assert_eq!(lines(&mut log), 2);
        pass(3_600).await;
        assert_eq!(lines(&mut log), 10);
    }

    #[test]
    fn delays_double_to_a_bound_with_jitter() {
        for (failures, chance, expected_ms) in [
            (1, 0.0, 125),
            (1, 1.0, 250),
            (3, 1.0, 1_000),
            (7, 0.0, 8_000),
            (8, 1.0, 30_000),
            (u32::MAX, 0.0, 15_000),
        ] {
            assert_eq!(delay(failures, chance).as_millis(), expected_ms, "{failures} {chance}");
        }
    }
}
