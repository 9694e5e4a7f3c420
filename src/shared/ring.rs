//! Single exchanges, from a worker to the control thread: a ring with one writer and one reader.
//!
//! The worker records when an exchange was sent and how long its response took. The control thread reads exchanges
//! that ended since its last read, and those in flight. Neither side waits: an entry that is being rewritten is
//! skipped. When there are more exchanges than entries, only every n-th is recorded; the control thread sets n.
//!
//! # Invariants
//! * All parts of an entry that is read belong to one exchange: the time of sending is the entry's version.

use crate::decision::exchange::{End, Ended, Exchanges, Open};
use crate::decision::units::Timestamp;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Entries: enough for the exchanges in flight and those that end between two sweeps.
const ENTRIES: usize = 256;
/// Entries in use above which fewer exchanges are recorded, and below which more are.
const FULL: u64 = ENTRIES as u64 / 4 * 3;
const SPARE: u64 = ENTRIES as u64 / 8;
/// At least one exchange in this many is recorded.
const EVERY_MAX: u32 = 1024;
/// Value of `took` for an exchange without a response; otherwise `took` is its microseconds plus one.
const UNANSWERED: u64 = u64::MAX;

/// One exchange. `sent`: microseconds since the process began, and the stratum; 0 while the entry is rewritten.
/// `took`: 0 while the exchange is in flight.
#[derive(Debug, Default)]
struct Entry {
    sent: AtomicU64,
    took: AtomicU64,
    /// When an exchange without a response ended; it may have been in flight for long before that.
    over: AtomicU64,
}

/// A ring of exchanges of one worker.
#[derive(Debug)]
pub struct Ring {
    entries: Box<[Entry]>,
    /// Exchanges recorded so far.
    head: AtomicU64,
    /// Only every `every`-th exchange is recorded.
    every: AtomicU32,
    /// Exchanges since the last recorded one.
    passed: AtomicU32,
}

/// Identifies a recorded exchange in its ring.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    at: usize,
    sent: u64,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring {
            entries: (0..ENTRIES).map(|_| Entry::default()).collect(),
            head: AtomicU64::new(0),
            every: AtomicU32::new(1),
            passed: AtomicU32::new(0),
        }
    }
}

impl Ring {
    /// Records that an exchange was sent. Only one thread may write. `None` if this exchange is not recorded.
    pub fn sent(&self, at: Timestamp, stratum: u8) -> Option<Ticket> {
        let passed = self.passed.load(Ordering::Relaxed).wrapping_add(1);
        if passed < self.every.load(Ordering::Relaxed) {
            self.passed.store(passed, Ordering::Relaxed);
            return None;
        }
        self.passed.store(0, Ordering::Relaxed);
        let head = self.head.load(Ordering::Relaxed);
        let index = (head % ENTRIES as u64) as usize;
        // The lowest bit distinguishes microsecond 0 from an entry that is being rewritten.
        let sent = (at.as_nanos() / 1_000) << 9 | u64::from(stratum) << 1 | 1;
        let entry = &self.entries[index];
        entry.sent.store(0, Ordering::Relaxed);
        entry.took.store(0, Ordering::Release);
        entry.sent.store(sent, Ordering::Release);
        self.head.store(head.wrapping_add(1), Ordering::Release);
        Some(Ticket { at: index, sent })
    }

    /// Records that the response head came `took` after sending.
    pub fn answered(&self, ticket: Ticket, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(UNANSWERED - 2).min(UNANSWERED - 2);
        self.end(ticket, took + 1);
    }

    /// Records that the exchange ended without a response.
    pub fn unanswered(&self, ticket: Ticket, now: Timestamp) {
        self.entries[ticket.at].over.store(now.as_nanos() / 1_000, Ordering::Relaxed);
        self.end(ticket, UNANSWERED);
    }

    fn end(&self, ticket: Ticket, took: u64) {
        let entry = &self.entries[ticket.at];
        // The entry may belong to a newer exchange by now.
        if entry.sent.load(Ordering::Relaxed) == ticket.sent {
            entry.took.store(took, Ordering::Release);
        }
    }
}

/// The reader's position.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// All exchanges before this number were read.
    low: u64,
    /// Number of recorded exchanges at the last read.
    head: u64,
    /// Ended exchanges that were already read, by entry, with their time of sending.
    read: Vec<u64>,
}

impl Cursor {
    /// Reads the exchanges that ended since the last call, and those in flight.
    pub(super) fn read(&mut self, ring: &Ring, into: &mut Exchanges) {
        if self.read.is_empty() {
            self.read = vec![0; ENTRIES];
        }
        let head = ring.head.load(Ordering::Acquire);
        self.low = self.low.max(head.saturating_sub(ENTRIES as u64));
        let mut all_over = true;
        for number in self.low..head {
            let index = (number % ENTRIES as u64) as usize;
            let entry = &ring.entries[index];
            let sent = entry.sent.load(Ordering::Acquire);
            let took = entry.took.load(Ordering::Acquire);
            let over = entry.over.load(Ordering::Relaxed);
            if sent == 0 || entry.sent.load(Ordering::Acquire) != sent {
                continue;
            }
            if took == 0 {
                all_over = false;
                into.open.push(Open { sent: seconds(sent), stratum: stratum(sent) });
            } else if self.read[index] != sent {
                self.read[index] = sent;
                into.ended.push(ended(sent, took, over));
            }
            if all_over {
                self.low = number + 1;
            }
        }
        let came = head - self.head;
        self.head = head;
        thin(ring, (head - self.low).max(came));
    }
}

/// Records fewer exchanges when the ring is nearly full, and more when there is space.
fn thin(ring: &Ring, crowd: u64) {
    let every = ring.every.load(Ordering::Relaxed);
    let every = match crowd {
        crowd if crowd > FULL => (every * 2).min(EVERY_MAX),
        crowd if crowd < SPARE => (every / 2).max(1),
        _ => every,
    };
    ring.every.store(every, Ordering::Relaxed);
}

fn seconds(sent: u64) -> f64 {
    (sent >> 9) as f64 / 1e6
}

fn stratum(sent: u64) -> u8 {
    (sent >> 1) as u8
}

fn ended(sent: u64, took: u64, over: u64) -> Ended {
    let (ended, end) = match took {
        UNANSWERED => (over as f64 / 1e6, End::Unanswered),
        took => (seconds(sent) + (took - 1) as f64 / 1e6, End::Answered),
    };
    Ended { sent: seconds(sent), ended, stratum: stratum(sent), end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_nanos(micros * 1_000)
    }

    fn read(cursor: &mut Cursor, ring: &Ring) -> Exchanges {
        let mut exchanges = Exchanges::default();
        cursor.read(ring, &mut exchanges);
        exchanges
    }

    #[test]
    fn an_exchange_is_read_once_when_complete_and_at_each_sweep_while_waiting() {
        let (ring, mut cursor) = (Ring::default(), Cursor::default());
        let first = ring.sent(at(0), 3).unwrap();
        let second = ring.sent(at(500_000), 31).unwrap();
        assert_eq!(read(&mut cursor, &ring).open.len(), 2);
        ring.answered(second, Duration::from_micros(1_500));
        let seen = read(&mut cursor, &ring);
        let ended = Ended { sent: 0.5, ended: 0.5015, stratum: 31, end: End::Answered };
        assert_eq!(seen.ended, [ended]);
        assert_eq!(seen.open, [Open { sent: 0.0, stratum: 3 }]);
        ring.unanswered(first, at(2_000_000));
        let seen = read(&mut cursor, &ring);
        assert_eq!(
            seen.ended[0],
            Ended { sent: 0.0, ended: 2.0, stratum: 3, end: End::Unanswered }
        );
        assert_eq!(read(&mut cursor, &ring), Exchanges::default());
    }

    #[test]
    fn an_overflowing_ring_drops_the_oldest_and_then_samples() {
        let (ring, mut cursor) = (Ring::default(), Cursor::default());
        let lost = ring.sent(at(1), 0).unwrap();
        assert!((0..300).all(|n| ring.sent(at(10 + n), 1).is_some()));
        ring.answered(lost, Duration::from_secs(1));
        let seen = read(&mut cursor, &ring);
        assert_eq!((seen.open.len(), seen.ended.len()), (ENTRIES, 0), "the first's place is taken");
        let noted = (0..100).filter(|n| ring.sent(at(1_000 + n), 1).is_some()).count();
        assert_eq!(noted, 50, "every second one");
        for _ in 0..20 {
            let noted = (0..1_000).filter_map(|n| ring.sent(at(2_000 + n), 1));
            noted.for_each(|ticket| ring.answered(ticket, Duration::ZERO));
            read(&mut cursor, &ring);
        }
        let noted = (0..1_000).filter(|n| ring.sent(at(9_000 + n), 1).is_some()).count();
        assert!((100..=250).contains(&noted), "{noted}");
        // The load is low again.
        let (ring, mut cursor) = (Ring::default(), Cursor::default());
        ring.every.store(8, Ordering::Relaxed);
        (0..5).for_each(|_| drop(read(&mut cursor, &ring)));
        assert!(ring.sent(at(9_900), 1).is_some());
    }

    #[test]
    fn a_reader_beside_the_writer_sees_only_what_was_written() {
        let ring = Ring::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200_000_u64 {
                    // Sent at microsecond n with a response time of n, and a stratum derived from n.
                    if let Some(ticket) = ring.sent(at(n), (n % 32) as u8) {
                        ring.answered(ticket, Duration::from_micros(n));
                    }
                }
            });
            let mut cursor = Cursor::default();
            for _ in 0..2_000 {
                for one in read(&mut cursor, &ring).ended {
                    let micros = (one.sent * 1e6).round() as u64;
                    assert_eq!(u64::from(one.stratum), micros % 32);
                    assert!((one.ended - 2.0 * one.sent).abs() < 1e-9, "{one:?}");
                }
            }
        });
    }
}
