//! `/api/v1/explain` and `tidegate explain`: what would become of an invented request.
//!
//! The request is written as the head of an HTTP/1 request, read by the codec within the limits of its listener, and
//! routed by the table of routes. All three are those of real requests, so the answer is the route that the real
//! request takes.
//!
//! # Not here
//! What is judged after the route: policies, limits of the body, the certificate of the client's connection.

use super::Backend;
use super::client::escaped;
use crate::decision::explain::{Explanation, explain as explain_query};
use crate::decision::matching::RequestFacts;
use crate::decision::plan::{Listener, ListenerIndex, Plan, Protocol};
use crate::decision::refusal::Refusal;
use crate::decision::route::{RouteQuery, Unrouted};
use crate::decision::signal::Signals;
use crate::http::request::RequestHead;
use crate::http::{Violation, hops};
use crate::shared::{head_limits, violation};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// An invented request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The host, with or without a port; empty for none.
    pub host: String,
    /// The path; a query may follow.
    pub path: String,
    /// The query, if it does not follow the path.
    pub query: Option<String>,
    /// The method.
    pub method: String,
    /// The header fields, each as `NAME: VALUE`.
    pub headers: Vec<String>,
    /// The address that connects. Without one, no condition on the client holds, and no peer is trusted.
    pub client: Option<IpAddr>,
    /// The listener; the first http listener by default, or the first of any kind if there is none.
    pub listener: Option<String>,
}

/// Why a question has no explanation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unanswered {
    /// The question describes no request.
    Misput(String),
    /// No listener has this name.
    NoListener(String),
    /// The request would be refused: it violates HTTP or a limit, or it has no route.
    Refused {
        /// The refusal.
        refusal: Refusal,
        /// The reason, in a sentence.
        why: String,
        /// The methods that routes take, if the method is the reason.
        allow: Vec<String>,
    },
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Misput(why) => write!(f, "{why}"),
            Unanswered::NoListener(name) => write!(f, "no listener `{name}`"),
            Unanswered::Refused { refusal, why, .. } => {
                write!(f, "{why}: {} {}", refusal.status(), refusal.label())
            }
        }
    }
}

impl Unanswered {
    fn refused(refusal: Refusal, why: impl Into<String>) -> Unanswered {
        Unanswered::Refused { refusal, why: why.into(), allow: Vec::new() }
    }
}

impl From<Violation> for Unanswered {
    fn from(violation: Violation) -> Unanswered {
        Unanswered::refused(violation::refusal(violation), violation.why())
    }
}

impl From<Unrouted> for Unanswered {
    fn from(unrouted: Unrouted) -> Unanswered {
        match unrouted {
            Unrouted::NoRoute => Unanswered::refused(Refusal::NoRoute, "no route"),
            Unrouted::Method(allow) => Unanswered::Refused {
                refusal: Refusal::MethodNotAllowed,
                why: format!("no route for this method (allow: {})", allow.join(", ")),
                allow,
            },
            Unrouted::Ambiguous => Unanswered::refused(
                Refusal::BadRequest,
                "a parameter in the path would reach a route with another policy",
            ),
        }
    }
}

impl Question {
    /// Parses the parameters of `/api/v1/explain`; an empty value is the same as none.
    fn parse(parameters: Vec<(String, String)>) -> Result<Question, Unanswered> {
        let mut question = Question {
            host: String::new(),
            path: "/".to_owned(),
            query: None,
            method: "GET".to_owned(),
            headers: Vec::new(),
            client: None,
            listener: None,
        };
        for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                "host" => question.host = value,
                "path" => question.path = value,
                "query" => question.query = Some(value),
                "method" => question.method = value,
                "header" => question.headers.push(value),
                "client" => match value.parse() {
                    Ok(address) => question.client = Some(address),
                    Err(_) => {
                        return Err(Unanswered::Misput(format!("`{value}` is not an address")));
                    }
                },
                "listener" => question.listener = Some(value),
                _ => {
                    return Err(Unanswered::Misput(format!(
                        "unknown parameter `{name}`: use host, path, query, method, header, client and listener"
                    )));
                }
            }
        }
        Ok(question)
    }

    /// The question as the query of `/api/v1/explain`.
    #[must_use]
    pub fn parameters(&self) -> String {
        let client = self.client.map(|address| address.to_string());
        let always = [("host", &self.host), ("path", &self.path), ("method", &self.method)];
        let given = [("query", &self.query), ("client", &client), ("listener", &self.listener)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let headers = self.headers.iter().map(|header| ("header", header));
        let all = always.into_iter().chain(given).chain(headers);
        all.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
    }

    /// Explains the request under a plan, and under signals if they are given.
    ///
    /// # Errors
    /// [`Unanswered`] if the question describes no request, or the request has no route.
    pub fn answer(
        &self,
        plan: &Plan,
        signals: Option<&Signals>,
    ) -> Result<Explanation, Unanswered> {
        let index = self.listener(plan)?;
        let listener = &plan.listeners[index];
        let (text, limits) = (self.head()?, head_limits(&listener.limits));
        if text.len() > limits.head_bytes {
            return Err(Violation::HeadTooLarge.into());
        }
        let mut head = RequestHead::default();
        head.read(text.as_bytes(), &limits)?;
        let query = RouteQuery {
            listener: index,
            host: head.host(),
            path: head.target().path(),
            method: head.method(),
            announced: head.announced_method(),
            request: &Invented { head: &head, listener, client: self.client },
        };
        Ok(explain_query(plan, signals, &query)?)
    }

    fn listener(&self, plan: &Plan) -> Result<ListenerIndex, Unanswered> {
        let all = &plan.listeners;
        let Some(name) = &self.listener else {
            let http = all.find(|listener| listener.protocol == Protocol::Http);
            let none = || Unanswered::Misput("the configuration has no listener".to_owned());
            return http.or_else(|| all.indices().next()).ok_or_else(none);
        };
        let found = all.find(|listener| listener.name == *name);
        found.ok_or_else(|| Unanswered::NoListener(name.clone()))
    }

    /// The request's head as a client would send it.
    fn head(&self) -> Result<String, Unanswered> {
        let target = match &self.query {
            None => self.path.clone(),
            Some(_) if self.path.contains('?') => {
                return Err(Unanswered::Misput("the path has a query already".to_owned()));
            }
            Some(query) => format!("{}?{}", self.path, query.strip_prefix('?').unwrap_or(query)),
        };
        if let Some(header) = self.headers.iter().find(|header| !header.contains(':')) {
            return Err(Unanswered::Misput(format!("`{header}` is no header field: NAME: VALUE")));
        }
        let (method, host) = (&self.method, &self.host);
        // Only an HTTP/1.0 request may have no host.
        let mut lines = match host.is_empty() {
            true => vec![format!("{method} {target} HTTP/1.0")],
            false => vec![format!("{method} {target} HTTP/1.1"), format!("host: {host}")],
        };
        lines.extend_from_slice(&self.headers);
        if lines.iter().any(|line| line.contains(['\r', '\n'])) {
            return Err(Unanswered::Misput("a part of the request has a line end".to_owned()));
        }
        Ok(lines.join("\r\n") + "\r\n\r\n")
    }
}

/// A request head as the conditions of routes see it, and the connection it would come by.
struct Invented<'a> {
    head: &'a RequestHead,
    listener: &'a Listener,
    client: Option<IpAddr>,
}

impl RequestFacts for Invented<'_> {
    fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.head.has_value(name, test)
    }

    fn query(&self) -> &str {
        self.head.target().query()
    }

    fn client(&self) -> Option<IpAddr> {
        let trusts = |address| self.listener.trusts(address);
        self.client.map(|peer| hops::client_address(self.head, peer, trusts))
    }

    fn is_https(&self) -> bool {
        let is_trusted = self.client.is_some_and(|peer| self.listener.trusts(peer));
        let of_connection = if self.listener.tls.is_some() { "https" } else { "http" };
        hops::scheme(self.head, is_trusted, of_connection) == "https"
    }
}

/// `GET /api/v1/explain`.
pub(super) async fn explain(
    State(backend): State<Arc<Backend>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    let view = backend.shared.view.load();
    let question = Question::parse(parameters);
    match question.and_then(|question| question.answer(&view.plan, Some(&view.signals))) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(why @ Unanswered::Misput(_)) => {
            (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
        }
        Err(why @ Unanswered::NoListener(_)) => {
            (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
        }
        Err(Unanswered::Refused { refusal, why, allow }) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let allow = (!allow.is_empty()).then(|| [("allow", allow.join(", "))]);
            let body = Json(json!({"refusal": refusal.label(), "why": why}));
            (status, allow, body).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    const CONFIG: &str = "
listeners:
  web: { address: 127.0.0.1:0, protocol: http, trusted_proxies: [10.0.0.0/8], limits: { fields: 3 } }
  keep: { address: 127.0.0.2:0, protocol: http, limits: { slashes: keep, underscores: allow } }
  flows: { address: 127.0.0.3:0, protocol: tcp, service: shop }
services: { shop: { clusters: [idc] } }
clusters: { idc: { endpoints: [127.0.0.1:1] } }
routes:
  - { name: canary, path_prefix: /a, match: { headers: { x-canary: { regex: 'v[0-9]+' } } }, service: shop }
  - { name: item, path_prefix: /a, match: { query: { item: { present: true } } }, service: shop }
  - { name: office, path_prefix: /a, match: { client: [192.0.2.0/24] }, service: shop }
  - { name: plain, path_prefix: /a, service: shop }
  - { name: anonymous, path_prefix: /b, match: { not: { headers: { cookie: { present: true } } } }, service: shop }
  - { name: known, path_prefix: /b, service: shop }
  - { name: outside, path_prefix: /e, match: { not: { client: [192.0.2.0/24] } }, service: shop }
  - { name: slashes, path: /c//d, listeners: [keep], service: shop }
  - { name: under, path: /u, match: { headers: { x_y: '1' } }, service: shop }
  - { name: secure, path: /s, redirect: https }
  - { name: page, path: /p, methods: [PUT], service: shop, cors: { origins: ['https://a.example'], methods: [PUT] } }
  - { name: put, path: /q, methods: [PUT], service: shop }
";

    /// What `/api/v1/explain` finds for these parameters: the route, or why there is none.
    fn asked(parameters: &str) -> String {
        let uri = format!("http://x/?{parameters}").parse().unwrap();
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap();
        let outcome = load(CONFIG, std::path::Path::new("."), &|_| None);
        let plan = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.problems)).plan;
        let question = Question::parse(parameters);
        let read = |question: Question| {
            let again: http::Uri = format!("http://x/?{}", question.parameters()).parse().unwrap();
            let Query(again) = Query::<Vec<(String, String)>>::try_from_uri(&again).unwrap();
            assert_eq!(Question::parse(again).as_ref(), Ok(&question), "it is the same when sent");
            question.answer(&plan, None)
        };
        match question.and_then(read) {
            Ok(explanation) => match explanation.answer {
                Some(answer) => format!("{} {answer}", explanation.route),
                None => explanation.route,
            },
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn every_condition_of_a_route_can_be_met_by_a_question() {
        for (parameters, expected) in [
            ("host=a&path=/a", "plain"),
            ("host=a&path=/a&header=X-Canary:+v12", "canary"),
            ("host=a&path=/a&header=x-canary:v12&header=x-b:1", "canary"),
            ("host=a&path=/a&header=x-canary:+v", "plain"),
            ("host=a&path=/a%3Fitem=1", "item"),
            ("host=a&path=/a&query=b=2%26item", "item"),
            ("host=a&path=/a&query=?item=1", "item"),
            ("host=a&path=/a&client=192.0.2.7", "office"),
            ("host=a&path=/a&client=::ffff:192.0.2.7", "office"),
            ("host=a&path=/a&client=192.0.3.7", "plain"),
            ("host=a&path=/b", "anonymous"),
            ("host=a&path=/b&header=cookie:+a=1", "known"),
            ("host=a&path=/e&client=192.0.3.7", "outside"),
            ("host=a&path=/e&client=192.0.2.7", "no route: 404 no_route"),
            ("host=a&path=/s", "secure 308 https://{host}{uri}"),
            ("host=a&path=/x/../b&method=POST", "anonymous"),
            ("host=a.example:8080&path=/b", "anonymous"),
            ("host=&path=/b&method=&listener=&query=", "anonymous"),
            ("host=a&path=/c//d&listener=keep", "slashes"),
            ("host=a&path=/c//d", "no route: 404 no_route"),
            ("host=a&path=/u&header=x_y:+1&listener=keep", "under"),
            ("host=a&path=/u&header=x_y:+1", "_ in a field name: 400 bad_request"),
            ("listener=flows&host=a", "listeners.flows"),
        ] {
            assert_eq!(asked(parameters), expected, "{parameters}");
        }
    }

    #[test]
    fn a_trusted_peer_is_believed_about_client_and_scheme() {
        for (parameters, expected) in [
            ("client=10.0.0.1&path=/a&header=x-forwarded-for:+192.0.2.7", "office"),
            ("client=11.0.0.1&path=/a&header=x-forwarded-for:+192.0.2.7", "plain"),
            ("path=/a&header=x-forwarded-for:+192.0.2.7", "plain"),
            ("client=10.0.0.1&path=/a&header=x-forwarded-for:+192.0.2.7&listener=keep", "plain"),
            ("client=10.0.0.1&path=/s&header=x-forwarded-proto:+https", "no route: 404 no_route"),
        ] {
            assert_eq!(asked(&format!("host=a&{parameters}")), expected, "{parameters}");
        }
    }

    #[test]
    fn a_preflight_has_the_route_that_it_announces() {
        let preflight = "method=OPTIONS&header=origin:+https://a.example&header=access-control-request-method:+PUT";
        assert_eq!(asked(&format!("host=a&path=/p&{preflight}")), "page 204");
        let refused = "no route for this method (allow: PUT): 405 method_not_allowed";
        assert_eq!(asked(&format!("host=a&path=/q&{preflight}")), refused);
        assert_eq!(asked("host=a&path=/p&method=OPTIONS"), refused);
    }

    #[test]
    fn what_the_codec_refuses_is_refused_with_its_reason() {
        let many = format!("path=/b{}", "&header=a:1".repeat(3));
        for (parameters, expected) in [
            ("path=b", "an invalid target: 400 bad_request"),
            ("path=/%252f", "%2F in the path: 400 bad_request"),
            ("path=/b+c", "an invalid byte in the target: 400 bad_request"),
            ("path=/b&method=G+T", "an invalid byte in the target: 400 bad_request"),
            ("path=/b&header=a+b:1", "space before a colon: 400 bad_request"),
            ("path=/b&header=host:b", "several Host fields: 400 bad_request"),
            ("path=/b&header=x", "`x` is no header field: NAME: VALUE"),
            ("path=/b&header=x:1%0d%0ay:2", "a part of the request has a line end"),
            ("path=/b%0a", "a part of the request has a line end"),
            ("path=/b%3Fx&query=y", "the path has a query already"),
            ("path=/b&client=a", "`a` is not an address"),
            ("path=/b&listener=none", "no listener `none`"),
            (many.as_str(), "the head is too long, or has too many fields: 431 headers_too_large"),
        ] {
            assert_eq!(asked(&format!("host=a&{parameters}")), expected, "{parameters}");
        }
        let long = format!("host=a&path=/b&header=x:{}", "y".repeat(20_000));
        assert!(asked(&long).starts_with("the head is too long"), "{}", asked(&long));
        assert_eq!(asked("host=a%20b"), "an invalid Host: 400 bad_request");
        let misspelt = asked("host=a&headers=a:1");
        assert!(misspelt.starts_with("unknown parameter `headers`: use host, "), "{misspelt}");
    }
}
