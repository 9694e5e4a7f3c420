//! The shapes of redirects and rewrites.

use crate::config::error::Problems;
use crate::config::scalar::Within;
use crate::config::shape::{Decode, Spanned, shape};
use crate::config::yaml::{Kind, Node};
use serde_json::{Value, json};

shape! {
    /// A redirect to any place.
    RedirectTo {
        /// The Location, with variables: {host}, {path}, {query}, {uri} and others.
        to: String = required,
        /// 301, 302, 303, 307 or 308.
        status: Within<301, 308> = "302",
    }
}

/// A redirect.
#[derive(Clone, Debug)]
pub enum Redirect {
    /// To the same URI with https.
    Https,
    /// To another place.
    To(RedirectTo),
}

impl Decode for Redirect {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => RedirectTo::decode(node, path, problems).map(Redirect::To),
            Kind::Null | Kind::Scalar { .. } | Kind::List(_) => {
                if node.text() == Some("https") {
                    return Some(Redirect::Https);
                }
                let hint = "write `redirect: https`, or `redirect: { to: LOCATION, status: 308 }`";
                problems.error_with_hint(node.at, path, "is not a redirect", hint);
                None
            }
        }
    }

    fn schema() -> Value {
        // One schema for both forms, so that the keys of the map are found; the pattern applies to text alone.
        let mut schema = RedirectTo::schema();
        schema["type"] = json!(["string", "object"]);
        schema["pattern"] = json!("^https$");
        schema
    }

    fn effective(node: &Node) -> Option<Value> {
        RedirectTo::effective(node)
    }
}

shape! {
    /// A replacement in the path.
    PathReplacement {
        /// A regular expression; its first match in the path is replaced.
        r#match: Spanned<String> = required,
        /// The replacement; $1 or $name is a group. It may have a query, which precedes the request's.
        replace: Spanned<String> = required,
    }
}

shape! {
    /// Rewrites for the cluster, in this order. Routes and policies see the original path.
    Rewrite {
        /// A prefix of whole segments to remove.
        strip_prefix: Spanned<String> = optional,
        /// A replacement by a regular expression.
        path_regex: PathReplacement = optional,
        /// A prefix to add.
        add_prefix: Spanned<String> = optional,
        /// The Host for the cluster, before that of the cluster's `host`.
        host: Spanned<String> = optional,
    }
}
