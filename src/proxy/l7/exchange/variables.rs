//! The values of variables in header fields, redirects and error pages.
//!
//! Text without variables was resolved when the plan was built and does not come here.

use super::record::Record;
use crate::decision::edits;
use crate::decision::plan::{ClassIndex, ClusterIndex};
use crate::decision::route::RouteIndex;
use crate::decision::template::{Escape, Template, Variable};
use crate::http::field::{Field, Role};
use crate::http::forward::{self, Edits};
use crate::http::hops;
use crate::http::request::RequestHead;
use crate::l7::connection_info::ConnectionInfo;
use crate::refusal::Refusal;
use crate::shared::View;
use crate::tls::client_cert;

/// The exchange as variables see it. What an exchange does not have, such as a cluster before one is selected, is
/// empty.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    view: &'a View,
    info: &'a ConnectionInfo,
    head: &'a RequestHead,
    route: Option<RouteIndex>,
    class: Option<ClassIndex>,
    cluster: Option<ClusterIndex>,
    own_id: &'a [u8; 32],
    refusal: Option<Refusal>,
}

impl<'a> Values<'a> {
    /// The facts so far.
    #[must_use]
    pub fn of(
        view: &'a View,
        info: &'a ConnectionInfo,
        head: &'a RequestHead,
        record: &'a Record,
    ) -> Values<'a> {
        Values {
            view,
            info,
            head,
            route: record.route,
            class: record.class,
            cluster: record.selection.map(|(cluster, ..)| cluster),
            own_id: &record.own_id,
            refusal: None,
        }
    }

    /// The facts of a refusal.
    #[must_use]
    pub fn refused(self, refusal: Refusal) -> Values<'a> {
        Values { refusal: Some(refusal), ..self }
    }

    /// Complete lines of fields with variables. A field with an empty value is left out, so that its absence can be
    /// tested.
    #[must_use]
    pub fn lines(&self, fields: &[(String, Template)]) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut value = Vec::new();
        for (name, template) in fields {
            value.clear();
            template.render(&mut value, Escape::Text, |variable, out| self.push(variable, out));
            if !value.trim_ascii().is_empty() {
                forward::push_field(&mut lines, name.as_bytes(), value.trim_ascii());
            }
        }
        lines
    }

    /// The text of a template.
    #[must_use]
    pub fn text(&self, template: &Template, escape: Escape) -> Vec<u8> {
        let mut text = Vec::new();
        template.render(&mut text, escape, |variable, out| self.push(variable, out));
        text
    }

    /// Writes the value of a variable as received; the template escapes it.
    fn push(&self, variable: &Variable, out: &mut Vec<u8>) {
        let (info, head) = (self.info, self.head);
        let plan = &self.view.plan;
        let target = head.target();
        let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
        match variable {
            Variable::ClientIp => text(&info.client(head).to_string()),
            Variable::Scheme => text(scheme(info, head)),
            Variable::Host => text(head.host()),
            Variable::Path => text(target.path()),
            Variable::Query => text(target.query().trim_start_matches('?')),
            Variable::Uri => text(target.as_str()),
            Variable::RequestId => out.extend_from_slice(self.request_id()),
            Variable::Listener => text(&info.terms.name),
            Variable::Route => text(self.route.map_or("", |route| &plan.routes.route(route).name)),
            Variable::Service => text(self.class.map_or("", |class| &plan.service_of(class).name)),
            Variable::Cluster => text(self.cluster.map_or("", |one| &plan.clusters[one].name)),
            Variable::Site => text(&plan.site),
            Variable::Sni => {
                let sni = info.agreed.as_ref().and_then(|agreed| agreed.sni.as_deref());
                text(sni.unwrap_or_default());
            }
            Variable::ClientCertSubject => text(&self.certificate().1),
            Variable::ClientCertFingerprint => text(&self.certificate().0),
            Variable::Reason => text(self.refusal.map_or("", Refusal::label)),
            Variable::Status => {
                text(&self.refusal.map_or(String::new(), |why| why.status().to_string()))
            }
            Variable::Header(name) => out.extend_from_slice(self.field(name)),
        }
    }

    /// The first value of a field; empty for a field that only a trusted peer may send.
    fn field(&self, name: &str) -> &[u8] {
        let head = self.head;
        let is_it =
            |field: &&Field| field.name.of(head.bytes()).eq_ignore_ascii_case(name.as_bytes());
        let is_believed = |field: &&Field| self.info.trusted || !is_of_proxies(field.role);
        let found = head.fields().iter().find(is_it).filter(is_believed);
        found.map_or(b"", |field| field.value.of(head.bytes()))
    }

    fn request_id(&self) -> &[u8] {
        let own = match self.own_id {
            [0, ..] => &[],
            own => &own[..],
        };
        forward::believed_request_id(self.head, self.info.trusted, own)
    }

    /// The fingerprint and the subject of the client's verified certificate.
    fn certificate(&self) -> (String, String) {
        let peer = self.info.agreed.as_ref().and_then(|agreed| agreed.peer.as_ref());
        peer.map(client_cert::identity).unwrap_or_default()
    }
}

/// The edits with the lines that were composed for the exchange.
pub(super) fn edits_with<'a>(edits: &'a edits::Edits, composed: &'a [u8]) -> Edits<'a> {
    Edits { remove: &edits.remove, set: &edits.set, add: &edits.add, composed }
}

/// Whether only proxies send fields of this role.
fn is_of_proxies(role: Role) -> bool {
    matches!(
        role,
        Role::ForwardedFor
            | Role::ForwardedProto
            | Role::ForwardedHost
            | Role::ForwardedOther
            | Role::ForwardedClientCert
            | Role::RequestId
            | Role::Tidegate
    )
}

/// `https` or `http`: of the connection, or as a trusted peer reports it.
#[must_use]
pub fn scheme(info: &ConnectionInfo, head: &RequestHead) -> &'static str {
    hops::scheme(head, info.trusted, info.scheme())
}
