//! Scheduling of password hashes, which are slow by design: limits for the process, for a policy, and for a client.
//!
//! The number of jobs of one policy that run or are next in the queue is at most the number of jobs that the process
//! runs at once. Therefore a flood of requests for one policy delays another policy by at most one job, whatever the
//! length of the first policy's queue.

use super::Refused;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Concurrent jobs of the process.
const AT_ONCE: usize = 2;
/// The most queued and running requests of a policy, the most of one client, and the longest wait.
const WAITING_MAX: usize = 64;
const OF_CLIENT_MAX: usize = 4;
const WAIT_MAX: Duration = Duration::from_secs(3);

static AT_WORK: Semaphore = Semaphore::const_new(AT_ONCE);

/// The scheduling state of one policy.
#[derive(Debug)]
pub struct Turns {
    next: Arc<Semaphore>,
    waiting: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// Permission to run a job, until dropped.
#[derive(Debug)]
pub struct Turn {
    _at_work: SemaphorePermit<'static>,
    _next: OwnedSemaphorePermit,
    _waiting: Waiting,
}

#[derive(Debug)]
struct Waiting {
    all: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    client: IpAddr,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { next: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }
}

impl Turns {
    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Refused::Full`] when too many requests of this client or of all clients wait, or when the wait was too
    /// long.
    pub async fn wait(&self, client: IpAddr) -> Result<Turn, Refused> {
        let waiting = self.enter(client.to_canonical()).ok_or(Refused::Full)?;
        let turn = async {
            let next = self.next.clone().acquire_owned().await.ok()?;
            Some(Turn { _at_work: AT_WORK.acquire().await.ok()?, _next: next, _waiting: waiting })
        };
        tokio::time::timeout(WAIT_MAX, turn).await.ok().flatten().ok_or(Refused::Full)
    }

    fn enter(&self, client: IpAddr) -> Option<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let own = waiting.get(&client).copied().unwrap_or(0);
        if own >= OF_CLIENT_MAX || waiting.values().sum::<usize>() >= WAITING_MAX {
            return None;
        }
        waiting.insert(client, own + 1);
        Some(Waiting { all: self.waiting.clone(), client })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(all.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// Starts requests forever, each of which waits for a turn and keeps the turn for a second.
    fn flood(turns: &Arc<Turns>, client: IpAddr) {
        let turns = turns.clone();
        tokio::spawn(async move {
            loop {
                match turns.wait(client).await {
                    Ok(_turn) => tokio::time::sleep(Duration::from_secs(1)).await,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
    }

    // One test: the process-wide bound is shared by all tests of this process.
    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_policy_or_client_delays_no_other() {
        let (attacked, quiet) = (Arc::new(Turns::default()), Turns::default());
        for number in 0..200 {
            flood(&attacked, client(number / 4));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(attacked.waiting.lock().unwrap().values().sum::<usize>(), WAITING_MAX);
        for _ in 0..20 {
            let before = tokio::time::Instant::now();
            let turn = quiet.wait(client(250)).await;
            assert!(turn.is_ok() && before.elapsed() <= Duration::from_secs(1));
        }

        let attacked = Arc::new(Turns::default());
        (0..100).for_each(|_| flood(&attacked, client(1)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(attacked.waiting.lock().unwrap().get(&client(1)), Some(&OF_CLIENT_MAX));
        assert!(attacked.wait(client(2)).await.is_ok());
    }
}
