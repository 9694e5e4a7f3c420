//! From a tree to shapes. Each shape lists its keys once; the reader, the errors, the JSON Schema and the reference
//! are derived from that list.
//!
//! Serde stops at the first error and does not keep positions; this reader reports all errors with positions.

use super::error::{Position, Problem, Problems, below, suggestion};
use super::yaml::{Kind, Node};
use serde_json::{Map, Value, json};

/// A value with its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The position.
    pub at: Position,
}

/// A type that can be read from a tree.
pub trait Decode: Sized {
    /// Reads `node` at `path`. Reports problems; `None` if there were any.
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self>;
    /// The type's JSON Schema.
    fn schema() -> Value;
    /// The value of `node` with all documented defaults; `None` if the node is empty.
    fn effective(node: &Node) -> Option<Value> {
        as_written(node)
    }
}

/// A tree as JSON.
#[must_use]
pub fn as_written(node: &Node) -> Option<Value> {
    match &node.kind {
        Kind::Null => None,
        Kind::Scalar { text, plain: true } => Some(word(text)),
        Kind::Scalar { text, plain: false } => Some(json!(text)),
        Kind::List(items) => Some(items.iter().filter_map(as_written).collect()),
        Kind::Map(entries) => Some(Value::Object(
            entries
                .iter()
                .filter_map(|(key, value)| Some((key.text()?.to_owned(), as_written(value)?)))
                .collect(),
        )),
    }
}

/// A documented default as JSON; the text has the format of the file.
#[must_use]
pub fn default_value(text: &str) -> Option<Value> {
    super::yaml::parse(text).0.as_ref().and_then(as_written)
}

/// The value of an unquoted word: a number, a truth value or text.
#[must_use]
fn word(text: &str) -> Value {
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => json!(number),
        _ => match text {
            "true" => json!(true),
            "false" => json!(false),
            _ => text
                .parse::<f64>()
                .ok()
                .filter(|number| number.to_string() == text)
                .map_or(json!(text), |number| json!(number)),
        },
    }
}

/// Reads a whole file.
pub fn decode_root<T: Decode>(node: &Node, problems: &mut Problems) -> Option<T> {
    T::decode(node, "", problems)
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        T::decode(node, path, problems).map(|value| Spanned { value, at: node.at })
    }

    fn schema() -> Value {
        T::schema()
    }

    fn effective(node: &Node) -> Option<Value> {
        T::effective(node)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            let hint = "write a list: [a, b]";
            problems.error_with_hint(node.at, path, "must be a list", hint);
            return None;
        };
        // An unreadable item was already reported and makes the file invalid; the other items are still
        // checked.
        let read = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| T::decode(item, &format!("{path}[{index}]"), problems));
        Some(read.collect())
    }

    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }

    fn effective(node: &Node) -> Option<Value> {
        let Kind::List(items) = &node.kind else { return as_written(node) };
        Some(items.iter().filter_map(T::effective).collect())
    }
}

/// Entries with operator-chosen names, in the order of the file; and the names of unreadable entries, so that
/// references to them are not reported as missing.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(Spanned<String>, T)>, Vec<String>);

impl<T> Default for Named<T> {
    fn default() -> Named<T> {
        Named(Vec::new(), Vec::new())
    }
}

impl<T> Named<T> {
    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.value.as_str())
    }

    /// Whether the entry called `name` exists but could not be read.
    #[must_use]
    pub fn is_broken(&self, name: &str) -> bool {
        self.1.iter().any(|broken| broken == name)
    }

    /// Whether there is no entry, readable or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_empty()
    }

    /// The index of the entry called `name`.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names().position(|known| known == name)
    }
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let entries = entries(node, path, problems)?;
        let mut read = Vec::with_capacity(entries.len());
        let mut broken = Vec::new();
        for (key, value) in entries {
            let name = key.text().unwrap_or_default().to_owned();
            let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > 128 || !name.chars().all(valid) {
                let hint = "letters, digits, `-`, `_` and `.`, at most 128";
                problems.error_with_hint(key.at, below(path, &name), "not a valid name", hint);
            }
            match T::decode(value, &below(path, &name), problems) {
                Some(value) => read.push((Spanned { value: name, at: key.at }, value)),
                None => broken.push(name),
            }
        }
        Some(Named(read, broken))
    }

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }

    fn effective(node: &Node) -> Option<Value> {
        let Kind::Map(entries) = &node.kind else { return as_written(node) };
        let one = |(name, value): &(Node, Node)| {
            Some((name.text()?.to_owned(), T::effective(value).unwrap_or(Value::Null)))
        };
        Some(Value::Object(entries.iter().filter_map(one).collect()))
    }
}

/// Header fields: names and values, in order.
#[derive(Clone, Debug, Default)]
pub struct Pairs(pub Vec<(Spanned<String>, String)>);

impl Decode for Pairs {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        let entries = entries(node, path, problems)?;
        let mut read = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.text().unwrap_or_default().to_owned();
            let value = String::decode(value, &below(path, &name), problems)?;
            read.push((Spanned { value: name, at: key.at }, value));
        }
        Some(Pairs(read))
    }

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": String::schema()})
    }

    /// Field values may be secrets: only the names are shown.
    fn effective(node: &Node) -> Option<Value> {
        let Kind::Map(entries) = &node.kind else { return None };
        let one = |(name, _): &(Node, Node)| Some((name.text()?.to_owned(), json!("redacted")));
        Some(Value::Object(entries.iter().filter_map(one).collect()))
    }
}

/// The entries of a map; an absent value is an empty map.
pub fn entries<'a>(
    node: &'a Node,
    path: &str,
    problems: &mut Problems,
) -> Option<&'a [(Node, Node)]> {
    match &node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::Null => Some(&[]),
        Kind::Scalar { .. } | Kind::List(_) => {
            let hint = "write a map: { key: value }";
            problems.error_with_hint(node.at, path, "must be a map", hint);
            None
        }
    }
}

/// Reports a key that the shape does not have.
pub fn unknown_key(key: &Node, path: &str, known: &[&str], problems: &mut Problems) {
    let name = key.text().unwrap_or_default();
    let full = below(path, name);
    let problem = Problem::error(key.at, full, format!("unknown key `{name}`"));
    let hint = suggestion(name, known.iter().copied());
    problems.unknown_key(path, name, Problem { hint, ..problem });
}

/// Adds a description and the documented default to a key's schema.
pub fn describe(schema: &mut Value, about: &str, default: Option<&str>) {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), json!(about));
        if let Some(default) = default {
            object.insert("default".to_owned(), default_value(default).unwrap_or(Value::Null));
        }
    }
}

/// A map with these keys and no others.
#[must_use]
pub fn object(properties: Map<String, Value>, required: Vec<&str>) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The name of a key in the file, from that of its field: `match` is a word of Rust, and is written `r#match`.
#[must_use]
pub const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', name @ ..] => match std::str::from_utf8(name) {
            Ok(name) => name,
            Err(_) => field,
        },
        _ => field,
    }
}

/// Declares a shape: its keys, their types, whether they are required, and their documented default.
macro_rules! shape {
    ($(#[doc = $about:literal])* $name:ident {
        $($(#[doc = $doc:literal])* $key:ident: $type:ty = $presence:tt,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// The position in the file.
            pub at: $crate::config::error::Position,
            $($(#[doc = $doc])* pub $key: shape!(@type $presence $type),)*
        }

        impl $crate::config::shape::Decode for $name {
            fn decode(
                node: &$crate::config::yaml::Node,
                path: &str,
                problems: &mut $crate::config::error::Problems,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$($crate::config::shape::key_name(stringify!($key))),*];
                let entries = $crate::config::shape::entries(node, path, problems)?;
                for (key, _) in entries {
                    if !key.text().is_some_and(|text| KEYS.contains(&text)) {
                        $crate::config::shape::unknown_key(key, path, KEYS, problems);
                    }
                }
                $(let $key: Option<$type> = entries
                    .iter()
                    .find(|(key, _)| key.text() == Some($crate::config::shape::key_name(stringify!($key))))
                    .filter(|(_, value)| !value.is_null() || shape!(@required $presence))
                    .and_then(|(_, value)| {
                        let path = $crate::config::error::below(path, $crate::config::shape::key_name(stringify!($key)));
                        <$type as $crate::config::shape::Decode>::decode(value, &path, problems)
                    });)*
                $(if shape!(@required $presence)
                    && !entries.iter().any(|(key, _)| key.text() == Some($crate::config::shape::key_name(stringify!($key))))
                {
                    let schema = <$type as $crate::config::shape::Decode>::schema();
                    let key = $crate::config::shape::key_name(stringify!($key));
                    $crate::config::shape::missing(key, &schema, node.at, path, problems);
                })*
                // A key that could not be read counts as absent: its problem was reported.
                Some($name { at: node.at, $($key: shape!(@take $presence $key),)* })
            }

            fn schema() -> serde_json::Value {
                let mut properties = serde_json::Map::new();
                let mut required: Vec<&str> = Vec::new();
                $({
                    let mut schema = <$type as $crate::config::shape::Decode>::schema();
                    let doc = concat!($($doc),*).trim();
                    $crate::config::shape::describe(&mut schema, doc, shape!(@default $presence));
                    properties.insert($crate::config::shape::key_name(stringify!($key)).to_owned(), schema);
                    if shape!(@required $presence) {
                        required.push($crate::config::shape::key_name(stringify!($key)));
                    }
                })*
                $crate::config::shape::object(properties, required)
            }

            fn effective(node: &$crate::config::yaml::Node) -> Option<serde_json::Value> {
                use $crate::config::yaml::{Kind, Node};
                let absent = Node { at: node.at, kind: Kind::Null };
                let entries: &[(Node, Node)] = match &node.kind {
                    Kind::Map(entries) => entries,
                    // A required value has no default.
                    Kind::Null if false $(|| shape!(@required $presence))* => return None,
                    Kind::Null => &[],
                    Kind::Scalar { .. } | Kind::List(_) => {
                        return $crate::config::shape::as_written(node);
                    }
                };
                let mut all = serde_json::Map::new();
                $({
                    let written =
                        entries.iter().find(|(key, _)| key.text() == Some($crate::config::shape::key_name(stringify!($key))));
                    let value = written.map_or(&absent, |(_, value)| value);
                    let value = <$type as $crate::config::shape::Decode>::effective(value)
                        .or(shape!(@default $presence).and_then($crate::config::shape::default_value));
                    if let Some(value) = value {
                        all.insert($crate::config::shape::key_name(stringify!($key)).to_owned(), value);
                    }
                })*
                (!all.is_empty() || !node.is_null()).then_some(serde_json::Value::Object(all))
            }
        }
    };
    (@type required $type:ty) => { $type };
    (@type $presence:tt $type:ty) => { Option<$type> };
    (@required required) => { true };
    (@required $presence:tt) => { false };
    (@take required $key:ident) => { $key? };
    (@take $presence:tt $key:ident) => { $key };
    (@default required) => { None };
    (@default optional) => { None };
    (@default $default:literal) => { Some($default) };
}

/// Declares an enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $crate::config::shape::Decode for $name {
            fn decode(
                node: &$crate::config::yaml::Node,
                path: &str,
                problems: &mut $crate::config::error::Problems,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                match node.text() {
                    $(Some($word) => Some($name::$variant),)*
                    found => {
                        $crate::config::shape::wrong_word(found, WORDS, node.at, path, problems);
                        None
                    }
                }
            }

            fn schema() -> serde_json::Value {
                $crate::config::shape::choices(&[$(($word, concat!($($doc),*))),*])
            }
        }
    };
}
pub(super) use {shape, words};

/// The schema of words, each with its description. A word that looks like a number may be written as one.
#[must_use]
pub fn choices(words: &[(&str, &str)]) -> Value {
    let texts = words.iter().map(|(text, about)| (json!(text), about.trim()));
    let numbers = words.iter().map(|(text, about)| (word(text), about.trim()));
    let numbers = numbers.filter(|(value, _)| value.is_number());
    let (values, about): (Vec<Value>, Vec<&str>) = texts.chain(numbers).unzip();
    json!({"enum": values, "markdownEnumDescriptions": about})
}

/// Reports that a required key is missing, with its choices if it has any.
pub fn missing(key: &str, schema: &Value, at: Position, path: &str, problems: &mut Problems) {
    let hint = schema["enum"].as_array().map(|words| {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        format!("one of: {}", words.join(", "))
    });
    let problem = Problem::error(at, path, format!("`{key}` is missing"));
    problems.lacking(path, &[key], Problem { hint, ..problem });
}

/// Words of other proxies, and the corresponding words of this configuration.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("https", "http", "use `http` with `tls:`"),
    ("tls", "tls-passthrough", "use `tls-passthrough`, or `http` or `tcp` with `tls:`"),
    ("http2", "tls-passthrough", "use `http`, which speaks HTTP/2 too"),
];

/// Reports a word that is not one of the choices.
pub fn wrong_word(
    found: Option<&str>,
    words: &[&str],
    at: Position,
    path: &str,
    problems: &mut Problems,
) {
    let choices = words.join(", ");
    match found {
        Some(text) => {
            let near = super::error::nearest(text, words.iter().copied());
            let known =
                ELSEWHERE.iter().find(|(word, ours, _)| *word == text && words.contains(ours));
            let hint = match (known, near) {
                (Some((.., hint)), _) => (*hint).to_owned(),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("one of: {choices}"),
            };
            problems.error_with_hint(at, path, format!("`{text}` is not one of the choices"), hint);
        }
        None => problems.error(at, path, format!("must be one of: {choices}")),
    }
}
