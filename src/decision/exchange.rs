//! Single exchanges as the workers record them. The assessor needs single exchanges, because a mean
//! hides the kinds of requests and the exchanges that have not ended.
//!
//! # Units
//! Seconds since the process began.

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The response head arrived.
    Answered,
    /// The exchange ended without a response: its client left, or the exchange failed. The duration is a
    /// lower bound of the response time.
    Unanswered,
}

/// One exchange that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// When the whole request had been sent.
    pub sent: f64,
    /// When the exchange ended.
    pub ended: f64,
    /// The kind of the request: see [`stratum`](super::strata::number).
    pub stratum: u8,
    /// How the exchange ended.
    pub end: End,
}

/// One exchange in flight, without a response head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open {
    /// When it was sent.
    pub sent: f64,
    /// The kind of the request.
    pub stratum: u8,
}

/// The exchanges of one class at one cluster since the last sweep; a sample of them if there are many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchanges {
    /// Exchanges that ended since.
    pub ended: Vec<Ended>,
    /// Exchanges in flight now.
    pub open: Vec<Open>,
}

impl Exchanges {
    /// Exchanges that were answered.
    pub fn answered(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().filter(|one| one.end == End::Answered)
    }

    /// Forgets all exchanges, and keeps the buffers.
    pub fn clear(&mut self) {
        self.ended.clear();
        self.open.clear();
    }
}

/// Exchanges of the last seconds, one class at one cluster.
#[derive(Clone, Debug, Default)]
pub struct History {
    ended: Vec<Ended>,
    open: Vec<Open>,
}

/// The most exchanges that are kept.
const KEPT: usize = 512;
/// Old exchanges are removed in batches of this size, because each removal moves all others.
const LET_GO: usize = 128;

impl History {
    /// Takes the exchanges of a sweep; exchanges that ended before `oldest` are removed in batches.
    pub fn take(&mut self, new: &Exchanges, oldest: f64) {
        self.open.clear();
        self.open.extend_from_slice(&new.open);
        let before = self.ended.len();
        self.ended.extend_from_slice(&new.ended);
        // Several workers add their exchanges one after the other.
        if let Some(first) = new.ended.iter().map(|one| one.ended).min_by(f64::total_cmp) {
            let earlier = self.ended[..before].iter().rev().take_while(|one| one.ended > first);
            let from = before - earlier.count();
            self.ended[from..].sort_by(|a, b| a.ended.total_cmp(&b.ended));
        }
        let is_old = |one: &Ended| one.ended < oldest;
        if self.ended.len() > KEPT + LET_GO || self.ended.get(LET_GO).is_some_and(is_old) {
            let old = self.ended.partition_point(is_old);
            self.ended.drain(..old.max(self.ended.len().saturating_sub(KEPT)));
        } else if self.ended.last().is_some_and(is_old) {
            self.ended.clear();
        }
    }

    /// Forgets all ended exchanges but the newest.
    pub fn keep_newest(&mut self, count: usize) {
        self.ended.drain(..self.ended.len().saturating_sub(count));
    }

    /// Exchanges that ended, the newest last.
    #[must_use]
    pub fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// Exchanges in flight.
    #[must_use]
    pub fn open(&self) -> &[Open] {
        &self.open
    }
}
