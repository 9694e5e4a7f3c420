//! Cross-origin rules of services and routes, and which of them a route has.

use super::compiler::Compiler;
use super::file::policy::CorsFile;
use super::headers::is_field_name;
use super::shape::Spanned;
use crate::decision::cors::{Cors, FIELDS, Origins};
use crate::decision::edits::Edits;
use crate::decision::plan::Plan;
use crate::decision::route::Action;
use std::sync::Arc;
use std::time::Duration;

impl Compiler<'_> {
    /// Compiles the rules written at `path`.
    pub(super) fn cors(&mut self, written: &CorsFile, path: &str) -> Arc<Cors> {
        let path = format!("{path}.cors");
        let credentials = written.credentials.unwrap_or(false);
        let origins = self.origins(written, &path);
        if credentials && origins == Origins::Any {
            let message = "`credentials` with the origin `*` would let every page act in the name of its visitors";
            let hint = "list the origins, or remove `credentials`";
            self.problems.error_with_hint(written.at, format!("{path}.credentials"), message, hint);
        }
        let usual = || ["GET", "HEAD", "POST"].map(str::to_owned).to_vec();
        let methods = written.methods.as_ref().map_or_else(usual, |methods| {
            self.tokens(methods, &format!("{path}.methods"))
                .iter()
                .map(|method| method.to_ascii_uppercase())
                .collect()
        });
        let headers = written.headers.as_deref().unwrap_or_default();
        let any = headers.iter().any(|header| header.value == "*");
        Arc::new(Cors {
            origins,
            methods,
            headers: (!any).then(|| self.tokens(headers, &format!("{path}.headers"))),
            expose: self
                .tokens(written.expose.as_deref().unwrap_or_default(), &format!("{path}.expose")),
            max_age: written.max_age.unwrap_or(Duration::from_secs(600)),
            credentials,
        })
    }

    fn origins(&mut self, written: &CorsFile, path: &str) -> Origins {
        let path = format!("{path}.origins");
        if written.origins.is_empty() {
            self.problems.error(written.at, &path, "lists no origin");
        }
        if written.origins.iter().any(|origin| origin.value == "*") {
            return Origins::Any;
        }
        for origin in written.origins.iter().filter(|origin| !is_origin(&origin.value)) {
            let message = format!("`{}` is not an origin", origin.value.escape_debug());
            let hint = "write https://HOST, https://HOST:PORT, https://*.DOMAIN, null, or *; without a path";
            self.problems.error_with_hint(origin.at, &path, message, hint);
        }
        let lower = |origin: &Spanned<String>| origin.value.to_ascii_lowercase();
        Origins::Listed(written.origins.iter().map(lower).collect())
    }

    /// Names of methods or fields; reports those that are none.
    fn tokens(&mut self, names: &[Spanned<String>], path: &str) -> Vec<String> {
        for name in names.iter().filter(|name| !is_field_name(&name.value)) {
            let message = format!("`{}` is not a valid name", name.value.escape_debug());
            self.problems.error(name.at, path, message);
        }
        names.iter().map(|name| name.value.clone()).collect()
    }
}

/// Whether `text` is a browser's origin: scheme, host, perhaps a port, nothing else.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return text == "null" };
    let host = rest.strip_prefix("*.").unwrap_or(rest);
    let is_host =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let whole = !scheme.is_empty() && !host.is_empty() && !host.starts_with(['.', ':']);
    whole && scheme.chars().all(is_scheme) && host.chars().all(is_host)
}

/// The rules of a route without rules of its own: those of its services, `None` where these differ.
pub(super) fn of_services(plan: &Plan, action: &Action) -> Option<Option<Arc<Cors>>> {
    let of = |class| plan.service_of(class).cors.clone();
    match action {
        Action::Forward(to) => Some(of(to.class)),
        Action::Split(parts) => {
            let mut all = parts.iter().map(|(_, to)| of(to.class));
            let first = all.next().flatten();
            all.all(|one| one == first).then_some(first)
        }
        Action::Redirect { .. } | Action::Respond { .. } => Some(None),
    }
}

/// Edits that also remove the cluster's own fields of the protocol, where the proxy writes them.
pub(super) fn without_clusters_fields(mut edits: Edits, cors: Option<&Arc<Cors>>) -> Edits {
    if cors.is_some() {
        edits.remove.extend(FIELDS.map(str::to_owned));
    }
    edits
}
