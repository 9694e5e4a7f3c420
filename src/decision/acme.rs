//! ACME (RFC 8555): names that need a certificate, when it is renewed, and when a failed order is tried again.
//!
//! # Units
//! Moments are seconds since 1970, as in certificates.

use super::units::Dice;
use std::path::PathBuf;
use std::time::Duration;

/// The certificates that a listener orders, one for each name: a name that the authority refuses does not affect the
/// others.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Acme {
    /// The authority's directory.
    pub directory: Directory,
    /// Where the authority sends notices.
    pub email: Option<String>,
    /// How the authority validates a name.
    pub challenge: ChallengeKind,
    /// The names.
    pub domains: Vec<Domain>,
    /// The folder of challenges and of the lock, which all proxies with the same `state_dir` share.
    pub folder: PathBuf,
}

/// The directory of an authority: the URL that names all others.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Directory {
    /// Its URL.
    pub url: String,
    /// The authorities of the directory's own certificate; those of the system if `None`.
    pub ca: Option<PathBuf>,
    /// The folder of the account and the certificates of this authority.
    pub folder: PathBuf,
}

/// A name, and the file with its certificate.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Domain {
    /// The name, in lower case.
    pub name: String,
    /// The key and the chain, in PEM. One file: a crash leaves a pair that fits together.
    pub file: PathBuf,
}

/// How an authority validates a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ChallengeKind {
    /// It fetches a token over plain HTTP (RFC 8555 §8.3).
    Http01,
    /// It begins a TLS connection with the protocol `acme-tls/1` (RFC 8737).
    TlsAlpn01,
}

/// A challenge that the proxies of a site answer.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
pub struct Challenge {
    /// The name that is validated.
    pub domain: String,
    /// The token, a dot, and the thumbprint of the account's key (RFC 8555 §8.1).
    pub key_authorization: String,
}

/// Challenges that a proxy answers at once, its own and those of each other proxy.
pub const CHALLENGES_MAX: usize = 64;
/// Names that one proxy orders certificates for.
pub const DOMAINS_MAX: usize = 100;
/// The path of HTTP-01, up to the token.
pub const HTTP_PATH: &str = "/.well-known/acme-challenge/";

impl Challenge {
    /// Whether domain and key authorization have their form. Both come from other proxies and from the authority, and
    /// the key authorization is a response body and names a file.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let is_part = |part: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=128).contains(&part.len()) && part.bytes().all(is_letter)
        };
        let parts = self.key_authorization.split_once('.');
        parts.is_some_and(|(token, thumbprint)| is_part(token) && is_part(thumbprint))
            && is_domain(&self.domain)
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        self.key_authorization.split('.').next().unwrap_or_default()
    }
}

/// Whether a text is a host name in lower case, without a wildcard and not an IP address.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// When a certificate is renewed: after two thirds of its life and up to a twentieth of it more, so that certificates of
/// the same day are not all renewed in the same minute.
#[must_use]
pub fn renewal_at(begins: i64, expires: i64, dice: &mut Dice) -> i64 {
    let life = expires.saturating_sub(begins).max(0);
    let jitter = (life as f64 / 20.0 * dice.unit()) as i64;
    begins.saturating_add(life / 3 * 2).saturating_add(jitter)
}

/// When a certificate that was issued or found at `now` is renewed: not in a loop, if its renewal is due already.
#[must_use]
pub fn next_renewal_at(begins: i64, expires: i64, now: i64, dice: &mut Dice) -> i64 {
    renewal_at(begins, expires, dice).max(now.saturating_add(SOONEST))
}

/// Whether a certificate is still in the first two thirds of its life: another proxy has renewed it.
#[must_use]
pub fn is_fresh(begins: i64, expires: i64, now: i64) -> bool {
    let life = expires.saturating_sub(begins).max(0);
    now < begins.saturating_add(life / 3 * 2)
}

/// The time from an order to the renewal of its certificate, at least, in seconds.
const SOONEST: i64 = 10;

/// Why an order failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The authority did not answer, or its answer was not ACME.
    Unreachable,
    /// The authority refuses further orders for a time.
    RateLimited,
    /// The authority could not validate the name.
    Invalid,
    /// The authority refused the account or the order for another reason.
    Refused,
    /// The certificate does not fit the key or the name, or is not valid now.
    BadCertificate,
    /// `state_dir` could not be read or written.
    State,
}

impl Failure {
    /// All failures.
    pub const ALL: [Failure; 6] = [
        Failure::Unreachable,
        Failure::RateLimited,
        Failure::Invalid,
        Failure::Refused,
        Failure::BadCertificate,
        Failure::State,
    ];

    /// The label in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Failure::Unreachable => "unreachable",
            Failure::RateLimited => "rate_limited",
            Failure::Invalid => "invalid",
            Failure::Refused => "refused",
            Failure::BadCertificate => "bad_certificate",
            Failure::State => "state",
        }
    }

    /// The pause after the first failure. Authorities count failed validations and orders (Let's Encrypt: 5 failures of
    /// a name in an hour), but not connections that fail.
    const fn first_pause(self) -> Duration {
        match self {
            Failure::Unreachable | Failure::State => SHORT,
            Failure::RateLimited
            | Failure::Invalid
            | Failure::Refused
            | Failure::BadCertificate => Duration::from_secs(150),
        }
    }
}

/// The first pause where an attempt costs the authority nothing, or the authority itself said when to return.
const SHORT: Duration = Duration::from_secs(5);
/// The longest pause that is ours; an authority may demand a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);
/// The longest pause that an authority can demand.
const DEMAND_MAX: Duration = Duration::from_secs(7 * 86_400);

/// The pause before the next attempt after `failures` failures in a row, at least 1: doubled with each failure, up to a
/// fifth longer by chance, and never shorter than the authority demands (`Retry-After`).
#[must_use]
pub fn pause(
    failure: Failure,
    failures: u32,
    demanded: Option<Duration>,
    dice: &mut Dice,
) -> Duration {
    let first = demanded.map_or(failure.first_pause(), |_| SHORT);
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let own = doubled.min(PAUSE_MAX).mul_f64(1.0 + dice.unit() / 5.0);
    own.max(held(demanded))
}

/// The pause that the authority demanded, within reason: not even an operator shortens it.
#[must_use]
pub fn held(demanded: Option<Duration>) -> Duration {
    demanded.unwrap_or_default().min(DEMAND_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_and_before_three_quarters() {
        for seed in 0..200 {
            let mut dice = Dice::seeded(seed);
            for life in [90, 3_600, 6 * 86_400, 90 * 86_400] {
                let at = renewal_at(1_000, 1_000 + life, &mut dice) - 1_000;
                assert!((life / 3 * 2..life * 3 / 4).contains(&at), "{life}: {at}");
            }
        }
        let spread: std::collections::BTreeSet<i64> = (0..50)
            .map(|seed| renewal_at(0, 90 * 86_400, &mut Dice::seeded(seed)) / 3_600)
            .collect();
        assert!(spread.len() > 20, "{spread:?}");
        assert_eq!(renewal_at(9, 3, &mut Dice::seeded(1)), 9, "a life below 0 is none");
    }

    #[test]
    fn a_certificate_is_fresh_until_its_renewal_and_never_ordered_in_a_loop() {
        let mut dice = Dice::seeded(3);
        #[rustfmt::skip]
        let table = [
            // begins, expires, now, fresh
            (0,        90,      0,   true),
            (0,        90,      59,  true),
            (0,        90,      60,  false),
            (0,        90,      100, false),
            (100,      190,     0,   true),
            (9,        3,       8,   true),
            (9,        3,       9,   false),
        ];
        for (begins, expires, now, fresh) in table {
            assert_eq!(is_fresh(begins, expires, now), fresh, "{begins} {expires} {now}");
            let next = next_renewal_at(begins, expires, now, &mut dice);
            assert!(next >= now + 10 && next >= begins, "{begins} {expires} {now}: {next}");
            assert!(!is_fresh(begins, expires, next), "{begins} {expires} {now}: {next}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_never_shorter_than_demanded() {
        let mut dice = Dice::seeded(7);
        for failure in Failure::ALL {
            let mut total = Duration::ZERO;
            for failures in 1..40 {
                let pause = pause(failure, failures, None, &mut dice);
                let least = failure
                    .first_pause()
                    .saturating_mul(1 << (failures - 1).min(20))
                    .min(PAUSE_MAX);
                assert!(pause >= least && pause <= least.mul_f64(1.21), "{failure:?} {failures}");
                total += pause;
                if failure != Failure::Unreachable && failure != Failure::State && failures == 4 {
                    assert!(total > Duration::from_secs(1800), "the fifth attempt is late");
                }
            }
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(pause(Failure::RateLimited, 1, Some(hour), &mut dice), hour);
        let soon = pause(Failure::RateLimited, 1, Some(Duration::from_secs(7)), &mut dice);
        assert_eq!(soon, Duration::from_secs(7), "the authority knows");
        let endless = Some(Duration::from_secs(1 << 40));
        assert_eq!(pause(Failure::RateLimited, 1, endless, &mut dice), DEMAND_MAX);
    }

    #[test]
    fn a_challenge_holds_neither_a_path_nor_a_line_end() {
        let challenge = |domain: &str, key: &str| Challenge {
            domain: domain.to_owned(),
            key_authorization: key.to_owned(),
        };
        let long = "a".repeat(129);
        #[rustfmt::skip]
        let table = [
            ("shop.example.com", "t0ken-_.thumb-_9", true),
            ("localhost",        "a.b",              true),
            ("",                 "a.b",              false),
            ("*.example.com",    "a.b",              false),
            ("Shop.example",     "a.b",              false),
            ("-a.example",       "a.b",              false),
            ("127.0.0.1",        "a.b",              false),
            ("a..b",             "a.b",              false),
            ("shop",             "../a.b",           false),
            ("shop",             "a.b\r\nx: y",      false),
            ("shop",             "a",                false),
            ("shop",             ".b",               false),
            ("shop",             "a.",               false),
            ("shop",             long.as_str(),      false),
        ];
        for (domain, key, valid) in table {
            assert_eq!(challenge(domain, key).is_valid(), valid, "{domain} {key}");
        }
        assert_eq!(challenge("shop", "abc.def").token(), "abc");
    }
}
