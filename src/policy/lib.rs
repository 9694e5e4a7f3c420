//! Policies with their state: access lists, rate limits, concurrency limits and authentication.
//!
//! `decision::policy` has the operator's settings; this module has their state at run time: counters that outlive a
//! plan, password files, key sets, authorization services. All of it is built when a configuration is checked,
//! replaced as a whole, and built again when one of its files changes.

use tidegate_decision as decision;
use tidegate_os as os;
use tidegate_tls as tls;

pub mod basic;
pub mod buckets;
pub mod forward;
pub mod jwt;
pub mod properties;
pub mod rate;
pub mod seats;
pub mod turns;

use crate::decision::index::Table;
use crate::decision::plan::{Plan, Secret};
use crate::decision::policy::{Auth, Policy, PolicyIndex, Scope};
use crate::decision::refusal::Refusal;
use crate::os::clock;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The parts of a request that policies examine.
pub struct PolicyRequest<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Its method.
    pub method: &'a str,
    /// `http` or `https`, as on the client's connection.
    pub scheme: &'a str,
    /// The host, with the port if the client gave one.
    pub host: &'a str,
    /// The path and query.
    pub target: &'a str,
    /// Returns a field's value, by its name in lower case.
    pub field: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

impl PolicyRequest<'_> {
    /// The request of an L4 connection, for which only the client is known.
    #[must_use]
    pub fn flow(client: IpAddr) -> PolicyRequest<'static> {
        PolicyRequest { client, method: "", scheme: "", host: "", target: "", field: &|_| None }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The client's address or user is not allowed.
    Forbidden,
    /// The rate limit is exceeded; the request may be repeated after this time.
    Rate(Duration),
    /// Credentials are missing or invalid; the value is the challenge for `WWW-Authenticate`.
    Unauthorized(String),
    /// The concurrency limit is reached.
    Full,
    /// The authorization service is unavailable.
    Unavailable,
    /// The authorization service refused the request with a response of its own.
    Response(Box<DenialResponse>),
}

impl From<&Refused> for Refusal {
    fn from(why: &Refused) -> Refusal {
        match why {
            Refused::Forbidden => Refusal::Forbidden,
            Refused::Rate(_) => Refusal::RateLimited,
            Refused::Unauthorized(_) => Refusal::Unauthorized,
            Refused::Full => Refusal::Overloaded,
            Refused::Unavailable => Refusal::UpstreamConnect,
            Refused::Response(denial) if denial.status == 401 || denial.status < 400 => {
                Refusal::Unauthorized
            }
            Refused::Response(_) => Refusal::Forbidden,
        }
    }
}

/// The authorization service's response to the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DenialResponse {
    /// Status: a redirect or 4xx.
    pub status: u16,
    /// Fields, as complete lines.
    pub lines: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

/// The results of a successful authentication.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Passed {
    /// Fields for the cluster: names in lower case, and values.
    pub granted: Vec<(String, String)>,
    /// Fields for the client's response, as complete lines.
    pub lines: Vec<u8>,
}

/// A permit of the concurrency limit, if the policy has a limit.
pub type Seat = Option<seats::Taken>;

/// The policies of a plan, with their state.
#[derive(Debug, Default)]
pub struct Store {
    policies: Table<PolicyIndex, Live>,
    /// The number of parts into which limits of the site are divided; this proxy has one of them.
    parts: AtomicU32,
}

#[derive(Debug)]
struct Live {
    policy: Policy,
    limiter: Option<Arc<rate::Limiter>>,
    seats: Option<Arc<seats::Seats>>,
    verifier: Option<Verifier>,
}

impl Live {
    fn service(&self) -> Option<&forward::Service> {
        match &self.verifier {
            Some(Verifier::Forward(service)) => Some(service),
            Some(Verifier::Basic(_) | Verifier::Jwt(_)) | None => None,
        }
    }
}

#[derive(Debug)]
enum Verifier {
    Basic(Box<basic::Users>),
    Jwt(jwt::Keys),
    Forward(forward::Service),
}

impl Store {
    /// Builds the state of a plan's policies.
    ///
    /// # Errors
    /// Every problem, with the path of its configuration.
    pub fn build(plan: &Plan) -> Result<Store, Vec<(String, String)>> {
        let mut policies: Table<PolicyIndex, Live> = Table::default();
        let mut problems = Vec::new();
        for policy in &plan.policies {
            let verifier = policy.auth.as_ref().map(verifier).transpose();
            if let Ok(Some(Verifier::Jwt(keys))) = &verifier
                && let Some(unused) = keys.unused()
            {
                let policy = &policy.name;
                tracing::info!(
                    policy,
                    unused,
                    "policy {policy} ignores keys of its key set: {unused}"
                );
            }
            match verifier {
                Ok(verifier) => {
                    policies.push(Live {
                        policy: policy.clone(),
                        limiter: policy
                            .rate
                            .as_ref()
                            .map(|rate| Arc::new(rate::Limiter::new(rate))),
                        seats: policy.concurrency.map(|most| Arc::new(seats::Seats::new(most))),
                        verifier,
                    });
                }
                Err(problem) => problems.push((format!("{}.auth", policy.name), problem)),
            }
        }
        // Until the fleet says otherwise, all configured proxies serve.
        let parts = AtomicU32::new(plan.members.max(1));
        let mut store = Store { policies, parts };
        store.share();
        if problems.is_empty() { Ok(store) } else { Err(problems) }
    }

    /// Policies with the same authorization service share its connections.
    fn share(&mut self) {
        for at in 1..self.policies.len() {
            let (before, rest) = self.policies.split_at_mut(at);
            if let Some(Verifier::Forward(service)) =
                rest.first_mut().and_then(|live| live.verifier.as_mut())
            {
                before.iter().rev().filter_map(Live::service).for_each(|o| service.share(o));
            }
        }
    }

    /// Takes over the counters of another store if the settings are equal: counters survive a reload.
    pub fn inherit(&mut self, other: &Store) {
        // Too many parts are safe until the fleet's next decision.
        self.parts.fetch_max(other.parts.load(Ordering::Relaxed), Ordering::Relaxed);
        for live in self.policies.iter_mut() {
            let Some(known) = other.policies.iter().find(|k| k.policy.name == live.policy.name)
            else {
                continue;
            };
            if known.policy.rate == live.policy.rate {
                live.limiter.clone_from(&known.limiter);
            }
            if known.policy.concurrency == live.policy.concurrency {
                live.seats.clone_from(&known.seats);
            }
        }
        for live in self.policies.iter_mut() {
            if let Some(Verifier::Forward(service)) = &mut live.verifier {
                other.policies.iter().filter_map(Live::service).for_each(|o| service.share(o));
            }
        }
    }

    /// Checks access list, rate and concurrency; returns the permit for a request or flow.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, index: PolicyIndex, request: &PolicyRequest<'_>) -> Result<Seat, Refused> {
        let Some(live) = self.policies.get(index) else { return Ok(None) };
        if !live.policy.admits(request.client) {
            return Err(Refused::Forbidden);
        }
        // The rate limit comes before any expensive check, so that it slows down password guessing.
        if let Some(limiter) = &live.limiter {
            let parts = self.parts_of(live.policy.rate.as_ref().map(|rate| rate.scope));
            limiter.check(request, parts, clock::now()).map_err(Refused::Rate)?;
        }
        let Some(seats) = &live.seats else { return Ok(None) };
        let parts = self.parts_of(Some(live.policy.concurrency_scope));
        seats.take(parts).map(Some).ok_or(Refused::Full)
    }

    /// The number of parts of a limit of this scope.
    fn parts_of(&self, scope: Option<Scope>) -> u32 {
        match scope {
            Some(Scope::Site) => self.parts(),
            Some(Scope::Proxy) | None => 1,
        }
    }

    /// The number of parts into which limits of the site are divided now.
    #[must_use]
    pub fn parts(&self) -> u32 {
        self.parts.load(Ordering::Relaxed)
    }

    /// Divides the limits of the site into this many parts from now on.
    pub fn divide(&self, parts: u32) {
        self.parts.store(parts.max(1), Ordering::Relaxed);
    }

    /// Whether a limit counts the exchanges of the whole site.
    #[must_use]
    pub fn is_divided(&self) -> bool {
        self.policies.iter().any(|live| live.policy.is_divided())
    }

    /// Authenticates a request; returns the fields that result.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn verify(
        &self,
        index: PolicyIndex,
        request: &PolicyRequest<'_>,
    ) -> Result<Passed, Refused> {
        let verifier = self.policies.get(index).and_then(|live| live.verifier.as_ref());
        match verifier {
            Some(Verifier::Basic(users)) => users.verify(request).await.map(|()| Passed::default()),
            Some(Verifier::Jwt(keys)) => keys.verify(request).map(|()| Passed::default()),
            Some(Verifier::Forward(service)) => service.ask(request).await,
            None => Ok(Passed::default()),
        }
    }

    /// Removes the state of clients that have been silent for long.
    pub fn forget(&self) {
        let now = clock::now();
        self.policies.iter().filter_map(|live| live.limiter.as_ref()).for_each(|l| l.forget(now));
    }
}

fn verifier(auth: &Auth) -> Result<Verifier, String> {
    Ok(match auth {
        Auth::Basic { file } => Verifier::Basic(Box::new(basic::Users::read(file)?)),
        Auth::Jwt { jwks_file, issuer, audience } => {
            Verifier::Jwt(jwt::Keys::read(jwks_file, issuer.as_deref(), audience.as_deref())?)
        }
        Auth::Forward(terms) => Verifier::Forward(forward::Service::new(terms)?),
    })
}

/// Checks that an authentication can be built.
///
/// # Errors
/// The reason why its file is invalid.
pub fn check(auth: &Auth) -> Result<(), String> {
    verifier(auth).map(drop)
}

/// A key derived from a secret of any length.
#[must_use]
pub fn secret(text: &[u8]) -> Secret {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
    let mut key = [0; 16];
    key.copy_from_slice(&digest.as_ref()[..16]);
    Secret(key)
}

/// A file's text; the error names the file.
fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}
