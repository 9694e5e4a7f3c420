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

impl History {
    /// Takes what a sweep brought; what ended before `oldest` is forgotten.
    pub fn take(&mut self, new: &Exchanges, oldest: f64) {
        self.open.clear();
        self.open.extend_from_slice(&new.open);
        self.ended.extend_from_slice(&new.ended);
        if self.ended.len() > KEPT || self.ended.first().is_some_and(|one| one.ended < oldest) {
            // Several workers bring theirs one after the other.
            self.ended.sort_by(|a, b| a.ended.total_cmp(&b.ended));
            let old = self.ended.iter().take_while(|one| one.ended < oldest).count();
            let many = self.ended.len().saturating_sub(KEPT);
            self.ended.drain(..old.max(many));
        } else if !new.ended.is_empty() {
            self.ended.sort_by(|a, b| a.ended.total_cmp(&b.ended));
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
