//! The request head for a cluster: client identity, request ids, target.

use super::record::Record;
use crate::decision::plan::{ClassIndex, HostPolicy, Reports};
use crate::decision::route::{self, Route};
use crate::http::field::Role;
use crate::http::forward::{self, ClientCert, Edits, RequestContext};
use crate::http::request::RequestHead;
use crate::proxy::buffer::lend_scratch;
use crate::proxy::l7::connection_info::ConnectionInfo;
use crate::proxy::selection::Selection;
use crate::proxy::worker::Worker;
use crate::shared::View;

/// The ids of a request whose client sent no trusted ones.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    request: [u8; 32],
    trace_parent: [u8; 55],
}

impl Ids {
    /// New unique ids.
    pub(super) fn new(worker: &Worker) -> Ids {
        let mut dice = worker.dice.borrow_mut();
        let mut request = [0; 32];
        hex(&mut request[..16], dice.bits());
        hex(&mut request[16..], dice.bits());
        let mut trace_parent = *b"00-00000000000000000000000000000000-0000000000000000-00";
        // Neither of the two numbers may be zero (W3C Trace Context §3.2.2).
        hex(&mut trace_parent[3..19], dice.bits() | 1);
        hex(&mut trace_parent[19..35], dice.bits());
        hex(&mut trace_parent[36..52], dice.bits() | 1);
        Ids { request, trace_parent }
    }
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
            received: if info.via { received(protocol) } else { "" },
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
            let trace = head.value(Role::TraceParent);
            let trace = trace.filter(|_| info.trusted).unwrap_or(&identity.ids.trace_parent);
            record.trace_parent = String::from_utf8_lossy(trace).into_owned();
        }
        identity
    }

    fn context<'b>(
        &'b self,
        authority: &'b str,
        target: &'b str,
        edits: Edits<'b>,
    ) -> RequestContext<'b> {
        RequestContext {
            peer: self.peer,
            trusted: self.trusted,
            scheme: self.scheme,
            authority,
            target,
            request_id: &self.ids.request,
            trace_parent: &self.ids.trace_parent,
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

/// Both digits of each byte. Five numbers per request justify a table.
static HEX: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    pairs
};

fn hex(digits: &mut [u8], bits: u64) {
    let (pairs, _) = digits.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bits.to_be_bytes()) {
        *pair = HEX[usize::from(byte)];
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
    fn beside(&self, edits: &route::Edits) -> route::Edits {
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

/// Writes the request head for the selected cluster.
pub(super) fn compose(
    view: &View,
    route: &Route,
    selection: &Selection,
    head: &RequestHead,
    identity: &Identity<'_>,
    granted: Granted<'_>,
) -> Vec<u8> {
    let endpoint = || selection.signals(view).address.to_string();
    let authority = match &view.plan.clusters[selection.cluster].host {
        HostPolicy::Preserve if head.authority().is_empty() => endpoint(),
        HostPolicy::Preserve => String::new(),
        HostPolicy::Endpoint => endpoint(),
        HostPolicy::Name(name) => name.clone(),
    };
    let authority = if authority.is_empty() { head.authority() } else { &authority };
    let rewritten;
    let target = match route.strip_prefix.as_deref().and_then(|prefix| stripped(head, prefix)) {
        Some((path, query)) => {
            let slash = if path.starts_with('/') { "" } else { "/" };
            rewritten = [slash, path, query].concat();
            &rewritten
        }
        None => head.target().as_str(),
    };
    let with_granted;
    let edits = match granted.names {
        [] => &route.request_edits,
        [..] => {
            with_granted = granted.beside(&route.request_edits);
            &with_granted
        }
    };
    let edits = Edits { remove: &edits.remove, set: &edits.set, add: &edits.add };
    let mut out = lend_scratch();
    let mut context = identity.context(authority, target, edits);
    // A request from another edge proxy stays in this site: a request crosses between sites at most once.
    if view.plan.clusters[selection.cluster].reports == Reports::Tidegate {
        context.via = &view.plan.site;
    }
    forward::write_request(&mut out, head, &context);
    out
}

/// Path and query without a prefix of whole segments.
fn stripped<'a>(head: &'a RequestHead, prefix: &str) -> Option<(&'a str, &'a str)> {
    let rest = head.target().path().strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| (rest, head.target().query()))
}
