//! The shapes of a route's further conditions.

use crate::config::error::Problems;
use crate::config::error::below;
use crate::config::scalar::Network;
use crate::config::shape::{Decode, Spanned, entries, shape};
use crate::config::yaml::{Kind, Node};
use serde_json::{Value, json};

shape! {
    /// A test of a value that is not one of equality: one of these.
    OtherTest {
        /// A regular expression that must match the whole value.
        regex: Spanned<String> = optional,
        /// true: the name occurs, with any value; false: it does not occur.
        present: bool = optional,
    }
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum ValueTest {
    /// This value.
    Equals(String),
    /// Another test.
    Other(OtherTest),
}

impl Decode for ValueTest {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => OtherTest::decode(node, path, problems).map(ValueTest::Other),
            Kind::Null | Kind::Scalar { .. } | Kind::List(_) => {
                String::decode(node, path, problems).map(ValueTest::Equals)
            }
        }
    }

    fn schema() -> Value {
        // One schema for both forms, so that the keys of the map are found.
        let mut schema = OtherTest::schema();
        schema["type"] = json!(["string", "number", "boolean", "object"]);
        schema
    }

    /// The value of a field may be a secret.
    fn effective(node: &Node) -> Option<Value> {
        match &node.kind {
            Kind::Map(_) => OtherTest::effective(node),
            Kind::Null => None,
            Kind::Scalar { .. } | Kind::List(_) => Some(json!("redacted")),
        }
    }
}

/// Names, and what their values must be, in order.
#[derive(Clone, Debug, Default)]
pub struct ValueTests(pub Vec<(Spanned<String>, ValueTest)>);

impl Decode for ValueTests {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let entries = entries(node, path, problems)?;
        let mut read = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.text().unwrap_or_default().to_owned();
            if let Some(test) = ValueTest::decode(value, &below(path, &name), problems) {
                read.push((Spanned { value: name, at: key.at }, test));
            }
        }
        Some(ValueTests(read))
    }

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": ValueTest::schema()})
    }

    fn effective(node: &Node) -> Option<Value> {
        let Kind::Map(entries) = &node.kind else { return None };
        let one = |(name, test): &(Node, Node)| {
            Some((name.text()?.to_owned(), ValueTest::effective(test)?))
        };
        Some(Value::Object(entries.iter().filter_map(one).collect()))
    }
}

shape! {
    /// Conditions that must not hold: a request for which one of them holds does not match.
    Unless {
        /// Header fields and their values.
        headers: ValueTests = optional,
        /// Query parameters and their values, decoded.
        query: ValueTests = optional,
        /// Networks of clients.
        client: Vec<Network> = optional,
    }
}

shape! {
    /// Further conditions; all must hold.
    Matching {
        /// Header fields and their values.
        headers: ValueTests = optional,
        /// Query parameters and their values, decoded.
        query: ValueTests = optional,
        /// Networks of clients.
        client: Vec<Network> = optional,
        /// Conditions that must not hold.
        not: Unless = optional,
    }
}
