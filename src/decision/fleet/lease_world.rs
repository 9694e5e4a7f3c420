//! Shared ceilings in a simulated network of proxies whose requests and responses are delayed, lost, or blocked by
//! partitions.

use super::*;
use crate::budget::{Budget, Payment, SpendingLimit};
use crate::fleet::Refused;
use crate::units::Dice;

const STEP: Duration = Duration::from_millis(50);
/// Steps between two decisions, and between two requests.
const DECIDE: u64 = 5;
const ASK: u64 = 20;
/// A response that takes longer is refused.
const ANSWERED: Duration = Duration::from_secs(2);

struct Proxy {
    by: Identity,
    members: Members,
    shares: Shares,
    share: Share,
    sequence: u64,
    demand: u32,
}

/// A request on its way to a proxy, or a response on its way back.
struct Message {
    arrives: Timestamp,
    asked: Timestamp,
    from: usize,
    to: usize,
    answer: Option<Report>,
}

struct World {
    proxies: Vec<Proxy>,
    messages: Vec<Message>,
    /// By sender and receiver.
    cut: Vec<Vec<bool>>,
    delay_max: Duration,
    loss: f64,
    total: u32,
    step: u64,
    dice: Dice,
}

impl World {
    fn new(count: usize, total: u32, seed: u64) -> World {
        let proxy = |index: usize| {
            let (site, instance) = ("a".to_owned(), format!("p{index}"));
            let own = sure(part(total, count as u32));
            let name = "idc".to_owned();
            Proxy {
                by: Identity { site, incarnation: 1, instance },
                members: Members::default(),
                shares: Shares::default(),
                share: Share { name, own, borrowed: 0, until: Timestamp::START },
                sequence: 0,
                demand: 0,
            }
        };
        World {
            proxies: (0..count).map(proxy).collect(),
            messages: Vec::new(),
            cut: vec![vec![false; count]; count],
            delay_max: Duration::from_millis(100),
            loss: 0.0,
            total,
            step: 0,
            dice: Dice::seeded(seed),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::START.plus(STEP.saturating_mul(u32::try_from(self.step).unwrap_or(u32::MAX)))
    }

    fn ceiling(&self, index: usize) -> u32 {
        self.proxies[index].share.ceiling(self.now())
    }

    fn send(&mut self, mut message: Message) {
        if self.cut[message.from][message.to] || self.dice.unit() < self.loss {
            return;
        }
        message.arrives = self.now().plus(self.delay_max.mul_f64(self.dice.unit()));
        self.messages.push(message);
    }

    fn advance(&mut self) {
        self.step += 1;
        let now = self.now();
        let (arrived, on_their_way): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|one| one.arrives <= now);
        self.messages = on_their_way;
        arrived.into_iter().for_each(|message| self.deliver(message, now));
        for index in 0..self.proxies.len() {
            // Each proxy at a different moment.
            if (self.step + index as u64 * 3).is_multiple_of(ASK) {
                for to in (0..self.proxies.len()).filter(|to| *to != index) {
                    let (arrives, asked) = (now, now);
                    self.send(Message { arrives, asked, from: index, to, answer: None });
                }
            }
            if (self.step + index as u64).is_multiple_of(DECIDE) {
                self.decide(index, now);
            }
        }
        let sum: u32 = (0..self.proxies.len()).map(|index| self.ceiling(index)).sum();
        assert!(sum <= self.total, "{sum} of {} at {now:?}", self.total);
    }

    fn decide(&mut self, index: usize, now: Timestamp) {
        let (total, count) = (self.total, self.proxies.len() as u32);
        let proxy = &mut self.proxies[index];
        let uses = [Use { name: "idc".to_owned(), total, now: proxy.demand }];
        let shares = proxy.shares.decide(&uses, (&proxy.members, &proxy.by, count), now);
        proxy.share = shares.into_iter().next().unwrap();
    }

    fn deliver(&mut self, message: Message, now: Timestamp) {
        let Message { asked, from, to, answer, .. } = message;
        match answer {
            None => {
                let proxy = &mut self.proxies[to];
                proxy.sequence += 1;
                let mut report = Report {
                    by: proxy.by.clone(),
                    sequence: proxy.sequence,
                    members: 1,
                    expected: 1,
                    ..Report::default()
                };
                proxy.shares.tell(&mut report, now);
                let answer = Some(report);
                self.send(Message { arrives: now, asked, from: to, to: from, answer });
            }
            Some(report) if now.since(asked) <= ANSWERED => {
                let source = report.by.instance.clone();
                // Late responses may be stale: the merge must ignore them.
                let proxy = &mut self.proxies[to];
                if let Err(reason) = proxy.members.merge(&source, "a", &proxy.by, report, asked) {
                    assert_eq!(reason, Refused::Stale);
                }
            }
            Some(_) => {}
        }
    }

    /// A new process at the same address: it has forgotten its loans, and its sequence numbers begin anew.
    fn restart(&mut self, index: usize) {
        let own = sure(part(self.total, self.proxies.len() as u32));
        let proxy = &mut self.proxies[index];
        proxy.by.incarnation += 1;
        (proxy.members, proxy.shares) = (Members::default(), Shares::default());
        proxy.share = Share { own, borrowed: 0, ..proxy.share.clone() };
        self.messages.retain(|message| message.answer.is_none() || message.to != index);
    }

    fn run(&mut self, seconds: u64) {
        (0..seconds * 20).for_each(|_| self.advance());
    }
}

#[test]
fn a_hot_proxy_borrows_and_what_is_lent_returns() {
    let mut world = World::new(10, 200, 1);
    world.run(3);
    assert_eq!(world.ceiling(0), 10, "an earlier life may have lent the other half");
    world.run(2);
    assert_eq!(world.ceiling(0), 20);

    world.proxies[0].demand = 150;
    world.run(4);
    assert!(world.ceiling(0) >= 105, "half of what nine do not need: {}", world.ceiling(0));
    assert_eq!(world.ceiling(1), 10, "a lender keeps half");

    // All proxies have high demand: each has its part again soon after the loans have expired.
    world.proxies.iter_mut().for_each(|proxy| proxy.demand = 150);
    world.run(9);
    assert!((0..10).all(|index| world.ceiling(index) == 20));
}

#[test]
fn a_lone_proxy_has_its_part_soon_after_the_cut_and_borrows_again_after_the_rejoin() {
    for one_way in [false, true] {
        let mut world = World::new(5, 100, 2);
        world.proxies[0].demand = 90;
        world.run(9);
        assert!(world.ceiling(0) >= 55, "{}", world.ceiling(0));

        for other in 1..5 {
            world.cut[other][0] = true;
            world.cut[0][other] = !one_way;
        }
        world.run(4);
        assert_eq!(world.ceiling(0), 20, "its part: one way {one_way}");
        world.run(10);
        let others: u32 = (1..5).map(|index| world.ceiling(index)).sum();
        assert_eq!(others, 80, "nobody waits for the lost one");

        world.cut.iter_mut().for_each(|row| row.fill(false));
        world.run(5);
        assert!(world.ceiling(0) >= 55);
    }
}

#[test]
fn ceilings_never_add_up_to_more_than_the_configured_one() {
    for seed in 0..60 {
        let mut dice = Dice::seeded(seed);
        let count = 2 + dice.below(7);
        let total = (count + dice.below(300)) as u32;
        let mut world = World::new(count, total, seed);
        for _ in 0..30 {
            // New random conditions: demand, partitions in either direction, delays, losses.
            world.delay_max = Duration::from_millis([20, 200, 900, 3_000][dice.below(4)]);
            world.loss = [0.0, 0.0, 0.3, 0.8][dice.below(4)];
            for index in 0..count {
                world.proxies[index].demand = [0, 5, total][dice.below(3)];
                if dice.unit() < 0.1 {
                    world.restart(index);
                }
                for other in 0..count {
                    world.cut[index][other] = dice.unit() < 0.2;
                }
            }
            (0..1 + dice.below(120)).for_each(|_| world.advance());
        }
    }
}

#[test]
fn a_forged_loan_is_bounded_by_what_a_proxy_could_lend() {
    let mut world = World::new(4, 100, 3);
    let grants = [("idc".to_owned(), [("p0".to_owned(), u32::MAX)].into())].into();
    let by = world.proxies[1].by.clone();
    let forged = Report { by, sequence: 1, members: 1, expected: 1, grants, ..Report::default() };
    let now = world.now();
    let own = world.proxies[0].by.clone();
    world.proxies[0].members.merge("x", "a", &own, forged, now).unwrap();
    world.decide(0, now);
    assert_eq!(world.ceiling(0), 13 + 12);
}

/// Two proxies share a budget of $36 an hour. One spends as much as it may, the other a cent now and then. They are
/// partitioned for ten minutes in the middle.
#[test]
fn a_shared_budget_goes_to_who_needs_it_and_is_never_exceeded() {
    const TERMS: SpendingLimit =
        SpendingLimit { usd_per_hour: 36.0, share: 1.0, shared: true, binds_failover: false };
    let by = |index: u64| Identity {
        site: "a".to_owned(),
        incarnation: 1,
        instance: format!("p{index}"),
    };
    let mut members = [Members::default(), Members::default()];
    let mut shares = [Shares::default(), Shares::default()];
    let mut budgets = [Budget::new(TERMS, None), Budget::new(TERMS, None)];
    let (mut spent, mut in_cut) = ([0.0, 0.0], 0.0);
    // Four steps a second, for an hour.
    for step in 0..4 * 3_600_u64 {
        let now = Timestamp::START.plus(Duration::from_millis(250 * step));
        let is_cut = (4 * 1_500..4 * 2_100).contains(&step);
        for own in 0..2 {
            let uses = [budget_use("shop", budgets[own].level(), 2)];
            let identity = by(own as u64);
            let decided = shares[own].decide(&uses, (&members[own], &identity, 2), now);
            budgets[own].set_part(fraction(Some(decided[0].ceiling(now)), 2));
            let wanted = if own == 0 { 0.01 } else { 0.0001 };
            let usd = if budgets[own].has_money(0.0) { wanted } else { 0.0 };
            budgets[own].refill(0.25);
            budgets[own].spend(Payment { limited: usd, unlimited: 0.0 });
            budgets[own].settle(0.25);
            spent[own] += usd;
            in_cut += if is_cut && own == 0 { usd } else { 0.0 };
        }
        if step % 4 == 0 && !is_cut {
            for own in 0..2 {
                let mut report =
                    Report { by: by(1 - own as u64), sequence: step, ..Report::default() };
                (report.members, report.expected) = (1, 1);
                shares[1 - own].tell(&mut report, now);
                members[own].merge("x", "a", &by(own as u64), report, now).unwrap();
            }
        }
    }
    let burst = 36.0 / 12.0;
    assert!(spent[0] + spent[1] <= 1.02 * 36.0 + burst, "{spent:?}");
    assert!(spent[0] >= 0.65 * 36.0, "three quarters but for the cut: {spent:?}");
    assert!(in_cut <= 0.5 * 6.0 + 0.75 * burst, "its part while alone: {in_cut}");
}
