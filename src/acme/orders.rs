//! When each certificate is ordered: at once if there is none, then for renewal, and after a failure with growing pauses.

pub(super) use super::answers::answer;
use super::order::{Failed, blocking, order};
use super::{Certificates, Names, files};
use crate::decision::acme::{
    Acme, Directory, Domain, Failure, held, is_fresh, next_renewal_at, pause, renewal_at,
};
use crate::decision::units::{Dice, hash};
use crate::os::clock;
use crate::tls::certificate::{self, Certificate};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The interval between two looks for what is due.
const LOOK: Duration = Duration::from_secs(1);
/// The pause while another proxy that shares the folder orders, in seconds.
const OTHERS_TURN: i64 = 3;

/// A certificate and its next order.
struct Entry {
    domain: Domain,
    acme: Acme,
    /// When it is ordered next.
    due: i64,
    /// Failures since the last success, and the kind that was logged.
    failures: u32,
    logged: Option<Failure>,
}

/// The result of an attempt.
enum Done {
    /// A certificate was issued.
    Issued(Certificate),
    /// The certificate need not be renewed yet: another proxy has renewed it.
    Fresh(Certificate),
    /// Another proxy orders now.
    Waits,
}

/// Orders the certificates of an authority, forever.
pub(super) async fn follow(certificates: Arc<Certificates>, directory: Directory, names: Names) {
    let seed = |domain: &Domain| hash(domain.name.as_bytes()) ^ clock::entropy();
    let mut dice = Dice::seeded(names.keys().map(seed).fold(0, |all, one| all ^ one));
    let mut entries = Vec::with_capacity(names.len());
    for (domain, acme) in names {
        let file = domain.file.clone();
        let read = blocking(move || certificate::load(&file, &file)).await;
        let due = match read.ok().and_then(Result::ok) {
            Some(known) => renewal_at(known.begins, known.expires, &mut dice),
            None => {
                let name = &domain.name;
                tracing::warn!(
                    name,
                    "no certificate for {name} yet, its TLS handshakes are refused: it is ordered from {}",
                    directory.url
                );
                0
            }
        };
        let due = due.max(certificates.held(&directory, &domain));
        entries.push(Entry { domain, acme, due, failures: 0, logged: None });
    }
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // An operator waits for the result.
            biased;
            () = certificates.retry.notified() => {
                for entry in entries.iter_mut().filter(|entry| entry.failures > 0) {
                    entry.due = certificates.held(&directory, &entry.domain);
                    (entry.failures, entry.logged) = (0, None);
                }
            }
            _ = looks.tick() => {}
        }
        for entry in entries.iter_mut().filter(|entry| entry.due <= now()) {
            let result = attempt(&certificates, entry).await;
            certificates.conclude(&directory, entry, result, &mut dice);
        }
    }
}

fn now() -> i64 {
    seconds_of(clock::since_epoch())
}

fn seconds_of(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX / 2)
}

/// Orders a certificate, unless another proxy does or did so.
async fn attempt(certificates: &Certificates, entry: &Entry) -> Result<Done, Failed> {
    let (folder, file) = (entry.acme.directory.folder.clone(), entry.domain.file.clone());
    let prepared = blocking(move || {
        files::folder(&folder)?;
        let lock = files::lock(&folder)?;
        Ok((lock, certificate::load(&file, &file).ok()))
    });
    let prepared: std::io::Result<_> = prepared.await?;
    // Held until the end of the order.
    let (lock, known) = prepared.map_err(Failed::state)?;
    let Some(_lock) = lock else { return Ok(Done::Waits) };
    if let Some(known) = known.filter(|known| is_fresh(known.begins, known.expires, now())) {
        return Ok(Done::Fresh(known));
    }
    order(certificates, &entry.acme, &entry.domain).await?;
    let file = entry.domain.file.clone();
    let issued = blocking(move || certificate::load(&file, &file)).await?;
    issued.map(Done::Issued).map_err(Failed::state)
}

impl Certificates {
    /// The moment before which the authority refuses an order of this name.
    fn held(&self, directory: &Directory, domain: &Domain) -> i64 {
        let key = (directory.url.clone(), domain.name.clone());
        self.state().held.get(&key).copied().unwrap_or(0)
    }

    /// Counts and logs the result of an attempt, and sets the time of the next one.
    fn conclude(
        &self,
        directory: &Directory,
        entry: &mut Entry,
        result: Result<Done, Failed>,
        dice: &mut Dice,
    ) {
        let name = &entry.domain.name.clone();
        match result {
            Ok(Done::Waits) => entry.due = now() + OTHERS_TURN,
            Ok(Done::Fresh(known)) => entry.succeeded(&known, dice),
            Ok(Done::Issued(issued)) => {
                self.issued.fetch_add(1, Ordering::Relaxed);
                let until = u64::try_from(issued.expires).unwrap_or(0);
                let until = clock::rfc3339(Duration::from_secs(until));
                tracing::info!(name, "certificate for {name} issued, valid until {until}");
                entry.succeeded(&issued, dice);
            }
            Err(Failed { failure, why, demanded }) => {
                let counters = Failure::ALL.iter().zip(&self.failed);
                for (_, count) in counters.filter(|(known, _)| **known == failure) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let pause = entry.failed(failure, demanded, now(), dice);
                if demanded.is_some() {
                    let key = (directory.url.clone(), name.clone());
                    self.state().held.insert(key, now() + seconds_of(held(demanded)));
                }
                let (cause, seconds) = (failure.label(), pause.as_secs());
                // The same failure again is news only for who looks at every line.
                if entry.logged == Some(failure) {
                    tracing::debug!(
                        name,
                        cause,
                        "no certificate for {name} ({cause}): {why}; next attempt in {seconds} s"
                    );
                } else {
                    entry.logged = Some(failure);
                    tracing::error!(
                        name,
                        cause,
                        "no certificate for {name} ({cause}): {why}; next attempt in {seconds} s, then less often"
                    );
                }
            }
        }
    }
}

impl Entry {
    fn succeeded(&mut self, certificate: &Certificate, dice: &mut Dice) {
        (self.failures, self.logged) = (0, None);
        self.due = next_renewal_at(certificate.begins, certificate.expires, now(), dice);
    }

    /// Notes a failure; returns the pause until the next attempt.
    fn failed(
        &mut self,
        failure: Failure,
        demanded: Option<Duration>,
        now: i64,
        dice: &mut Dice,
    ) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = pause(failure, self.failures, demanded, dice);
        self.due = now + seconds_of(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::acme::ChallengeKind;

    #[test]
    fn each_failure_in_a_row_puts_the_next_attempt_off_twice_as_long() {
        let directory = Directory { url: String::new(), ca: None, folder: "x".into() };
        let acme = Acme {
            directory,
            email: None,
            challenge: ChallengeKind::Http01,
            domains: Vec::new(),
            folder: "x".into(),
        };
        let domain = Domain { name: "a.example".to_owned(), file: "x".into() };
        let mut entry = Entry { domain, acme, due: 0, failures: 0, logged: None };
        let mut dice = Dice::seeded(5);
        for least in [150, 300, 600, 1_200] {
            let pause = entry.failed(Failure::Invalid, None, 1_000, &mut dice);
            let waits = entry.due - 1_000;
            assert!((least..=least * 6 / 5).contains(&waits), "{least}: {waits}");
            assert_eq!(i64::try_from(pause.as_secs()), Ok(waits));
        }
        let day = Some(Duration::from_secs(86_400));
        entry.failed(Failure::RateLimited, day, 1_000, &mut dice);
        assert_eq!(entry.due, 1_000 + 86_400, "what the authority demands");
    }
}
