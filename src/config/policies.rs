//! Policies of services and of routes: both have the same keys.

use super::compiler::Compiler;
use super::error::Problem;
use super::file::{self, policy::AuthFile, policy::LimitScope, policy::RateLimit};
use super::headers::is_field_name;
use super::scalar::{Network, Within, host_and_port};
use super::secrets;
use crate::decision::index::Table;
use crate::decision::plan::{Plan, ServiceIndex};
use crate::decision::policy::{Auth, Forward, Policy, PolicyIndex, Rate, RateKey, Scope};
use std::time::Duration;

/// The policy keys of a service or a route.
pub(super) struct Written<'a> {
    concurrency: Option<u64>,
    concurrency_scope: Option<LimitScope>,
    rate: Option<&'a RateLimit>,
    allow: &'a Option<Vec<Network>>,
    deny: &'a Option<Vec<Network>>,
    auth: Option<&'a AuthFile>,
}

impl<'a> Written<'a> {
    pub(super) fn of_service(service: &'a file::Service) -> Written<'a> {
        Written {
            concurrency: service.concurrency.map(|most| most.0),
            concurrency_scope: service.concurrency_scope,
            rate: service.rate_limit.as_ref(),
            allow: &service.allow,
            deny: &service.deny,
            auth: service.auth.as_ref(),
        }
    }

    pub(super) fn of_route(route: &'a file::Route) -> Written<'a> {
        Written {
            concurrency: route.concurrency.map(|most| most.0),
            concurrency_scope: route.concurrency_scope,
            rate: route.rate_limit.as_ref(),
            allow: &route.allow,
            deny: &route.deny,
            auth: route.auth.as_ref(),
        }
    }
}

impl Compiler<'_> {
    /// Compiles the policy written at `path`; `None` when no key is present.
    pub(super) fn policy(&mut self, path: &str, written: &Written<'_>) -> Option<PolicyIndex> {
        let networks = |list: &Option<Vec<Network>>| {
            list.iter().flatten().map(|network| network.0).collect::<Vec<_>>()
        };
        let policy = Policy {
            name: path.to_owned(),
            allow: networks(written.allow),
            deny: networks(written.deny),
            rate: written.rate.map(|rate| self.rate(rate, path)),
            concurrency: written.concurrency.and_then(|most| u32::try_from(most).ok()),
            concurrency_scope: match written.concurrency {
                Some(_) => scope(written.concurrency_scope),
                None => Scope::Proxy,
            },
            auth: written.auth.and_then(|auth| self.auth(auth, path)),
        };
        if policy.is_empty() {
            return None;
        }
        Some(self.plan.policies.push(policy))
    }

    fn rate(&mut self, written: &RateLimit, path: &str) -> Rate {
        let path = format!("{path}.rate_limit");
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        self.not_zero(written.at, &path, &[("per", written.per)]);
        let key = written.key.as_ref().map_or("client_ip", |key| key.value.as_str());
        let key = match (key, key.strip_prefix("header:")) {
            ("client_ip", _) => RateKey::ClientIp,
            ("all", _) => RateKey::All,
            (_, Some(name)) if is_field_name(name) => RateKey::Header(name.to_ascii_lowercase()),
            _ => {
                let at = written.key.as_ref().map_or(written.at, |key| key.at);
                let message = format!("`{key}` is not a rate-limit key");
                let hint = "use client_ip, all, or header:NAME";
                self.problems.error_with_hint(at, format!("{path}.key"), message, hint);
                RateKey::ClientIp
            }
        };
        let requests = count(written.requests.0);
        Rate {
            requests,
            per: written.per.unwrap_or(Duration::from_secs(1)),
            burst: written.burst.map_or(requests, |Within(burst)| count(burst)),
            key,
            scope: scope(written.scope),
        }
    }

    fn auth(&mut self, written: &AuthFile, path: &str) -> Option<Auth> {
        let path = format!("{path}.auth");
        let AuthFile { basic_file, jwt, forward, .. } = written;
        let auth = match (basic_file, jwt, forward) {
            (Some(file), None, None) => {
                let at = self.folder.join(&file.value);
                secrets::warn_if_public(self.problems, &at, file, &format!("{path}.basic_file"));
                (file.at, Auth::Basic { file: self.folder.join(&file.value) })
            }
            (None, Some(jwt), None) => {
                let auth = Auth::Jwt {
                    jwks_file: self.folder.join(&jwt.jwks_file.value),
                    issuer: jwt.issuer.clone(),
                    audience: jwt.audience.clone(),
                };
                (jwt.jwks_file.at, auth)
            }
            (None, None, Some(forward)) => {
                let at = forward.url.at;
                let path = format!("{path}.forward");
                let Some(mut terms) = forwarded(&forward.url.value) else {
                    let url = &forward.url.value;
                    let message = format!(
                        "`{url}` is not a URL such as http://HOST:PORT/PATH or https://HOST:PORT/PATH"
                    );
                    self.problems.error(at, format!("{path}.url"), message);
                    return None;
                };
                if let Some(ca) = forward.ca.as_ref().filter(|_| !terms.secure) {
                    let message = "is used only with an https URL: remove it, or write https://";
                    self.problems.error(ca.at, format!("{path}.ca"), message);
                }
                terms.ca = forward.ca.as_ref().map(|ca| self.folder.join(&ca.value));
                terms.pass_response = forward.pass_response.unwrap_or(true);
                for name in forward.response_headers.iter().flatten() {
                    self.check_field(name, None, &format!("{path}.response_headers"));
                    terms.response_headers.push(name.value.to_ascii_lowercase());
                }
                (at, Auth::Forward(terms))
            }
            _ => {
                let message = "needs exactly one of `basic_file`, `jwt` and `forward`";
                let problem = Problem::error(written.at, &path, message);
                match (&written.basic_file, &written.jwt, &written.forward) {
                    (None, None, None) => {
                        self.problems.lacking(&path, &["basic_file", "jwt", "forward"], problem);
                    }
                    _ => self.problems.push(problem),
                }
                return None;
            }
        };
        let (at, auth) = auth;
        if let Err(problem) = crate::policy::check(&auth) {
            self.problems.error(at, path, problem);
        }
        Some(auth)
    }
}

fn scope(written: Option<LimitScope>) -> Scope {
    match written {
        Some(LimitScope::Site) => Scope::Site,
        Some(LimitScope::Proxy) | None => Scope::Proxy,
    }
}

/// By service: the fields that only the authorization of the service and of its routes may set for its clusters.
pub(super) fn asserted(plan: &Plan) -> Table<ServiceIndex, Vec<String>> {
    let named = |policy: Option<PolicyIndex>| match policy.and_then(|at| plan.policies.get(at)) {
        Some(Policy { auth: Some(Auth::Forward(terms)), .. }) => terms.response_headers.clone(),
        Some(_) | None => Vec::new(),
    };
    let mut all: Table<_, Vec<String>> =
        plan.services.iter().map(|service| named(service.policy)).collect();
    for route in plan.routes.routes() {
        for to in route.action.destinations() {
            all[plan.classes[to.class].service].extend(named(route.policy));
        }
    }
    for names in all.iter_mut() {
        names.sort_unstable();
        names.dedup();
    }
    all
}

/// Parses the http or https URL of an authorization service.
pub(super) fn forwarded(url: &str) -> Option<Forward> {
    let (secure, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    let (authority, target) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let clean = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let host = authority.to_owned();
    let authority = match authority.rfind(':').is_some_and(|at| !authority[at..].contains(']')) {
        true => authority.to_owned(),
        false => format!("{authority}:{}", if secure { 443 } else { 80 }),
    };
    let known = authority.parse::<std::net::SocketAddr>().is_ok();
    if !(clean && (known || host_and_port(&authority).is_ok())) {
        return None;
    }
    let target = target.to_owned();
    let (ca, response_headers, pass_response) = (None, Vec::new(), true);
    Some(Forward { secure, ca, authority, host, target, response_headers, pass_response })
}
