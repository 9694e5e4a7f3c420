//! The audit log of manual changes: the last thousand actions, each also written as one log line.
//!
//! The token does not identify a person, so an action also records the client's address and the name that the client
//! gives in `tidegate-operator`. This name is not verified.

use super::Backend;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

/// The number of actions that are kept.
const ACTIONS_MAX: usize = 1_000;
/// Characters of a name that a client gives.
const NAME_MAX: usize = 64;
/// The field with the name of the operator.
const OPERATOR: &str = "tidegate-operator";

/// The address of the client of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer(pub(super) String);

/// The operator behind an action, as far as known.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    by: String,
    from: String,
    agent: String,
}

impl Who {
    /// The name that the client gives, or else its address.
    pub(super) fn name(&self) -> &str {
        if self.by.is_empty() { &self.from } else { &self.by }
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Who, Infallible> {
        let given = |name: &str| {
            let text =
                parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
            let text = text.unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect::<String>()
        };
        let from = parts.extensions.get::<Peer>().map_or(String::new(), |Peer(from)| from.clone());
        Ok(Who { by: given(OPERATOR), from, agent: given(USER_AGENT.as_str()) })
    }
}

/// One manual action.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Action {
    /// The time, RFC 3339.
    time: String,
    /// `dial`, `reload`, `drill` or `shift`.
    action: &'static str,
    /// `clusters`, `sites`, `services` or `configuration`.
    kind: String,
    /// The name of the cluster or site.
    name: String,
    /// The dial, or the part of the traffic that is away; null if the manual dial was removed.
    percent: Option<u8>,
    /// The name that the client gives; empty if it gives none.
    by: String,
    /// The client's address.
    from: String,
    /// The client's program.
    agent: String,
    /// Whether the action took effect.
    ok: bool,
    /// The error, or a warning.
    message: String,
}

/// The last actions.
#[derive(Debug, Default)]
pub(super) struct Audit(Mutex<VecDeque<Action>>);

/// The data of an action.
#[derive(Debug)]
pub(super) struct Done<'a> {
    pub(super) action: &'static str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) percent: Option<u8>,
    pub(super) ok: bool,
    pub(super) message: String,
}

/// Stores an action, and logs it.
pub(super) fn remember(backend: &Backend, who: Who, done: Done<'_>) {
    let Done { action, kind, name, percent, ok, message } = done;
    let Who { by, from, agent } = who;
    let dial = percent.map_or("reset".to_owned(), |percent| percent.to_string());
    tracing::info!(
        action,
        kind,
        name,
        percent = dial,
        by,
        from,
        agent,
        ok,
        message,
        "admin action: {action} of {kind} {name} by {from}"
    );
    let time = (backend.rfc3339)((backend.now)());
    let (kind, name) = (kind.to_owned(), name.to_owned());
    let action = Action { time, action, kind, name, percent, by, from, agent, ok, message };
    let mut all = backend.memory.audit.0.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() == ACTIONS_MAX {
        all.pop_front();
    }
    all.push_back(action);
}

/// The last actions, the newest first.
pub(super) async fn audit(State(backend): State<Arc<Backend>>) -> Json<Value> {
    let all = backend.memory.audit.0.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!(all.iter().rev().collect::<Vec<_>>()))
}
