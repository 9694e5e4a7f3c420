//! The request head for a cluster: client identity, request ids, target.

use super::record::Record;
use super::trace::{self, Trace};
use super::variables::edits_with;
use crate::buffer::lend_scratch;
use crate::decision::edits;
use crate::decision::plan::{ClassIndex, HostPolicy, Reports};
use crate::decision::units::Dice;
use crate::http::forward::{self, ClientCert, Edits, RequestContext};
use crate::http::request::RequestHead;
use crate::http::trace_parent::{self, TraceParent, hex};
use crate::l7::connection_info::ConnectionInfo;
use crate::selection::Selection;
use crate::shared::View;
use crate::worker::Worker;
use std::borrow::Cow;

/// The ids of a request, used unless a trusted client sent its own.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    request: [u8; 32],
    trace_parent: [u8; trace_parent::LENGTH],
    /// The span of the exchange, if it is traced: the parent of what follows.
    traced: Option<TraceParent>,
}

impl Ids {
    /// New unique ids, within the trace of the exchange if it is traced.
    pub(super) fn new(worker: &Worker, trace: Option<&Trace>) -> Ids {
        let mut dice = worker.dice.borrow_mut();
        let request = fresh_id(&mut dice);
        let traced = trace.map(Trace::exchange);
        let fresh = || TraceParent { sampled: false, ..trace::fresh(&mut dice) };
        Ids { request, trace_parent: traced.unwrap_or_else(fresh).write(), traced }
    }

    /// The span of the exchange, if it is traced.
    pub(super) fn traced(&self) -> Option<TraceParent> {
        self.traced
    }
}

/// A new request id: 128 random bits in hexadecimal digits.
pub(super) fn fresh_id(dice: &mut Dice) -> [u8; 32] {
    let mut id = [0; 32];
    hex(&mut id[..16], &dice.bits().to_be_bytes());
    hex(&mut id[16..], &dice.bits().to_be_bytes());
    id
}

/// The client's identity and the request's ids, for the cluster and the log.
pub(super) struct Identity<'a> {
    peer: &'a str,
    scheme: &'static str,
    trusted: bool,
    /// The version of the client's protocol; empty if the listener has `via: off`.
    received: &'static str,
    client_cert: ClientCert<'a>,
    ids: &'a Ids,
    /// Whether the request is a copy for a mirror.
    is_copy: bool,
    /// Whether a trusted client requested the decision.
    pub(super) explain: bool,
}

impl<'a> Identity<'a> {
    pub(super) fn new(
        worker: &Worker,
        head: &RequestHead,
        (info, protocol): (&'a ConnectionInfo, &'static str),
        record: &mut Record,
        (ids, is_copy): (&'a Ids, bool),
    ) -> Identity<'a> {
        let explain = info.trusted && head.field("tidegate-explain") == Some(b"1");
        let identity = Identity {
            peer: &info.peer_text,
            scheme: info.scheme(),
            trusted: info.trusted,
            received: if info.terms.via { received(protocol) } else { "" },
            client_cert: info.client_cert(),
            ids,
            is_copy,
            explain,
        };
        record.own_id = ids.request;
        record.is_requested = explain;
        if worker.log.is_on() {
            let id = forward::believed_request_id(head, info.trusted, &ids.request);
            record.request_id = String::from_utf8_lossy(id).into_owned();
            let (trace, _) = identity.trace_parent(head);
            record.trace_parent = String::from_utf8_lossy(trace).into_owned();
        }
        identity
    }

    /// The `traceparent` of the exchange, and whether the client's trace continues.
    fn trace_parent<'b>(&'b self, head: &'b RequestHead) -> (&'b [u8], bool) {
        match trace_parent::believed(head, self.trusted) {
            Some((value, _)) if self.ids.traced.is_none() => (value, true),
            believed => (&self.ids.trace_parent, believed.is_some()),
        }
    }

    fn context<'b>(
        &'b self,
        head: &'b RequestHead,
        authority: &'b str,
        target: &'b str,
        edits: Edits<'b>,
    ) -> RequestContext<'b> {
        let (trace_parent, continues_trace) = self.trace_parent(head);
        RequestContext {
            peer: self.peer,
            trusted: self.trusted,
            scheme: self.scheme,
            authority,
            target,
            request_id: &self.ids.request,
            trace_parent,
            continues_trace,
            via: "",
            received: self.received,
            client_cert: self.client_cert,
            is_copy: self.is_copy,
            edits,
        }
    }
}

/// A protocol's version in the format of `Via`.
fn received(protocol: &str) -> &'static str {
    match protocol {
        "HTTP/1.0" => "1.0",
        "HTTP/2.0" => "2",
        "HTTP/3.0" => "3",
        _ => "1.1",
    }
}

/// The fields that only policies may set, and their values for this request.
#[derive(Clone, Copy)]
pub(super) struct Granted<'a> {
    names: &'a [String],
    fields: &'a [(String, String)],
}

impl<'a> Granted<'a> {
    pub(super) fn of(view: &'a View, class: ClassIndex, record: &'a Record) -> Granted<'a> {
        let names = view.plan.asserted.get(view.plan.classes[class].service);
        Granted { names: names.map_or(&[], Vec::as_slice), fields: &record.granted }
    }

    /// Edits that remove the client's own fields of these names and add the granted ones; the operator's edits take
    /// precedence.
    fn beside(&self, edits: &edits::Edits) -> edits::Edits {
        let mut all = edits.clone();
        all.remove.extend_from_slice(self.names);
        let same = |known: &String, name: &str| known.eq_ignore_ascii_case(name);
        let is_edited = |name: &str| {
            let removed = edits.remove.iter().any(|known| same(known, name));
            removed || edits.set.iter().any(|(known, _)| same(known, name))
        };
        let granted = self.fields.iter().filter(|(name, _)| !is_edited(name));
        all.add.extend(granted.cloned());
        all
    }
}

/// Writes the request head for the selected cluster. `host` is the route's own, before that of the cluster.
pub(super) fn compose(
    view: &View,
    selection: &Selection,
    head: &RequestHead,
    (host, target): (Option<&str>, &str),
    identity: &Identity<'_>,
    (edits, composed): (&edits::Edits, &[u8]),
    (granted, trace): (Granted<'_>, Option<&Trace>),
) -> Vec<u8> {
    let endpoint = || Cow::Owned(selection.signals(view).address.to_string());
    let authority: Cow<'_, str> = match (host, &view.plan.clusters[selection.cluster].host) {
        (Some(name), _) => Cow::Borrowed(name),
        (None, HostPolicy::Preserve) if head.authority().is_empty() => endpoint(),
        (None, HostPolicy::Preserve) => Cow::Borrowed(head.authority()),
        (None, HostPolicy::Endpoint) => endpoint(),
        (None, HostPolicy::Name(name)) => Cow::Borrowed(name),
    };
    let with_granted;
    let edits = match granted.names {
        [] => edits,
        [..] => {
            with_granted = granted.beside(edits);
            &with_granted
        }
    };
    let edits = edits_with(edits, composed);
    let mut out = lend_scratch();
    let of_attempt = trace.map(|trace| trace.attempt().write());
    let mut context = identity.context(head, &authority, target, edits);
    if let Some(of_attempt) = &of_attempt {
        context.trace_parent = of_attempt;
    }
    // A request from another edge proxy stays in this site: a request crosses between sites at most once.
    if view.plan.clusters[selection.cluster].reports == Reports::Tidegate {
        context.via = &view.plan.site;
    }
    forward::write_request(&mut out, head, &context);
    out
}
