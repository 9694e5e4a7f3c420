//! One order: account, challenge, certificate, file.

use super::answers::spread;
use super::client::{Client, Demanded};
use super::{Certificates, files};
use crate::decision::acme::{Acme, Challenge, ChallengeKind, Domain, Failure};
use crate::os::{clock, private_file};
use crate::tls::certificate;
use crate::tls::challenges::Challenges;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, HttpClient, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// The deadline of an order, all its requests included.
const ORDER: Duration = Duration::from_secs(180);
/// The time for the authority to validate a name, and to issue a certificate.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_secs(75));
/// Characters of an authority's text in a message.
const TEXT_MAX: usize = 300;

/// Why an order failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// For the log.
    pub(super) why: String,
    /// The pause that the authority demands.
    pub(super) demanded: Option<Duration>,
}

impl Failed {
    pub(super) fn new(failure: Failure, why: impl Into<String>) -> Failed {
        Failed { failure, why: why.into(), demanded: None }
    }

    pub(super) fn state(error: impl std::fmt::Display) -> Failed {
        Failed::new(Failure::State, format!("state_dir: {error}"))
    }

    /// An error of the library. `refused` is the failure if the authority refused the request with a problem.
    fn of(error: &Error, refused: Failure) -> Failed {
        match error {
            Error::Api(problem) if is(problem, "rateLimited") || problem.status == Some(429) => {
                Failed::new(Failure::RateLimited, clean(&problem.to_string()))
            }
            Error::Api(problem) if is(problem, "serverInternal") || problem.status >= Some(500) => {
                Failed::new(Failure::Unreachable, clean(&problem.to_string()))
            }
            Error::Api(problem) => Failed::new(refused, clean(&problem.to_string())),
            Error::Json(error) => {
                let why = format!("the answer is not of an ACME authority: {error}");
                Failed::new(Failure::Unreachable, clean(&why))
            }
            Error::Timeout(_) => {
                let why = "the authority did not complete the order in time";
                Failed::new(Failure::Unreachable, why)
            }
            error => Failed::new(Failure::Unreachable, clean(&error.to_string())),
        }
    }
}

/// Whether a problem is of this type (RFC 8555 §6.7).
fn is(problem: &Problem, kind: &str) -> bool {
    let full = problem.r#type.as_deref().unwrap_or_default();
    full.strip_prefix("urn:ietf:params:acme:error:") == Some(kind)
}

/// Text of an authority, bounded and without control characters.
fn clean(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(TEXT_MAX).collect()
}

/// An account as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    email: Option<String>,
    credentials: AccountCredentials,
}

/// Orders a certificate, and puts it in place of the old one.
///
/// # Errors
/// [`Failed`]; the old certificate is unchanged.
pub(super) async fn order(
    certificates: &Certificates,
    acme: &Acme,
    domain: &Domain,
) -> Result<(), Failed> {
    let directory = acme.directory.clone();
    let made = blocking(move || Client::new(&directory)).await?;
    let (client, demanded) = made.map_err(|why| Failed::new(Failure::Unreachable, why))?;
    let (open, spread) = (&certificates.shared.challenges, spread(certificates));
    let result = order_by(client, (acme, domain), open, spread).await;
    result.map_err(|failed| limited(failed, &demanded))
}

/// Orders by this client, at most for [`ORDER`]. Challenges are among the `open` ones until the order is over;
/// `spread` later each proxy of the site answers them.
///
/// # Errors
/// As [`order`].
pub(super) async fn order_by(
    client: impl HttpClient + Clone,
    (acme, domain): (&Acme, &Domain),
    open: &Challenges,
    spread: Duration,
) -> Result<(), Failed> {
    let mut shown = Shown { open, folder: &acme.folder, spread, challenges: Vec::new() };
    let walk = Box::pin(walk(client, acme, domain, &mut shown));
    let result = tokio::time::timeout(ORDER, contained(walk)).await;
    result.unwrap_or_else(|_| {
        Err(Failed::new(Failure::Unreachable, format!("not over in {ORDER:?}")))
    })
}

/// A panic of the library, which the authority's bytes may cause, ends one order and not all orders for good.
async fn contained(
    mut walk: Pin<Box<impl Future<Output = Result<(), Failed>>>>,
) -> Result<(), Failed> {
    let panicked = |_| {
        let why = "the order panicked over an answer of the authority";
        Poll::Ready(Err(Failed::new(Failure::Unreachable, why)))
    };
    poll_fn(|context| {
        let polling = AssertUnwindSafe(|| walk.as_mut().poll(context));
        catch_unwind(polling).unwrap_or_else(panicked)
    })
    .await
}

/// Adds the pause that the authority demanded in its last response.
fn limited(failed: Failed, demanded: &Demanded) -> Failed {
    match demanded.pause() {
        None => failed,
        Some(pause) => Failed { demanded: Some(pause), ..failed },
    }
}

async fn walk(
    client: impl HttpClient + Clone,
    acme: &Acme,
    domain: &Domain,
    shown: &mut Shown<'_>,
) -> Result<(), Failed> {
    let mut order = begun(client, acme, domain).await?;
    authorize(&mut order, acme.challenge, shown).await?;
    let ready = order.poll_ready(&POLL).await;
    match ready.map_err(|error| Failed::of(&error, Failure::Invalid)) {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        Ok(_) => return Err(invalid(&mut order, None).await),
        Err(failed) if failed.failure == Failure::Invalid => {
            return Err(invalid(&mut order, Some(failed.why)).await);
        }
        Err(failed) => return Err(failed),
    }
    let (key, request) =
        request_of(&domain.name).map_err(|error| Failed::new(Failure::State, error.to_string()))?;
    let refused = |error: Error| Failed::of(&error, Failure::Refused);
    order.finalize_csr(&request).await.map_err(refused)?;
    let chain = order.poll_certificate(&POLL).await.map_err(refused)?;
    let domain = domain.clone();
    blocking(move || store(&domain, &key.serialize_pem(), &chain)).await?
}

/// Opens an order, by the kept account or a new one.
async fn begun(
    client: impl HttpClient + Clone,
    acme: &Acme,
    domain: &Domain,
) -> Result<Order, Failed> {
    let names = [Identifier::Dns(domain.name.clone())];
    let wanted = NewOrder::new(&names);
    if let Some(account) = restored(&client, acme).await? {
        match account.new_order(&wanted).await {
            // The authority has forgotten the account.
            Err(Error::Api(problem)) if is(&problem, "accountDoesNotExist") => {
                tracing::warn!("ACME account unknown to {}: a new one is made", acme.directory.url);
            }
            result => return result.map_err(|error| Failed::of(&error, Failure::Refused)),
        }
    }
    let account = created(&client, acme).await?;
    account.new_order(&wanted).await.map_err(|error| Failed::of(&error, Failure::Refused))
}

fn account_file(acme: &Acme) -> PathBuf {
    acme.directory.folder.join("account.json")
}

fn contact(acme: &Acme) -> Vec<String> {
    acme.email.iter().map(|email| format!("mailto:{email}")).collect()
}

/// The kept account, if there is one, with the configured email.
async fn restored(
    client: &(impl HttpClient + Clone),
    acme: &Acme,
) -> Result<Option<Account>, Failed> {
    let path = account_file(acme);
    let read = blocking(move || std::fs::read(path)).await?;
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failed::state(error)),
    };
    let Ok(Kept { email, credentials }) = serde_json::from_slice(&text) else {
        tracing::warn!(
            "ACME account in {} not readable: a new one is made",
            account_file(acme).display()
        );
        return Ok(None);
    };
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let refused = |error: Error| Failed::of(&error, Failure::Refused);
    let account = builder.from_credentials(credentials).await.map_err(refused)?;
    if email != acme.email {
        let contact = contact(acme);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        account.update_contacts(&contact).await.map_err(refused)?;
        // The same credentials with the new email.
        let kept: Kept = serde_json::from_slice(&text).map_err(Failed::state)?;
        keep(acme, &Kept { email: acme.email.clone(), ..kept }).await?;
    }
    Ok(Some(account))
}

async fn created(client: &(impl HttpClient + Clone), acme: &Acme) -> Result<Account, Failed> {
    let contact = contact(acme);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let made = builder.create(&wanted, acme.directory.url.clone(), None).await;
    let (account, credentials) = made.map_err(|error| Failed::of(&error, Failure::Refused))?;
    keep(acme, &Kept { email: acme.email.clone(), credentials }).await?;
    Ok(account)
}

async fn keep(acme: &Acme, kept: &Kept) -> Result<(), Failed> {
    let (path, text) = (account_file(acme), serde_json::to_vec(kept).map_err(Failed::state)?);
    blocking(move || private_file::replace(&path, &text)).await?.map_err(Failed::state)
}

/// Answers the challenge of each authorization that is still open.
async fn authorize(
    order: &mut Order,
    kind: ChallengeKind,
    shown: &mut Shown<'_>,
) -> Result<(), Failed> {
    let kind = match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let refused = |error: Error| Failed::of(&error, Failure::Refused);
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next.map_err(refused)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                let why = format!("the authorization is {status:?}");
                return Err(Failed::new(Failure::Invalid, why));
            }
        }
        let domain = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.to_ascii_lowercase(),
            other => return Err(Failed::new(Failure::Refused, format!("unexpected {other:?}"))),
        };
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            let why = format!("the authority does not offer the challenge {kind:?}");
            return Err(Failed::new(Failure::Refused, why));
        };
        let key_authorization = challenge.key_authorization().as_str().to_owned();
        shown.show(Challenge { domain, key_authorization }).await?;
        tokio::time::sleep(shown.spread).await;
        let invalid = |error: Error| Failed::of(&error, Failure::Invalid);
        challenge.set_ready().await.map_err(invalid)?;
    }
    Ok(())
}

/// The failure of an order whose name was not validated, with the authority's reason.
async fn invalid(order: &mut Order, known: Option<String>) -> Failed {
    let mut why = known.unwrap_or_else(|| "the authority could not validate the name".to_owned());
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            why = clean(&problem.to_string());
        }
    }
    Failed::new(Failure::Invalid, why)
}

/// A new key, and the request for a certificate with this name.
fn request_of(name: &str) -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?.der().to_vec();
    Ok((key, request))
}

/// Puts a certificate in place of the old one, once it is known to fit.
fn store(domain: &Domain, key: &str, chain: &str) -> Result<(), Failed> {
    let text = format!("{}\n{chain}", key.trim_end());
    let beside =
        private_file::write_beside(&domain.file, text.as_bytes()).map_err(Failed::state)?;
    match fitting(&beside, &domain.name) {
        Ok(()) => std::fs::rename(beside, &domain.file).map_err(Failed::state),
        Err(why) => {
            let removed = std::fs::remove_file(beside);
            tracing::debug!(ok = removed.is_ok(), "refused certificate removed");
            Err(Failed::new(Failure::BadCertificate, clean(&why)))
        }
    }
}

/// Whether the file has a certificate for the name that fits its key and is valid now.
fn fitting(path: &Path, name: &str) -> Result<(), String> {
    let issued = certificate::load(path, path).map_err(|why| format!("unusable: {why}"))?;
    let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
    if !issued.names.iter().any(|known| known == name) {
        return Err(format!("the certificate is for {}, not for {name}", issued.names.join(", ")));
    }
    if issued.expires <= now {
        return Err("the certificate has expired already".to_owned());
    }
    // The clocks of the authority and of this machine may differ.
    if issued.begins > now + CLOCKS_DIFFER {
        return Err(
            "the certificate is not valid yet: is the clock of this machine right?".to_owned()
        );
    }
    Ok(())
}

/// The difference of clocks that is tolerated, in seconds.
const CLOCKS_DIFFER: i64 = 3600;

/// The challenges of an order, shown to all proxies of the site until the order is over.
struct Shown<'a> {
    open: &'a Challenges,
    folder: &'a Path,
    /// The time until each proxy of the site answers a challenge.
    spread: Duration,
    challenges: Vec<Challenge>,
}

impl Shown<'_> {
    async fn show(&mut self, challenge: Challenge) -> Result<(), Failed> {
        if !challenge.is_valid() {
            return Err(Failed::new(
                Failure::Unreachable,
                "the token of the challenge is malformed",
            ));
        }
        let (folder, file) = (self.folder.to_owned(), challenge.clone());
        self.challenges.push(challenge.clone());
        blocking(move || files::show(&folder, &file)).await?.map_err(Failed::state)?;
        self.open.set_own(self.open.own().into_iter().chain([challenge]).collect());
        Ok(())
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let own = self.open.own();
        let left = own.into_iter().filter(|one| !self.challenges.contains(one)).collect();
        self.open.set_own(left);
        for challenge in &self.challenges {
            files::hide(self.folder, challenge);
        }
    }
}

/// Work on files, which a shared file system may delay.
///
/// # Errors
/// When it panicked.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.map_err(Failed::state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, status: u16) -> Error {
        let text = format!(
            r#"{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "no\nline", "status": {status}}}"#
        );
        Error::Api(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn each_refusal_of_an_authority_is_one_kind_of_failure() {
        #[rustfmt::skip]
        let table = [
            ("rateLimited",    429, Failure::RateLimited),
            ("rateLimited",    403, Failure::RateLimited),
            ("serverInternal", 500, Failure::Unreachable),
            ("badNonce",       503, Failure::Unreachable),
            ("unauthorized",   403, Failure::Invalid),
            ("dns",            400, Failure::Invalid),
        ];
        for (kind, status, expected) in table {
            let failed = Failed::of(&problem(kind, status), Failure::Invalid);
            assert_eq!(failed.failure, expected, "{kind}");
            assert!(failed.why.contains("no line"), "{}", failed.why);
        }
        let garbage = serde_json::from_str::<u8>("<html>").unwrap_err();
        assert_eq!(
            Failed::of(&Error::Json(garbage), Failure::Refused).failure,
            Failure::Unreachable
        );
        assert_eq!(clean(&"x".repeat(1_000)).len(), TEXT_MAX);
    }

    #[test]
    fn only_a_certificate_that_fits_replaces_the_old_one() {
        let folder = std::env::temp_dir().join(format!("tidegate-store-{}", std::process::id()));
        files::folder(&folder).unwrap();
        let domain = Domain { name: "a.example".to_owned(), file: folder.join("a.example.pem") };
        let issue = |name: &str, key: &KeyPair, years: (i32, i32)| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
            params.self_signed(key).unwrap().pem()
        };
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = issue("a.example", &key, (2020, 4000));
        store(&domain, &key.serialize_pem(), &good).unwrap();
        let kept = std::fs::read(&domain.file).unwrap();
        #[rustfmt::skip]
        let table = [
            (issue("b.example", &key, (2020, 4000)),   "not for a.example"),
            (issue("a.example", &other, (2020, 4000)), "does not match"),
            (issue("a.example", &key, (2020, 2021)),   "expired already"),
            (issue("a.example", &key, (3000, 4000)),   "not valid yet"),
            ("garbage".to_owned(),                     "no certificate"),
            (String::new(),                            "no certificate"),
        ];
        for (chain, why) in table {
            let failed = store(&domain, &key.serialize_pem(), &chain).unwrap_err();
            assert_eq!(failed.failure, Failure::BadCertificate);
            assert!(failed.why.contains(why), "{}", failed.why);
            assert_eq!(std::fs::read(&domain.file).unwrap(), kept);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "{why}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
