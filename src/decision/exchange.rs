//! Exchanges one by one, as the workers note them: what a mean over all of them cannot tell.
//!
//! # Units
//! Seconds since the process began.

/// How an exchange was over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Its response head came.
    Answered,
    /// It was over without one: its client left, or it failed. It has waited at least so long.
    Unanswered,
}

/// One exchange that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// When it was sent, its whole request that is.
    pub sent: f64,
    /// When it was over.
    pub ended: f64,
    /// Which kind of request it was: see [`stratum`](super::strata::number).
    pub stratum: u8,
    /// How.
    pub end: End,
}

/// One exchange that waits for its response head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Open {
    /// When it was sent.
    pub sent: f64,
    /// Which kind of request it is.
    pub stratum: u8,
}

/// What happened to exchanges of one class at one cluster since the last sweep: a sample of them where
/// there are many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchanges {
    /// Those that are over since.
    pub ended: Vec<Ended>,
    /// Those that wait now.
    pub open: Vec<Open>,
}

impl Exchanges {
    /// Those that were answered.
    pub fn answered(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().filter(|one| one.end == End::Answered)
    }

    /// Forgets all, and keeps the room for them.
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

/// The most that are kept: more say no more.
const KEPT: usize = 512;
/// Old ones are let go by so many at once: each time moves all others.
const LET_GO: usize = 128;

impl History {
    /// Takes what a sweep brought; what ended before `oldest` is forgotten sooner or later.
    pub fn take(&mut self, new: &Exchanges, oldest: f64) {
        self.open.clear();
        self.open.extend_from_slice(&new.open);
        let before = self.ended.len();
        self.ended.extend_from_slice(&new.ended);
        // Several workers bring theirs one after the other.
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

    /// Forgets all that are over but the newest.
    pub fn keep_newest(&mut self, count: usize) {
        self.ended.drain(..self.ended.len().saturating_sub(count));
    }

    /// Those that are over, the newest last.
    #[must_use]
    pub fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// Those that wait.
    #[must_use]
    pub fn open(&self) -> &[Open] {
        &self.open
    }
}
