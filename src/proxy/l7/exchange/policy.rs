//! The policies of a request's route and service.

use super::failure::Failure;
use super::record::Record;
use crate::decision::policy::PolicyIndex;
use crate::http::field::{Field, Role};
use crate::http::request::RequestHead;
use crate::l7::connection_info::ConnectionInfo;
use crate::policy::{PolicyRequest, Refused};
use crate::refusal::Refusal;
use crate::shared::View;

/// Checks a request against all of these policies; the record holds the permits until the record is dropped.
pub(super) async fn pass(
    view: &View,
    policies: impl Iterator<Item = PolicyIndex>,
    info: &ConnectionInfo,
    head: &RequestHead,
    record: &mut Record,
) -> Result<(), Failure> {
    let target = head.target();
    let target = format!("{}{}", target.path(), target.query());
    let field = |name: &str| sole(head, name);
    let believed = |role| {
        let forwarded = info.trusted.then(|| head.value(role)).flatten();
        forwarded.and_then(|value| std::str::from_utf8(value).ok())
    };
    let request = PolicyRequest {
        client: info.client(head),
        method: head.method(),
        scheme: believed(Role::ForwardedProto).unwrap_or_else(|| info.scheme()),
        host: believed(Role::ForwardedHost).unwrap_or_else(|| head.authority()),
        target: &target,
        field: &field,
    };
    for policy in policies {
        let seat = view.policies.admit(policy, &request).map_err(|why| refuse(&why, record))?;
        record.seats.extend(seat);
        let passed = view.policies.verify(policy, &request).await;
        let passed = passed.map_err(|why| refuse(&why, record))?;
        record.granted.extend(passed.granted);
        record.answer_lines.extend(passed.lines);
    }
    Ok(())
}

/// The value of a field that must occur exactly once: with two values, the cluster might use the other value.
fn sole<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let is_it = |field: &&Field| field.name.of(head.bytes()).eq_ignore_ascii_case(name.as_bytes());
    let mut found = head.fields().iter().filter(is_it);
    let first = found.next()?;
    found.next().is_none().then(|| first.value.of(head.bytes()))
}

fn refuse(why: &Refused, record: &mut Record) -> Failure {
    record.refusal_lines = match why {
        Refused::Rate(wait) => {
            format!("retry-after: {}\r\n", wait.as_secs_f64().ceil().max(1.0))
        }
        Refused::Unauthorized(challenge) => format!("www-authenticate: {challenge}\r\n"),
        Refused::Forbidden | Refused::Full | Refused::Unavailable | Refused::Response(_) => {
            String::new()
        }
    };
    if let Refused::Response(response) = why {
        record.denial = Some(response.clone());
    }
    record.refusal_why = match why {
        Refused::Rate(_) => "the rate limit is exceeded",
        Refused::Unauthorized(_) => "credentials are missing or invalid",
        Refused::Forbidden => "access is denied by policy",
        Refused::Full => "the concurrency limit is reached",
        Refused::Unavailable => "the authorization service is unavailable",
        Refused::Response(_) => "the authorization service denied the request",
    };
    Failure::refuse(Refusal::from(why))
}
