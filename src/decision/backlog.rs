//! A queue detected by its growth, without knowledge of the service time.
//!
//! A class that is overloaded from its first request on has never had a response without a queue. A growing queue can
//! still be recognised: fewer exchanges end than were sent one response time ago, while the completion rate is at its
//! maximum. When the work becomes slower, fewer exchanges end at first, but later as many end as are sent. The growth
//! of the number in flight is therefore compared with the completion rate. The exchanges in flight beyond those that
//! the least response time explains are the queue (Little's law).
//!
//! # Units
//! Seconds; exchanges, and exchanges a second.
//!
//! # Invariants
//! * Without growth there is no queue, however slow the work is.
//! * A burst is no queue until some of its exchanges have waited, nor while more exchanges end than are sent.
//! * If the assumed queue does not shrink while fewer exchanges are sent than end, it was slow work: the detection is
//!   ignored, and the next detection must last twice as long before it counts.

/// The span of a bucket in seconds, and the number of buckets.
const BUCKET: f64 = 0.1;
const BUCKETS: usize = 64;
/// Buckets of the completion rate.
const RATE: usize = 5;
/// Spans over which growth is searched, in buckets.
const SPANS: [usize; 4] = [5, 10, 20, 40];
/// The growth that proves a queue, in standard deviations.
const CERTAIN: f64 = 2.0;
/// The least number of exchanges that must end within a span for its rate to be used.
const ENOUGH: f64 = 5.0;
/// While a queue grows, the completion rate must be at least this part of the highest rate so far.
const AT_WORK: f64 = 0.8;
/// A queue below this part of a recognisable queue counts as no queue.
const SMALL: f64 = 0.2;
/// The number of the newest buckets, the current one included, in which a growing queue is searched.
const MOMENTS: usize = 3;
/// A queue is recognised only after some exchange has waited for this part of the shortest queue that is recognised.
const WAITED: f64 = 0.5;
/// Time constant for forgetting the least response time, in seconds.
const FORGETS: f64 = 60.0;
/// The least time in which a queue must shrink while fewer exchanges are sent than end, in seconds.
const DRAINS: f64 = 2.0;
/// The longest time for which growth is ignored after a wrong detection, in seconds.
const DOUBTS_MAX: f64 = 60.0;

/// Exchanges that one class sent and that ended recently, at all its clusters together.
#[derive(Clone, Debug)]
pub struct Backlog {
    sent: [f32; BUCKETS],
    ended: [f32; BUCKETS],
    answered: [f32; BUCKETS],
    at: usize,
    span: f64,
    waiting: f64,
    /// Seconds since the first exchange after a silence was sent.
    age: f64,
    /// The least mean response time recently, over a few responses.
    least: Option<f64>,
    count: f64,
    seconds: f64,
    /// The number of buckets since the queue became more than a small part of a recognisable queue.
    risen: usize,
    /// The length of the queue when it was recognised, and when it began.
    grown: Option<(f64, f64)>,
    /// For how long growth is still ignored, and for how long it will be ignored after the next wrong detection.
    doubts: f64,
    next_doubts: f64,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog {
            sent: [0.0; BUCKETS],
            ended: [0.0; BUCKETS],
            answered: [0.0; BUCKETS],
            at: 0,
            span: 0.0,
            waiting: 0.0,
            age: 0.0,
            least: None,
            count: 0.0,
            seconds: 0.0,
            risen: 0,
            grown: None,
            doubts: 0.0,
            next_doubts: DRAINS,
        }
    }
}

/// The counts since the last fold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Exchanges sent.
    pub sent: f64,
    /// Exchanges that ended, answered or not.
    pub ended: f64,
    /// Exchanges answered.
    pub answered: f64,
    /// The sum of the response times of `answered`.
    pub seconds: f64,
    /// Exchanges of `ended` whose clients left before a cluster could have answered.
    pub left_early: f64,
    /// Exchanges in flight now.
    pub waiting: f64,
}

impl Backlog {
    /// Folds a sweep in. A queue longer than `bound` seconds is recognised.
    pub fn fold(&mut self, flow: Flow, bound: f64, elapsed: f64) {
        self.waiting = flow.waiting;
        let silent = flow.sent <= 0.0 && self.total(&self.sent, 0, BUCKETS) <= 0.0;
        self.age = if silent { 0.0 } else { self.age + elapsed };
        self.note_response(flow, elapsed);
        self.doubts = (self.doubts - elapsed).max(0.0);
        if let Some((_, since)) = &mut self.grown {
            *since += elapsed;
        }
        self.spread(&flow, bound, elapsed);
    }

    /// Spreads the counts of `elapsed` seconds evenly over the buckets of these seconds, since sweeps are not
    /// punctual. Looks for a queue whenever a bucket is complete.
    fn spread(&mut self, flow: &Flow, bound: f64, elapsed: f64) {
        // An exchange whose client left early occupies no server any more: the exchange counts as served.
        let answered = flow.answered + flow.left_early;
        let (mut left, mut closed) = (elapsed, 0);
        loop {
            let span = left.min(BUCKET - self.span);
            let part = if elapsed > 0.0 { span / elapsed } else { 1.0 };
            self.sent[self.at] += (flow.sent * part) as f32;
            self.ended[self.at] += (flow.ended * part) as f32;
            self.answered[self.at] += (answered * part) as f32;
            self.span += span;
            left -= span;
            if self.span < BUCKET - 1e-9 || closed == BUCKETS {
                return;
            }
            closed += 1;
            if left < BUCKET - 1e-9 {
                // The counts of the last `left` seconds are not in the buckets yet.
                let rest = if elapsed > 0.0 { left / elapsed } else { 0.0 };
                self.waiting = flow.waiting - (flow.sent - flow.ended) * rest;
                self.judge(bound, closed);
                self.waiting = flow.waiting;
            }
            self.span = 0.0;
            self.at = (self.at + 1) % BUCKETS;
            (self.sent[self.at], self.ended[self.at], self.answered[self.at]) = (0.0, 0.0, 0.0);
        }
    }

    /// The queue that has grown, in seconds; `None` while no queue is recognised.
    #[must_use]
    pub fn queue(&self) -> Option<f64> {
        self.grown?;
        Some((self.response()? - self.least?).max(0.0))
    }

    /// The least mean response time recently, in seconds: an upper bound of the response time without a queue.
    #[must_use]
    pub fn least(&self) -> Option<f64> {
        self.least
    }

    /// Exchanges a second over the last half a second that were answered, or whose clients left early.
    #[must_use]
    pub fn served(&self) -> f64 {
        self.rate(&self.answered)
    }

    /// Whether at most as many exchanges were sent as ended in the newest buckets. Clients that wait for a response
    /// before they send again cause a queue that does not grow.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        let sent = self.total(&self.sent, 0, MOMENTS);
        let ended = self.total(&self.ended, 0, MOMENTS);
        sent - ended <= (sent + ended).sqrt()
    }

    fn rate(&self, buckets: &[f32; BUCKETS]) -> f64 {
        let span = (RATE as f64 * BUCKET + self.span).min(self.age);
        self.total(buckets, 0, RATE + 1) / span.max(BUCKET)
    }

    /// The time that an exchange sent now will take at the current completion rate.
    fn response(&self) -> Option<f64> {
        let rate = self.rate(&self.ended);
        (rate * RATE as f64 * BUCKET >= ENOUGH).then(|| self.waiting / rate)
    }

    /// As [`response`](Backlog::response), at the rate of the last tenth of a second or at the rate since the queue
    /// began, whichever is higher. A burst first makes connections, and the completion rate during that time does not
    /// predict the later rate.
    fn response_at_best(&self) -> f64 {
        let rate = |span: usize| self.total(&self.ended, 0, span) / (span as f64 * BUCKET);
        self.waiting / rate(self.risen.clamp(1, RATE)).max(rate(1)).max(1e-3)
    }

    fn note_response(&mut self, flow: Flow, elapsed: f64) {
        self.least = self.least.map(|least| least * (elapsed / FORGETS).exp());
        self.count += flow.answered;
        self.seconds += flow.seconds;
        if self.count >= ENOUGH {
            let mean = self.seconds / self.count;
            self.least = Some(self.least.map_or(mean, |least| least.min(mean)));
            (self.count, self.seconds) = (0.0, 0.0);
        }
    }

    /// Looks for a queue; `closed` is the number of buckets completed since the last call.
    fn judge(&mut self, bound: f64, closed: usize) {
        let Some((response, least)) = self.response().zip(self.least) else {
            if self.waiting < 1.0 {
                self.grown = None;
                self.risen = 0;
            }
            return;
        };
        let queue = response - least;
        self.risen = if queue < SMALL * bound { 0 } else { self.risen + closed };
        match self.grown {
            None => {
                let queue = queue.min(self.response_at_best() - least);
                // No exchange has waited longer than the queue exists.
                let lasts = self.risen as f64 * BUCKET > bound;
                let waits = self.has_waited(WAITED * bound + least) && !self.drains();
                if queue > bound && lasts && waits && self.doubts <= 0.0 && self.grows(least) {
                    self.grown = Some((queue, 0.0));
                }
            }
            Some(_) if queue < SMALL * bound => {
                self.grown = None;
                self.next_doubts = DRAINS;
            }
            Some((then, since)) => {
                let shrinks = queue < 0.7 * then;
                if shrinks {
                    self.grown = Some((queue.max(bound), 0.0));
                } else if since > DRAINS + 2.0 * then && self.sends_less(since) {
                    // The queue has not drained: the work itself is slow.
                    self.grown = None;
                    self.least = Some(response);
                    self.doubts = self.next_doubts;
                    self.next_doubts = (2.0 * self.next_doubts).min(DOUBTS_MAX);
                }
            }
        }
    }

    /// Whether some exchange in flight was sent more than `seconds` ago, if exchanges end in the order in which they
    /// were sent. The exchanges of a burst have not waited yet, however long the last of them will wait.
    fn has_waited(&self, seconds: f64) -> bool {
        let (whole, part) = ((seconds / BUCKET) as usize, (seconds / BUCKET).fract());
        let newer = self.total(&self.sent, 0, whole.min(BUCKETS));
        let newer = newer + part * self.total(&self.sent, whole, 1);
        self.waiting - newer > CERTAIN * self.waiting.sqrt()
    }

    /// Whether clearly more exchanges ended than were sent in the newest bucket.
    fn drains(&self) -> bool {
        let (sent, ended) = (self.total(&self.sent, 0, 1), self.total(&self.ended, 0, 1));
        ended - sent > CERTAIN * (sent + ended).sqrt()
    }

    /// Whether fewer exchanges end than were sent one response time ago, at the highest completion rate.
    fn grows(&self, least: f64) -> bool {
        let lag = (least / BUCKET) as usize;
        let ends = |ago: usize| self.total(&self.ended, ago, RATE);
        let most = (0..BUCKETS - RATE).map(ends).fold(0.0, f64::max);
        // If fewer exchanges ended for a while, the exchanges in flight may be due to slow work.
        let at_work = |span: usize| (0..=span - RATE).all(|ago| ends(ago) >= AT_WORK * most);
        let certain = |span: &usize| {
            if span + lag >= BUCKETS || !at_work(*span) {
                return false;
            }
            let sent = self.total(&self.sent, lag, *span);
            let ended = self.total(&self.ended, 0, *span);
            sent - ended > CERTAIN * (sent + ended).sqrt()
        };
        SPANS.iter().any(certain)
    }

    /// Whether no more exchanges were sent than ended in the last `seconds`.
    fn sends_less(&self, seconds: f64) -> bool {
        let span = ((seconds / BUCKET) as usize).clamp(1, BUCKETS - 1);
        self.total(&self.sent, 0, span) <= self.total(&self.ended, 0, span)
    }

    /// The sum of `span` buckets; the newest of them is `ago` buckets before the current one.
    fn total(&self, buckets: &[f32; BUCKETS], ago: usize, span: usize) -> f64 {
        let bucket = |back: usize| f64::from(buckets[(self.at + BUCKETS - back) % BUCKETS]);
        (ago..(ago + span).min(BUCKETS)).map(bucket).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Servers with a queue before them, in steps of 10 ms.
    struct Servers {
        backlog: Backlog,
        /// When each exchange in service ends.
        busy: Vec<u64>,
        queue: VecDeque<u64>,
        now: u64,
        owed: f64,
    }

    impl Servers {
        fn new() -> Servers {
            let backlog = Backlog::default();
            Servers { backlog, busy: Vec::new(), queue: VecDeque::new(), now: 0, owed: 0.0 }
        }

        /// Runs for `seconds`, at `rate` exchanges a second, with `servers` servers that take `service_ms` each;
        /// returns the longest queue that was reported.
        fn run(&mut self, seconds: u64, rate: f64, servers: usize, service_ms: u64) -> f64 {
            let mut longest = 0.0_f64;
            for _ in 0..seconds * 20 {
                let mut flow = Flow::default();
                for _ in 0..5 {
                    self.now += 10;
                    self.owed += rate * 0.01;
                    while self.owed >= 1.0 {
                        self.owed -= 1.0;
                        self.queue.push_back(self.now);
                        flow.sent += 1.0;
                    }
                    let before = self.busy.len();
                    self.busy.retain(|end| *end > self.now);
                    let ended = (before - self.busy.len()) as f64;
                    flow.ended += ended;
                    while self.busy.len() < servers {
                        let Some(since) = self.queue.pop_front() else { break };
                        self.busy.push(self.now + service_ms);
                        flow.answered += 1.0;
                        flow.seconds += (self.now + service_ms - since) as f64 / 1e3;
                    }
                }
                flow.waiting = (self.queue.len() + self.busy.len()) as f64;
                self.backlog.fold(flow, 0.25, 0.05);
                longest = longest.max(self.backlog.queue().unwrap_or(0.0));
            }
            longest
        }
    }

    #[test]
    fn an_overload_from_the_first_request_is_detected_within_a_second() {
        let mut servers = Servers::new();
        let longest = servers.run(1, 150.0, 2, 20);
        assert!(longest > 0.25 && longest < 0.6, "{longest}");
        let queue = servers.backlog.queue().unwrap();
        let truth = servers.queue.len() as f64 / 100.0;
        assert!((queue - truth).abs() < 0.1, "{queue}, truly {truth}");
    }

    /// A burst that keeps 2,500 exchanges in flight, before servers that need 200 ms before they serve at full rate.
    fn burst(backlog: &mut Backlog) -> f64 {
        let (mut owed, mut longest) = (2_500.0, 0.0_f64);
        for sweep in 0..40 {
            let served = [20.0, 60.0, 150.0, 400.0].get(sweep).copied().unwrap_or(1_200.0);
            let flow = Flow {
                sent: owed,
                ended: served,
                answered: served,
                seconds: served * 0.05 * (sweep + 1).min(2) as f64,
                waiting: 2_500.0,
                ..Flow::default()
            };
            owed = served;
            backlog.fold(flow, 0.25, 0.05);
            longest = longest.max(backlog.queue().unwrap_or(0.0));
        }
        longest
    }

    #[test]
    fn closed_loop_clients_make_a_steady_queue_and_open_loop_ones_a_growing_queue() {
        let flow = |sent, ended, waiting| Flow {
            sent,
            ended,
            answered: ended,
            seconds: 0.3 * ended,
            waiting,
            ..Flow::default()
        };
        let mut closed = Backlog::default();
        closed.fold(flow(2_500.0, 0.0, 2_500.0), 0.25, 0.05);
        assert!(!closed.is_steady(), "they have only just come");
        (0..20).for_each(|_| closed.fold(flow(400.0, 400.0, 2_500.0), 0.25, 0.05));
        assert!(closed.is_steady());
        let mut open = Backlog::default();
        for sweep in 0..20 {
            open.fold(flow(600.0, 400.0, 200.0 * f64::from(sweep + 1)), 0.25, 0.05);
        }
        assert!(!open.is_steady());
    }

    #[test]
    fn a_burst_that_is_answered_at_once_is_no_queue() {
        // A burst as the first traffic, and a burst after a little traffic.
        assert_eq!(burst(&mut Backlog::default()), 0.0);
        let mut servers = Servers::new();
        servers.run(10, 20.0, 500, 20);
        assert_eq!(burst(&mut servers.backlog), 0.0);
    }

    /// Sweeps of an application on a busy machine, as recorded: quick exchanges one after the other, and then
    /// more than 100 within 300 ms.
    #[test]
    fn a_burst_on_a_busy_machine_is_no_queue() {
        let first = [
            (10.0, 0.0, 10.0),
            (17.0, 5.0, 22.0),
            (0.0, 0.0, 22.0),
            (15.0, 22.0, 15.0),
            (63.0, 2.0, 76.0),
            (22.0, 26.0, 72.0),
        ];
        let second = [
            (6.0, 0.0, 6.0),
            (17.0, 6.0, 17.0),
            (0.0, 0.0, 17.0),
            (77.0, 0.0, 77.0),
            (6.0, 3.0, 80.0),
            (0.0, 26.0, 54.0),
        ];
        for burst in [first, second] {
            for late in [0.0, 0.025, 0.050, 0.075] {
                let mut backlog = Backlog::default();
                backlog.fold(Flow::default(), 0.25, late);
                let before = std::iter::repeat_n((1.0, 1.0, 0.0), 5);
                for (sent, ended, waiting) in before.chain(burst) {
                    let seconds = if waiting < 1.0 { 0.006 } else { 0.15 } * ended;
                    let flow =
                        Flow { sent, ended, answered: ended, seconds, waiting, ..Flow::default() };
                    backlog.fold(flow, 0.25, 0.05);
                    assert_eq!(backlog.queue(), None, "{late} {waiting}");
                }
            }
        }
    }

    #[test]
    fn clients_that_leave_before_the_first_answer_shorten_the_backlog() {
        let mut backlog = Backlog::default();
        for _ in 0..200 {
            // 12 responses a second after 700 ms, and 240 clients a second that leave after 30 ms.
            let flow = Flow {
                sent: 12.6,
                ended: 12.6,
                answered: 0.6,
                seconds: 0.42,
                left_early: 12.0,
                waiting: 16.0,
            };
            backlog.fold(flow, 0.25, 0.05);
            assert_eq!(backlog.queue(), None);
        }
        assert!((backlog.served() - 252.0).abs() < 2.0, "{}", backlog.served());
    }

    #[test]
    fn rates_are_right_whether_sweeps_come_early_or_late() {
        let rates = |elapsed: f64| {
            let mut backlog = Backlog::default();
            let count = 200.0 * elapsed;
            let flow = Flow { sent: count, ended: count, answered: count, ..Flow::default() };
            let sweep = |_| {
                backlog.fold(flow, 0.25, elapsed);
                backlog.served()
            };
            let served: Vec<f64> = (0..400).map(sweep).collect();
            served[200..].iter().sum::<f64>() / 200.0
        };
        for elapsed in [0.050, 0.0499, 0.0501, 0.052, 0.060, 0.034] {
            assert!((rates(elapsed) - 200.0).abs() < 8.0, "{elapsed}: {}", rates(elapsed));
        }
    }

    #[test]
    fn slow_work_is_no_queue() {
        // Slow from the first exchange on; slow with a step in demand; fast work that becomes slow.
        let mut servers = Servers::new();
        assert_eq!(servers.run(10, 100.0, 500, 1_000), 0.0);
        assert_eq!(servers.run(5, 400.0, 500, 1_000), 0.0);
        let mut servers = Servers::new();
        servers.run(10, 100.0, 500, 20);
        assert_eq!(servers.run(10, 100.0, 500, 800), 0.0);
        assert_eq!(servers.run(10, 20.0, 500, 800), 0.0);
    }

    #[test]
    fn a_detected_queue_counts_until_it_is_empty() {
        let mut servers = Servers::new();
        servers.run(3, 150.0, 2, 20);
        assert!(servers.backlog.queue().unwrap() > 1.0);
        // Fewer exchanges are sent than end: the queue drains.
        servers.run(10, 70.0, 2, 20);
        assert_eq!(servers.backlog.queue(), None);
        assert!(servers.run(2, 150.0, 2, 20) > 0.25, "and is seen again");
    }

    #[test]
    fn a_backlog_that_does_not_drain_was_slow_work() {
        let mut servers = Servers::new();
        servers.run(2, 150.0, 2, 20);
        assert!(servers.backlog.queue().is_some());
        // From now on there are enough servers, and the work takes 700 ms.
        servers.run(15, 100.0, 500, 700);
        assert_eq!(servers.backlog.queue(), None);
    }
}
