//! Clients that leave before their response: each counts once a second.
//!
//! Many clients that leave show that a cluster is slow. A single client that sends a request and leaves, hundreds of
//! times a second, gives no more evidence than the first time.

use crate::decision::units::{Timestamp, hash};
use std::net::IpAddr;
use std::time::Duration;

/// How long a client is remembered after it left.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Entries of the table: if two clients share an entry, they replace each other, and one of them may count
/// twice.
const PLACES: usize = 256;

/// Clients that left recently, as seen by one worker.
#[derive(Debug)]
pub struct Leavers(Box<[(u64, Timestamp); PLACES]>);

impl Default for Leavers {
    fn default() -> Leavers {
        Leavers(Box::new([(0, Timestamp::START); PLACES]))
    }
}

impl Leavers {
    /// Records that a client left; returns whether it did so within the last second.
    pub fn has_just_left(&mut self, client: IpAddr, now: Timestamp) -> bool {
        let key = match client {
            IpAddr::V4(client) => hash(&client.octets()),
            IpAddr::V6(client) => hash(&client.octets()),
        };
        let (known, at) = &mut self.0[key as usize % PLACES];
        let seen = *known == key && now.since(*at) < REMEMBERED;
        if !seen {
            (*known, *at) = (key, now);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_client_counts_once_a_second() {
        let mut leavers = Leavers::default();
        let client = |number: u8| IpAddr::from([10, 0, 0, number]);
        let at = |ms: u64| Timestamp::START.plus(Duration::from_millis(ms));
        let mut seen = 0;
        for ms in (0..5_000).step_by(4) {
            seen += u32::from(!leavers.has_just_left(client(1), at(10_000 + ms)));
        }
        assert_eq!(seen, 5);
        let others = (2..=100).filter(|n| !leavers.has_just_left(client(*n), at(15_000))).count();
        assert_eq!(others, 99);
    }
}
