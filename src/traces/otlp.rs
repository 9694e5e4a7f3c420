//! Spans as messages of OTLP, with the attribute names of OpenTelemetry's semantic conventions; what they do not
//! have begins with `tidegate.`.

use crate::shared::Trace;
use crate::shared::trace::{AttemptSpan, DecisionSpan, ExchangeSpan, Subject, Timing};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use std::net::SocketAddr;

/// The methods that the conventions know; others are `_OTHER`.
const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];
/// Flags of a span: sampled.
const SAMPLED: u32 = 0x01;
/// Flags of a span: it is known whether the parent is remote, and the parent is remote.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The request with these traces.
pub(super) fn request(traces: Vec<Trace>, site: &str) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let mut resource = Attributes::default();
    resource.text("service.name", "tidegate");
    resource.text("service.version", version);
    resource.text("tidegate.site", site);
    let spans = traces.into_iter().flat_map(spans).collect();
    let scope = InstrumentationScope {
        name: "tidegate".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource = Some(Resource { attributes: resource.0, ..Resource::default() });
    let schema_url = String::new();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url }],
    }
}

fn spans(trace: Trace) -> Vec<Span> {
    let Trace { trace: id, parent, exchange, decisions, attempts } = trace;
    let root = exchange.timing.span;
    let child = |kind, name: String, timing| span(id, (Some(root), false), kind, name, timing);
    let mut spans = Vec::with_capacity(1 + decisions.len() + attempts.len());
    for decision in decisions {
        let mut span = child(SpanKind::Internal, "decision".to_owned(), decision.timing);
        describe_decision(&mut span, &exchange, decision);
        spans.push(span);
    }
    for attempt in attempts {
        let name = match exchange.subject {
            Subject::Exchange | Subject::Copy => method(&exchange).1,
            Subject::Connection { .. } => "connection",
        };
        let mut span = child(SpanKind::Client, name.to_owned(), attempt.timing);
        describe_attempt(&mut span, &exchange, attempt);
        spans.push(span);
    }
    let timing = exchange.timing;
    let (kind, is_remote) = match exchange.subject {
        // The original is a span of this proxy.
        Subject::Copy => (SpanKind::Internal, false),
        Subject::Exchange | Subject::Connection { .. } => (SpanKind::Server, parent.is_some()),
    };
    let mut span = span(id, (parent, is_remote), kind, name(&exchange), timing);
    match exchange.subject {
        Subject::Exchange | Subject::Copy => describe_exchange(&mut span, exchange),
        Subject::Connection { received, sent } => {
            describe_connection(&mut span, &exchange, [received, sent]);
        }
    }
    spans.insert(0, span);
    spans
}

/// The name of the span of an exchange, a copy or a connection.
fn name(exchange: &ExchangeSpan) -> String {
    match (exchange.subject, method(exchange).1, exchange.route.as_str()) {
        (Subject::Exchange, method, "") => method.to_owned(),
        (Subject::Exchange, method, route) => format!("{method} {route}"),
        (Subject::Copy, ..) => format!("mirror {}", exchange.service),
        (Subject::Connection { .. }, ..) => format!("connection {}", exchange.listener),
    }
}

/// A span without attributes; the parent with whether it is remote.
fn span(
    trace: u128,
    (parent, is_remote): (Option<u64>, bool),
    kind: SpanKind,
    name: String,
    timing: Timing,
) -> Span {
    let nanos = |at: std::time::Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: timing.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or(Vec::new(), |parent| parent.to_be_bytes().to_vec()),
        flags: SAMPLED | REMOTE_KNOWN | if is_remote { REMOTE } else { 0 },
        name,
        kind: kind.into(),
        start_time_unix_nano: nanos(timing.start),
        end_time_unix_nano: nanos(timing.end),
        ..Span::default()
    }
}

/// The method as an attribute, and in the name of a span.
fn method(exchange: &ExchangeSpan) -> (&str, &str) {
    match METHODS.contains(&exchange.method.as_str()) {
        true => (&exchange.method, &exchange.method),
        false => ("_OTHER", "HTTP"),
    }
}

fn describe_exchange(span: &mut Span, exchange: ExchangeSpan) {
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", method(&exchange).0);
    if method(&exchange).0 == "_OTHER" {
        attributes.text("http.request.method_original", &exchange.method);
    }
    attributes.text("url.scheme", exchange.scheme);
    attributes.text("url.path", &exchange.path);
    let (host, port) = host_and_port(&exchange.host);
    attributes.text("server.address", host);
    attributes.port("server.port", port);
    attributes.text("client.address", &exchange.client);
    attributes.text("user_agent.original", &exchange.user_agent);
    if let Some((name, version)) = exchange.protocol.split_once('/') {
        attributes.text("network.protocol.name", &name.to_ascii_lowercase());
        attributes.text("network.protocol.version", version.trim_end_matches(".0"));
    }
    attributes.number("http.response.status_code", exchange.status.into());
    attributes.result(&exchange);
    let status = exchange.status.to_string();
    let of_status = (exchange.status >= 500).then_some(status.as_str());
    // A response of the proxy below 500 is the client's fault, which is no error of a server (conventions, "Status").
    let refusal = exchange.refusal.filter(|_| exchange.status >= 500 || exchange.status == 0);
    let error = refusal.or(exchange.aborted.filter(|side| *side != "client")).or(of_status);
    finish(span, attributes, error);
}

fn describe_connection(span: &mut Span, connection: &ExchangeSpan, [received, sent]: [u64; 2]) {
    let mut attributes = Attributes::default();
    attributes.text("network.transport", "tcp");
    attributes.text("client.address", &connection.client);
    attributes.text("server.address", &connection.host);
    attributes.result(connection);
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    attributes.number("tidegate.bytes_in", bytes(received));
    attributes.number("tidegate.bytes_out", bytes(sent));
    finish(span, attributes, connection.refusal);
}

fn describe_decision(span: &mut Span, exchange: &ExchangeSpan, decision: DecisionSpan) {
    let mut attributes = Attributes::default();
    attributes.text("tidegate.service", &exchange.service);
    if let Some((cluster, reason)) = &decision.cluster {
        attributes.text("tidegate.cluster", cluster);
        attributes.text("tidegate.reason", reason);
    }
    attributes.texts("tidegate.rejected", decision.rejected);
    finish(span, attributes, decision.error);
}

fn describe_attempt(span: &mut Span, exchange: &ExchangeSpan, attempt: AttemptSpan) {
    let mut attributes = Attributes::default();
    let resend = match exchange.subject {
        Subject::Exchange | Subject::Copy => {
            attributes.text("http.request.method", method(exchange).0);
            "http.request.resend_count"
        }
        Subject::Connection { .. } => {
            attributes.text("network.transport", "tcp");
            "tidegate.resend_count"
        }
    };
    let address = attempt.endpoint.parse::<SocketAddr>().ok();
    let host = address.map_or(attempt.endpoint.clone(), |address| address.ip().to_string());
    attributes.text("server.address", &host);
    attributes.port("server.port", address.map(|address| address.port()));
    attributes.text("tidegate.cluster", &attempt.cluster);
    attributes.number(resend, attempt.resend.into());
    attributes.number("http.response.status_code", attempt.status.into());
    if attempt.is_cancelled {
        attributes.flag("tidegate.cancelled");
    }
    let status = attempt.status.to_string();
    let of_status = (attempt.status >= 400).then_some(status.as_str());
    finish(span, attributes, attempt.error.or(of_status));
}

/// Sets the attributes, and the status of a failed operation.
fn finish(span: &mut Span, mut attributes: Attributes, error: Option<&str>) {
    attributes.text("error.type", error.unwrap_or_default());
    span.attributes = attributes.0;
    span.status = error.map(|_| Status { code: StatusCode::Error.into(), message: String::new() });
}

/// Host and port of an authority; a host in brackets is IPv6.
fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let with_port = authority.rsplit_once(':').filter(|(host, _)| !host.ends_with(':'));
    match with_port.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (bare(host), Some(port))
        }
        Some(_) | None => (bare(authority), None),
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The attributes of a span; empty texts and zeros are left out.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.add(key, Value::StringValue(text.to_owned()));
        }
    }

    fn texts(&mut self, key: &str, texts: Vec<String>) {
        let value = |text| AnyValue { value: Some(Value::StringValue(text)) };
        if !texts.is_empty() {
            let values = texts.into_iter().map(value).collect();
            self.add(key, Value::ArrayValue(ArrayValue { values }));
        }
    }

    fn number(&mut self, key: &str, number: i64) {
        if number != 0 {
            self.add(key, Value::IntValue(number));
        }
    }

    /// What an exchange and a connection have in common.
    fn result(&mut self, exchange: &ExchangeSpan) {
        for (name, value) in [
            ("tidegate.listener", exchange.listener.as_str()),
            ("tidegate.route", &exchange.route),
            ("tidegate.service", &exchange.service),
            ("tidegate.cluster", &exchange.cluster.0),
            ("tidegate.reason", exchange.cluster.1),
            ("tidegate.refusal", exchange.refusal.unwrap_or_default()),
            ("tidegate.aborted", exchange.aborted.unwrap_or_default()),
            ("tidegate.request_id", &exchange.request_id),
        ] {
            self.text(name, value);
        }
        self.number("tidegate.attempts", exchange.attempts.into());
    }

    fn port(&mut self, key: &str, port: Option<u16>) {
        self.number(key, port.unwrap_or(0).into());
    }

    fn flag(&mut self, key: &str) {
        self.add(key, Value::BoolValue(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_a_host_and_perhaps_a_port() {
        for (authority, expected) in [
            ("shop.example", ("shop.example", None)),
            ("shop.example:8080", ("shop.example", Some(8080))),
            ("[::1]:80", ("::1", Some(80))),
            ("[::1]", ("::1", None)),
            ("::1", ("::1", None)),
            ("shop:x", ("shop:x", None)),
            ("", ("", None)),
        ] {
            assert_eq!(host_and_port(authority), expected, "{authority}");
        }
    }

    #[test]
    fn copies_are_below_their_originals_and_connections_say_nothing_of_http() {
        let of = |subject| {
            let exchange = ExchangeSpan {
                subject,
                method: "GET".to_owned(),
                route: "routes[0]".to_owned(),
                service: "shop".to_owned(),
                listener: "raw".to_owned(),
                ..ExchangeSpan::default()
            };
            let attempts = vec![AttemptSpan { resend: 1, ..AttemptSpan::default() }];
            let all =
                spans(Trace { trace: 1, parent: Some(7), exchange, decisions: vec![], attempts });
            let keys = |span: &Span| {
                let keys: Vec<String> = span.attributes.iter().map(|one| one.key.clone()).collect();
                keys.join(" ")
            };
            let told: Vec<_> = all
                .iter()
                .map(|span| (span.name.clone(), span.kind, span.flags, keys(span)))
                .collect();
            told
        };
        let exchange = of(Subject::Exchange);
        assert_eq!((exchange[0].0.as_str(), exchange[0].1), ("GET routes[0]", 2));
        assert_eq!(exchange[0].2 & REMOTE, REMOTE, "the parent is the client's");
        let copy = of(Subject::Copy);
        assert_eq!((copy[0].0.as_str(), copy[0].1), ("mirror shop", 1));
        assert_eq!(copy[0].2 & REMOTE, 0, "the parent is the original's span");
        assert_eq!(copy[1].0, "GET");
        let connection = of(Subject::Connection { received: 3, sent: 4 });
        assert_eq!((connection[0].0.as_str(), connection[0].1), ("connection raw", 2));
        assert_eq!((connection[1].0.as_str(), connection[1].1), ("connection", 3));
        let keys = format!("{} {}", connection[0].3, connection[1].3);
        assert!(!keys.contains("http."), "{keys}");
        for key in ["network.transport", "tidegate.bytes_in", "tidegate.resend_count"] {
            assert!(keys.contains(key), "{key} in {keys}");
        }
    }

    #[test]
    fn the_fault_of_a_client_is_no_error_and_a_lost_hedge_neither() {
        let error = |span: Span| span.status.is_some_and(|status| status.code == 2);
        for (status, refusal, aborted, expected) in [
            (200, None, None, false),
            (404, Some("no_route"), None, false),
            (503, Some("overloaded"), None, true),
            (500, None, None, true),
            (200, None, Some("client"), false),
            (200, None, Some("cluster"), true),
        ] {
            let exchange = ExchangeSpan { status, refusal, aborted, ..ExchangeSpan::default() };
            let mut span = Span::default();
            describe_exchange(&mut span, exchange);
            assert_eq!(error(span), expected, "{status} {refusal:?} {aborted:?}");
        }
        let exchange = ExchangeSpan::default();
        for (status, is_cancelled, expected) in
            [(200, false, false), (404, false, true), (0, true, false)]
        {
            let mut span = Span::default();
            let attempt = AttemptSpan { status, is_cancelled, ..AttemptSpan::default() };
            describe_attempt(&mut span, &exchange, attempt);
            assert_eq!(error(span), expected, "{status}");
        }
    }
}
