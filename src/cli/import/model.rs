//! What the importers produce: listeners, services and clusters as keys of the configuration, rules in the order in
//! which the original tries them, and notes on everything that is not the same.

use super::document::{Doc, Map};
use std::fmt;
use std::rc::Rc;

/// A place in an imported file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Origin {
    /// The file, as the command line or an `include` names it.
    pub(super) file: Rc<str>,
    /// The line, from 1.
    pub(super) line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How what was written differs from what is generated.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Verdict {
    /// It has no equivalent, and the generated configuration lacks it.
    LeftOut,
    /// It is translated, and behaves differently in a detail.
    Differs,
    /// Nothing need be written for it.
    Unneeded,
}

/// A remark on one directive.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Note {
    /// How serious it is.
    pub(super) verdict: Verdict,
    /// The place.
    pub(super) at: Origin,
    /// The directive as written, shortened.
    pub(super) what: String,
    /// What to do, or what is different.
    pub(super) hint: String,
}

/// A named part of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Its name.
    pub(super) name: String,
    /// The place that it was made from.
    pub(super) at: Origin,
    /// Its keys.
    pub(super) keys: Map,
}

/// The part of the paths that a rule accepts.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum PathTest {
    /// This path and all paths below it, by whole segments; `/` is any path.
    Prefix(String),
    /// This path.
    Exact(String),
    /// A pattern for the whole path.
    Regex(String),
}

/// A property of the request beside host, path, method and exact header fields.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Field {
    /// A header field.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// The address of the client.
    Client,
}

/// The accepted values of a property.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Value {
    /// This value.
    Exact(String),
    /// A pattern for the whole value.
    Regex(String),
    /// Any value, if there is one.
    Present,
    /// Addresses of these networks.
    Networks(Vec<String>),
}

/// One test of a property.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Test {
    /// Whether the request must fail the test.
    pub(super) negated: bool,
    /// The property.
    pub(super) field: Field,
    /// The accepted values.
    pub(super) value: Value,
}

/// Conditions that all must hold. Empty lists accept everything.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct When {
    /// Names of listeners.
    pub(super) listeners: Vec<String>,
    /// Hosts in lower case, exact or with a leading `*.`.
    pub(super) hosts: Vec<String>,
    /// The path.
    pub(super) path: PathTest,
    /// Methods.
    pub(super) methods: Vec<String>,
    /// Further tests, sorted.
    pub(super) tests: Vec<Test>,
}

impl Default for When {
    fn default() -> When {
        When {
            listeners: Vec::new(),
            hosts: Vec::new(),
            path: PathTest::Prefix("/".to_owned()),
            methods: Vec::new(),
            tests: Vec::new(),
        }
    }
}

/// What happens to requests that no earlier rule takes.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The place.
    pub(super) at: Origin,
    /// The conditions.
    pub(super) when: When,
    /// Keys of the route beside its conditions.
    pub(super) keys: Map,
}

/// A file to write beside the configuration, which names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Companion {
    /// Its name, without a folder.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
}

/// An imported configuration.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Keys at the top of the file.
    pub(super) top: Map,
    /// Listeners.
    pub(super) listeners: Vec<Block>,
    /// Services.
    pub(super) services: Vec<Block>,
    /// Clusters.
    pub(super) clusters: Vec<Block>,
    /// Groups of rules of http listeners. Within a group, the first rule that accepts a request determines what happens to
    /// it; between groups, the more specific host or the listener does.
    pub(super) groups: Vec<Vec<Rule>>,
    /// The routes in the order of the file, once the groups are settled.
    pub(super) rules: Vec<Rule>,
    /// Files beside the configuration.
    pub(super) companions: Vec<Companion>,
    /// Remarks.
    pub(super) notes: Vec<Note>,
}

/// Characters of a directive in a note.
const WHAT_MAX: usize = 80;
/// The maximum number of notes: those beyond it are not kept, so that no input makes the list grow without limit.
const NOTES_MAX: usize = 5_000;

impl Model {
    /// A name that no listener has: `base`, or `base` with a number.
    pub(super) fn unused_listener_name(&self, base: &str) -> String {
        let taken = |name: &str| self.listeners.iter().any(|block| block.name == name);
        let mut number = 2;
        let mut name = base.to_owned();
        while taken(&name) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }

    /// Whether a rule has this listener as a condition.
    pub(super) fn has_rule_of(&self, listener: &String) -> bool {
        self.groups.iter().flatten().any(|rule| rule.when.listeners.contains(listener))
    }

    /// Adds a note.
    pub(super) fn note(&mut self, verdict: Verdict, at: &Origin, what: &str, hint: &str) {
        let clean = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut what: String = clean.chars().filter(|c| !c.is_control()).take(WHAT_MAX).collect();
        if clean.chars().count() > WHAT_MAX {
            what.push_str("...");
        }
        let note = Note { verdict, at: at.clone(), what, hint: hint.to_owned() };
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Notes something that has no equivalent.
    pub(super) fn left_out(&mut self, at: &Origin, what: &str, hint: &str) {
        self.note(Verdict::LeftOut, at, what, hint);
    }

    /// Notes a difference.
    pub(super) fn differs(&mut self, at: &Origin, what: &str, hint: &str) {
        self.note(Verdict::Differs, at, what, hint);
    }

    /// Notes something that needs no equivalent.
    pub(super) fn unneeded(&mut self, at: &Origin, what: &str, hint: &str) {
        self.note(Verdict::Unneeded, at, what, hint);
    }
}

/// A valid name made of any text: letters, digits, `-`, `_` and `.`.
pub(super) fn name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().take(100) {
        let valid = c.is_ascii_alphanumeric() || "-_.".contains(c);
        if valid {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

/// The block with this name; if there is none, one is made.
pub(super) fn block<'a>(blocks: &'a mut Vec<Block>, name: &str, at: &Origin) -> &'a mut Block {
    let index = match blocks.iter().position(|block| block.name == name) {
        Some(index) => index,
        None => {
            let made = Block { name: name.to_owned(), at: at.clone(), keys: Map::default() };
            blocks.push(made);
            blocks.len() - 1
        }
    };
    &mut blocks[index]
}

/// Seconds as a duration: `90s`, `1500ms`.
pub(super) fn seconds(seconds: f64) -> Doc {
    let milliseconds = (seconds * 1000.0).round().clamp(0.0, 31_536_000_000.0);
    if milliseconds % 1000.0 == 0.0 {
        let seconds = milliseconds / 1000.0;
        let word = match seconds {
            s if s >= 3600.0 && s % 3600.0 == 0.0 => format!("{}h", s / 3600.0),
            s if s >= 120.0 && s % 60.0 == 0.0 => format!("{}m", s / 60.0),
            s => format!("{s}s"),
        };
        return Doc::Word(word);
    }
    Doc::Word(format!("{milliseconds}ms"))
}

/// Bytes as a size: `16KiB`, `10MiB`.
pub(super) fn size(bytes: u64) -> Doc {
    match bytes {
        b if b > 0 && b % (1 << 30) == 0 => Doc::word(format!("{}GiB", b >> 30)),
        b if b > 0 && b % (1 << 20) == 0 => Doc::word(format!("{}MiB", b >> 20)),
        b if b > 0 && b % (1 << 10) == 0 => Doc::word(format!("{}KiB", b >> 10)),
        b => Doc::word(b),
    }
}

/// Text in a value that may have `{variables}`: braces are doubled.
pub(super) fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// Whether a path is in the form in which Tidegate matches requests.
pub(super) fn is_canonical(path: &str) -> bool {
    use crate::http::target::Target;
    use crate::http::{EncodedSlash, Slashes};
    let mut target = Target::default();
    target.read(path.as_bytes(), EncodedSlash::Keep, Slashes::Keep).is_ok()
        && target.query().is_empty()
        && target.path() == path
}

/// An endpoint with its weight.
pub(super) fn endpoint(address: &str, weight: u16) -> Doc {
    match weight {
        0 | 1 => address.into(),
        weight => {
            let mut map = Map::default();
            map.set("address", address);
            map.set("weight", Doc::word(weight.min(1_000)));
            map.into()
        }
    }
}

/// The keys of a redirect; 302 is the default.
pub(super) fn redirect(keys: &mut Map, to: &str, status: u16) {
    keys.set("redirect.to", to);
    if status != 302 {
        keys.set("redirect.status", Doc::word(status));
    }
}

/// Whether a line has a password that is neither bcrypt nor argon2.
pub(super) fn is_old_hash(line: &str) -> bool {
    let line = line.trim();
    let hash = line.split_once(':').map(|(_, hash)| hash);
    !line.is_empty()
        && !line.starts_with('#')
        && !hash.is_some_and(|h| h.starts_with("$2") || h.starts_with("$argon2"))
}
