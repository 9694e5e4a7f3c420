//! Why a cluster gets its share of the traffic, as a sentence for people.
//!
//! [`why`] gathers the facts of one cluster from a plan and the signals of one moment; [`Facts::sentence`] makes the
//! sentence. The sentence follows the decision: it describes a cluster that is not live by its state, the first live
//! cluster by its own share, and other clusters by the reason for which exchanges pass over the first.

use super::plan::{ClassIndex, ClusterIndex, Plan, ProbeKind, Strategy};
use super::signal::{Choice, ClassSignals, Score, Signals, State, Why};
use super::spill::RAMP_START;

/// The facts of a sentence. Seconds, except shares.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The cluster's state.
    pub state: State,
    /// Why the cluster is not up.
    pub cause: &'a str,
    /// For how long no endpoint of the cluster has been usable.
    pub down_for: Option<f64>,
    /// The remaining hold after the cluster's return.
    pub held_for: Option<f64>,
    /// The interval between two probes of an endpoint; `None` without probes.
    pub probe_every: Option<f64>,
    /// The dial, in percent.
    pub dial: u8,
    /// The part of its share that its return ramp admits.
    pub return_share: f64,
    /// The cluster's distance, when measured.
    pub distance: Option<f64>,
    /// Whether some of its exchanges fail.
    pub fails: bool,
    /// The cluster's queue, if known, and the tolerated queue.
    pub queue: Option<f64>,
    /// See `queue`.
    pub tolerates: f64,
    /// The rate to which the first cluster is limited because it had a queue recently, in exchanges a second.
    pub bound: Option<f64>,
    /// The cluster's capacity group, if the group is full.
    pub full_group: Option<&'a str>,
    /// The cluster's position among the clusters that may serve.
    pub standing: Standing<'a>,
}

/// The position of a cluster among the clusters that may serve a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing<'a> {
    /// No service uses the cluster.
    Unused,
    /// The service's strategy does not use distance.
    Strategy(&'a str),
    /// Healthy, but the budget is spent.
    Unfunded,
    /// All clusters are down, and this one is used anyway.
    Panic,
    /// The only permitted cluster.
    Only,
    /// The first live cluster: the share it accepts, and whether it is the nearest.
    First(f64, bool),
    /// The cluster that a shift has put in the place of another: the share it accepts, and the other's name.
    Shifted(f64, &'a str),
    /// Not the first live cluster.
    Beyond {
        /// The share of all exchanges that this cluster gets.
        gets: f64,
        /// The reason for which exchanges pass over the first.
        why: Why,
        /// The first live cluster.
        first: Nearer<'a>,
    },
}

/// The nearest live cluster, for the sentences of the other clusters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its distance in seconds, when measured.
    pub distance: Option<f64>,
    /// Its queue in seconds, if known.
    pub queue: Option<f64>,
    /// Its tolerated queue in seconds.
    pub tolerates: f64,
    /// The rate to which it is limited because it had a queue recently, in exchanges a second.
    pub bound: Option<f64>,
}

/// The success ratio from which on a cluster counts as free of failures.
const SOUND: f64 = 0.995;
/// A share of exchanges below this is not mentioned.
const NOTHING: f64 = 0.005;

/// Why a cluster of the plan gets its share, for the class that sends most to it.
#[must_use]
pub fn why(plan: &Plan, signals: &Signals, cluster: ClusterIndex) -> String {
    let class = signals.clusters.get(cluster).and_then(|signals| signals.class);
    why_in(plan, signals, cluster, class)
}

/// Why a cluster of the plan gets its share, for a given class.
#[must_use]
pub fn why_in(
    plan: &Plan,
    signals: &Signals,
    cluster: ClusterIndex,
    class: Option<ClassIndex>,
) -> String {
    let Some((settings, of_cluster)) =
        plan.clusters.get(cluster).zip(signals.clusters.get(cluster))
    else {
        return String::new();
    };
    let of_class = class.and_then(|class| Some((class, signals.classes.get(class)?)));
    let score = of_class.and_then(|(_, class)| score(class, cluster)).copied().unwrap_or_default();
    let facts = Facts {
        state: of_cluster.state,
        cause: of_cluster.cause,
        down_for: of_cluster.down_since.map(|since| signals.at.secs_since(since)),
        held_for: of_cluster.held_until.map(|until| until.secs_since(signals.at)),
        probe_every: (settings.probe.kind != ProbeKind::None)
            .then_some(settings.probe.interval.as_secs_f64()),
        dial: of_class.map_or(of_cluster.dial, |(_, class)| dial(class, cluster, of_cluster.dial)),
        return_share: of_cluster.return_share,
        distance: of_cluster.distance,
        fails: of_cluster.success.is_some_and(|success| success < SOUND),
        queue: score.queue,
        tolerates: score.tolerates,
        bound: of_class.and_then(|(_, class)| class.bound_rps),
        full_group: signals.full_group(plan, cluster),
        standing: of_class
            .map_or(Standing::Unused, |(index, class)| standing(plan, index, class, cluster)),
    };
    facts.sentence()
}

/// The dial of a cluster for a class whose shift may take a part of the cluster's traffic.
fn dial(class: &ClassSignals, cluster: ClusterIndex, dial: u8) -> u8 {
    match class.shift {
        Some(shift) if shift.from == cluster && !shift.rests && shift.percent < 100 => {
            dial.min(100 - shift.percent)
        }
        Some(_) | None => dial,
    }
}

fn score(class: &ClassSignals, cluster: ClusterIndex) -> Option<&Score> {
    class.scores.get(class.order.iter().position(|known| *known == cluster)?)
}

fn standing<'a>(
    plan: &'a Plan,
    index: ClassIndex,
    class: &'a ClassSignals,
    cluster: ClusterIndex,
) -> Standing<'a> {
    let Some(at) = class.choices.iter().position(|choice| choice.cluster == cluster) else {
        return Standing::Unfunded;
    };
    let choice = class.choices[at];
    let strategy = plan.service_of(index).strategy;
    let shift = class.shift.filter(|shift| !shift.rests);
    match (at, choice.why) {
        (_, Why::Panic) => Standing::Panic,
        (_, Why::Only) => Standing::Only,
        _ if strategy != Strategy::Nearest => Standing::Strategy(strategy.label()),
        (0, Why::Dial) if shift.is_some_and(|shift| shift.to == cluster) => {
            let from = shift.and_then(|shift| plan.clusters.get(shift.from));
            Standing::Shifted(choice.share, from.map_or("", |from| from.name.as_str()))
        }
        (0, _) => Standing::First(choice.share, class.order.first() == Some(&cluster)),
        (_, why) => {
            let nearest = class.choices[0].cluster;
            let seen = score(class, nearest).copied().unwrap_or_default();
            let name = plan.clusters.get(nearest).map_or("", |cluster| cluster.name.as_str());
            let Score { distance, queue, tolerates, .. } = seen;
            let first = Nearer { name, distance, queue, tolerates, bound: class.bound_rps };
            Standing::Beyond { gets: gets(&class.choices, at), why, first }
        }
    }
}

/// The share of all exchanges that choice number `at` gets.
///
/// In order, each choice accepts its share of what the choices before it leave. If all of them are loaded, some exchanges
/// remain, and `spill::pick` gives each to the choice with the highest credit: so each choice gets between what it accepts
/// in order and what it would accept of all exchanges.
fn gets(choices: &[Choice], at: usize) -> f64 {
    let share = |choice: &Choice| choice.share.clamp(0.0, 1.0);
    let (mut left, mut in_order, mut of_all) = (1.0, Vec::with_capacity(choices.len()), 0.0);
    for choice in choices {
        in_order.push(left * share(choice));
        left *= 1.0 - share(choice);
        of_all += share(choice);
    }
    if of_all <= 1.0 {
        let is_none = of_all <= 0.0;
        return if is_none { 1.0 / choices.len() as f64 } else { share(&choices[at]) / of_all };
    }
    let surplus = of_all - (1.0 - left);
    let part = if surplus > 0.0 { left / surplus } else { 0.0 };
    in_order[at] + part * (share(&choices[at]) - in_order[at])
}

impl Facts<'_> {
    /// The facts as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.standing == Standing::Panic {
            return format!(
                "{}; all other clusters are down too, so it is used anyway",
                self.trouble()
            );
        }
        match self.state {
            State::Down | State::Draining => return self.trouble(),
            State::Up | State::Degraded => {}
        }
        if let Some(group) = self.full_group {
            return format!("its capacity group {group} is full, so it gets nothing new");
        }
        if self.return_share < 1.0 && !matches!(self.standing, Standing::Unused) {
            let part = percent(self.return_share);
            return format!("returning: at {part} of its share, doubles each 250 ms");
        }
        let distance = self.distance.map_or("distance not measured yet".to_owned(), |distance| {
            format!("{} away", milliseconds(distance))
        });
        match self.standing {
            Standing::Panic | Standing::Unused => "no service uses it".to_owned(),
            Standing::Unfunded => "the budget is empty: gets nothing new".into(),
            Standing::Strategy(strategy) => format!("{distance}; chosen by {strategy}"),
            Standing::Only => format!("the only permitted cluster: {distance}; takes all"),
            Standing::First(share, is_nearest) => {
                let place =
                    if is_nearest { "nearest healthy" } else { "nearest of the healthy clusters" };
                format!("{place}: {distance}; {}", self.takes(share))
            }
            Standing::Shifted(share, from) => {
                format!(
                    "a shift moves the traffic of {from} here: {distance}; {}",
                    self.takes(share)
                )
            }
            Standing::Beyond { gets, why, first } => {
                format!("{}; {}", self.compared(first, &distance), part(gets, why, first))
            }
        }
    }

    /// Why the cluster does not serve.
    fn trouble(&self) -> String {
        let probes = self.probe_every.map_or("; not probed".to_owned(), |seconds| {
            format!("; probes every {}", milliseconds(seconds))
        });
        let cause = self.cause.replace('_', " ");
        match (self.state, self.held_for) {
            (State::Draining, _) if self.cause == "failback_manual" => {
                "returned: failback.mode manual keeps it out until an operator undrains it"
                    .to_owned()
            }
            (State::Draining, _) => {
                "draining: its dial is at 0 %, so it gets nothing new".to_owned()
            }
            (_, Some(left)) => {
                format!("returning: failback.hold keeps it out for another {}", age(left))
            }
            (State::Down, _) => {
                let since =
                    self.down_for.map_or(String::new(), |seconds| format!(" {} ago", age(seconds)));
                format!("down: {cause}{since}{probes}")
            }
            (State::Up | State::Degraded, _) => format!("{}: {cause}", self.state.label()),
        }
    }

    fn takes(&self, share: f64) -> String {
        if share >= 1.0 - NOTHING {
            return "takes all".to_owned();
        }
        if self.dial < 100 && share >= f64::from(self.dial) / 100.0 - NOTHING {
            return format!("takes {}, limited by its dial", percent(share));
        }
        let queue = self.queue.filter(|queue| *queue > RAMP_START * self.tolerates);
        match (queue, self.bound) {
            (Some(queue), _) => format!(
                "takes {}: its queue is {} (tolerates {})",
                percent(share),
                milliseconds(queue),
                milliseconds(self.tolerates)
            ),
            (None, Some(bound)) => format!(
                "takes {}: limited to {bound:.0}/s after a queue, and to more while none comes back",
                percent(share)
            ),
            (None, _) if self.fails => {
                format!("takes {}: some of its exchanges fail", percent(share))
            }
            (None, None) => format!("takes {}, rising while its queue is short", percent(share)),
        }
    }

    fn compared(&self, first: Nearer<'_>, distance: &str) -> String {
        let Some((here, there)) = self.distance.zip(first.distance) else {
            return distance.to_owned();
        };
        let farther = here - there;
        match farther.abs() < 0.000_05 {
            true => format!("as near as {}", first.name),
            false if farther > 0.0 => {
                format!("{} farther than {}", milliseconds(farther), first.name)
            }
            false => format!(
                "{} nearer than {}, which is preferred by cost or list",
                milliseconds(-farther),
                first.name
            ),
        }
    }
}

/// The share of a cluster beyond the first, and the reason.
fn part(gets: f64, why: Why, first: Nearer<'_>) -> String {
    let (name, part) = (first.name, percent(gets));
    if gets < NOTHING {
        return format!("gets nothing while {name} takes all");
    }
    match why {
        Why::Spill => match (first.queue, first.bound) {
            (Some(queue), Some(bound)) if queue <= RAMP_START * first.tolerates => {
                format!(
                    "gets the {part} beyond the {bound:.0}/s to which {name} is limited after a queue"
                )
            }
            (Some(queue), _) => format!(
                "gets the {part} that {name}'s queue of {} (tolerates {}) does not accept",
                milliseconds(queue),
                milliseconds(first.tolerates)
            ),
            (None, _) => format!("gets the {part} that {name} has no capacity for"),
        },
        Why::Failover => {
            format!("gets the {part} that {name} fails, or does not accept while its traffic grows")
        }
        Why::Returning => format!("gets the {part} that {name} does not accept while it returns"),
        Why::Dial => format!("gets the {part} that {name}'s dial does not accept"),
        Why::Nearest | Why::Only | Why::Affinity | Why::Panic | Why::Hedge => {
            format!("gets {part}")
        }
    }
}

/// Three significant digits.
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 99.95 { format!("{} ms", (ms * 10.0).round() / 10.0) } else { format!("{ms:.0} ms") }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 {
        format!("{} %", (percent * 10.0).round() / 10.0)
    } else {
        format!("{percent:.0} %")
    }
}

fn age(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::{self, Credits};

    const UP: Facts<'_> = Facts {
        state: State::Up,
        cause: "",
        down_for: None,
        held_for: None,
        probe_every: Some(0.5),
        dial: 100,
        return_share: 1.0,
        distance: Some(0.0136),
        fails: false,
        queue: Some(0.0),
        tolerates: 0.006,
        bound: None,
        full_group: None,
        standing: Standing::First(1.0, true),
    };
    const IDC: Nearer<'_> = Nearer {
        name: "idc",
        distance: Some(0.0012),
        queue: Some(0.014),
        tolerates: 0.006,
        bound: None,
    };

    fn beyond(gets: f64, why: Why, first: Nearer<'_>) -> Facts<'_> {
        Facts { standing: Standing::Beyond { gets, why, first }, ..UP }
    }

    #[test]
    fn each_reason_has_its_sentence() {
        let near = Facts { distance: Some(0.0012), ..UP };
        let down = Facts {
            state: State::Down,
            cause: "connect_timeout",
            down_for: Some(3.2),
            standing: Standing::Unfunded,
            ..UP
        };
        #[rustfmt::skip]
        let table = [
            (near, "nearest healthy: 1.2 ms away; takes all"),
            (Facts { standing: Standing::First(0.5, true), dial: 50, ..near }, "nearest healthy: 1.2 ms away; takes 50 %, limited by its dial"),
            (Facts { standing: Standing::First(0.82, true), queue: Some(0.014), ..near }, "nearest healthy: 1.2 ms away; takes 82 %: its queue is 14 ms (tolerates 6 ms)"),
            (Facts { standing: Standing::First(0.82, true), fails: true, ..near }, "nearest healthy: 1.2 ms away; takes 82 %: some of its exchanges fail"),
            (Facts { standing: Standing::First(0.82, true), ..near }, "nearest healthy: 1.2 ms away; takes 82 %, rising while its queue is short"),
            (Facts { standing: Standing::First(0.82, true), bound: Some(82.4), ..near }, "nearest healthy: 1.2 ms away; takes 82 %: limited to 82/s after a queue, and to more while none comes back"),
            (Facts { standing: Standing::First(0.82, true), queue: Some(0.014), bound: Some(82.4), ..near }, "nearest healthy: 1.2 ms away; takes 82 %: its queue is 14 ms (tolerates 6 ms)"),
            (Facts { standing: Standing::First(1.0, false), ..UP }, "nearest of the healthy clusters: 13.6 ms away; takes all"),
            (Facts { standing: Standing::Shifted(1.0, "idc"), ..UP }, "a shift moves the traffic of idc here: 13.6 ms away; takes all"),
            (Facts { standing: Standing::Only, distance: None, ..UP }, "the only permitted cluster: distance not measured yet; takes all"),
            (beyond(0.18, Why::Spill, IDC), "12.4 ms farther than idc; gets the 18 % that idc's queue of 14 ms (tolerates 6 ms) does not accept"),
            (beyond(0.18, Why::Spill, Nearer { queue: Some(0.001), bound: Some(82.4), ..IDC }), "12.4 ms farther than idc; gets the 18 % beyond the 82/s to which idc is limited after a queue"),
            (beyond(0.18, Why::Spill, Nearer { bound: Some(82.4), ..IDC }), "12.4 ms farther than idc; gets the 18 % that idc's queue of 14 ms (tolerates 6 ms) does not accept"),
            (beyond(0.18, Why::Spill, Nearer { queue: None, ..IDC }), "12.4 ms farther than idc; gets the 18 % that idc has no capacity for"),
            (beyond(0.0, Why::Spill, IDC), "12.4 ms farther than idc; gets nothing while idc takes all"),
            (beyond(0.84, Why::Returning, IDC), "12.4 ms farther than idc; gets the 84 % that idc does not accept while it returns"),
            (beyond(0.5, Why::Dial, IDC), "12.4 ms farther than idc; gets the 50 % that idc's dial does not accept"),
            (beyond(0.3, Why::Failover, IDC), "12.4 ms farther than idc; gets the 30 % that idc fails, or does not accept while its traffic grows"),
            (beyond(0.0, Why::Spill, Nearer { distance: Some(0.0136), ..IDC }), "as near as idc; gets nothing while idc takes all"),
            (Facts { return_share: 0.16, ..UP }, "returning: at 16 % of its share, doubles each 250 ms"),
            (down, "down: connect timeout 3 s ago; probes every 500 ms"),
            (Facts { cause: "no_endpoints", down_for: Some(600.0), probe_every: None, ..down }, "down: no endpoints 10 min ago; not probed"),
            (Facts { held_for: Some(12.0), ..down }, "returning: failback.hold keeps it out for another 12 s"),
            (Facts { standing: Standing::Panic, ..down }, "down: connect timeout 3 s ago; probes every 500 ms; all other clusters are down too, so it is used anyway"),
            (Facts { state: State::Draining, cause: "failback_manual", dial: 0, ..UP }, "returned: failback.mode manual keeps it out until an operator undrains it"),
            (Facts { state: State::Draining, dial: 0, ..UP }, "draining: its dial is at 0 %, so it gets nothing new"),
            (Facts { full_group: Some("vpn"), ..UP }, "its capacity group vpn is full, so it gets nothing new"),
            (Facts { standing: Standing::Unused, ..UP }, "no service uses it"),
            (Facts { standing: Standing::Strategy("round_robin"), ..UP }, "13.6 ms away; chosen by round_robin"),
        ];
        for (facts, sentence) in table {
            assert_eq!(facts.sentence(), sentence);
        }
    }

    #[test]
    fn a_cluster_gets_the_share_that_nearer_ones_do_not_accept() {
        let choice = |slot, share| Choice {
            cluster: ClusterIndex(slot),
            slot,
            share,
            why: Why::Spill,
            warm: false,
            usd: 0.0,
        };
        // The second, third and later rows: all clusters are loaded.
        for shares in [
            [0.8, 0.5, 1.0],
            [0.8, 0.5, 0.1],
            [0.45, 0.22, 0.22],
            [0.02, 0.9, 0.9],
            [0.02, 0.5, 0.5],
            [0.3, 0.3, 0.3],
        ] {
            let choices = [0, 1, 2].map(|slot| choice(slot, shares[slot]));
            let (mut credits, mut picks) = (Credits::seeded(3, 1), [0.0; 3]);
            for _ in 0..20_000 {
                let picked = spill::pick(&choices, &mut credits, |_| true, |_| {}).unwrap();
                picks[picked.slot] += 1.0 / 20_000.0;
            }
            for (at, picked) in picks.iter().enumerate() {
                let told = gets(&choices, at);
                assert!((told - picked).abs() < 0.03, "{shares:?}: {told} of {picks:?} at {at}");
            }
        }
    }
}
