//! Clients that left before they were answered: each is heard once a second.
//!
//! That somebody stopped waiting says that a cluster is slow, if it is many who do. One client that asks and
//! leaves, hundreds of times a second, says nothing more than the first time.

use crate::decision::units::{Timestamp, hash};
use std::net::IpAddr;
use std::time::Duration;

/// How long a client that has left is remembered.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Places to remember them in: two clients that share one forget each other, which only lets one be heard again.
const PLACES: usize = 256;

/// Who has left of late, as one worker saw it.
#[derive(Debug)]
pub struct Leavers(Box<[(u64, Timestamp); PLACES]>);

impl Default for Leavers {
    fn default() -> Leavers {
        Leavers(Box::new([(0, Timestamp::START); PLACES]))
    }
}

impl Leavers {
    /// Notes that a client left; says whether it did so within the last second.
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
