//! From YAML text to a tree with positions.
//!
//! granit-parser gives events with positions; this module builds the tree and refuses YAML features that a
//! configuration should not use: anchors, aliases, tags, several documents, deep nesting. Without aliases no
//! expansion attack is possible.

use super::error::Position;
use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, options};

/// Levels of nesting, at most.
const DEPTH_MAX: usize = 64;

/// A value with its position.
#[derive(Clone, Debug)]
pub struct Node {
    /// The start of the value.
    pub at: Position,
    /// The value.
    pub kind: Kind,
}

/// The kind of a value.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Empty, `~` or `null`.
    Null,
    /// A scalar; `plain` if it was not quoted.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it was written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in order; keys are scalars, and each key occurs once.
    Map(Vec<(Node, Node)>),
}

/// An error in the YAML text.
#[derive(Debug)]
pub struct SyntaxError {
    /// The position.
    pub at: Position,
    /// The message.
    pub message: String,
    /// The action for the operator.
    pub hint: Option<String>,
}

impl Node {
    /// Whether the value is empty.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The same tree with its positions mapped.
    #[must_use]
    pub fn relocated(self, map: &impl Fn(Position) -> Position) -> Node {
        let kind = match self.kind {
            Kind::List(items) => Kind::List(items.into_iter().map(|n| n.relocated(map)).collect()),
            Kind::Map(entries) => Kind::Map(
                entries.into_iter().map(|(k, v)| (k.relocated(map), v.relocated(map))).collect(),
            ),
            kind @ (Kind::Null | Kind::Scalar { .. }) => kind,
        };
        Node { at: map(self.at), kind }
    }
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(Node, Node)>, key: Option<Node>, seen: std::collections::BTreeSet<String> },
}

/// Parses one document; empty text is `Null`.
///
/// # Errors
/// A [`SyntaxError`] for each duplicate key, and for the first syntax error or forbidden feature. The tree is
/// returned unless there was a syntax error or forbidden feature; of duplicate keys it contains the first.
pub fn parse(text: &str) -> (Option<Node>, Vec<SyntaxError>) {
    let mut builder = Builder::default();
    match build(text, &mut builder) {
        Ok(()) => {
            let root = builder.root.unwrap_or(Node { at: Position::START, kind: Kind::Null });
            (Some(root), builder.duplicates)
        }
        Err(wrong) => {
            builder.duplicates.push(wrong);
            (None, builder.duplicates)
        }
    }
}

fn build(text: &str, builder: &mut Builder) -> Result<(), SyntaxError> {
    let parser = Parser::new_from_str_with_options(
        text,
        options! {
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
            disallow_directives: true,
            emit_anchor_events: true,
            emit_unresolved_aliases: true,
        },
    );
    for item in parser {
        match item {
            Ok((event, span)) => builder.event(event, span.start)?,
            Err(error) if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) => {
                return fail(*error.marker(), TOO_DEEP);
            }
            Err(error) => {
                return Err(with_hint(*error.marker(), &error.info(), text));
            }
        }
    }
    Ok(())
}

const TOO_DEEP: &str = "nested more than 64 levels deep";

/// A hint for mistakes that the parser's own messages do not explain.
fn with_hint(at: Marker, message: &str, text: &str) -> SyntaxError {
    let at = position(at);
    let line = text.lines().nth(at.line - 1).unwrap_or_default();
    let hint = if has_bare_ipv6(line) {
        Some("quote an IPv6 address: \"[::]:80\"".to_owned())
    } else if line.contains('\t') || text.lines().nth(at.line).is_some_and(|l| l.starts_with('\t'))
    {
        Some("indent with spaces, not tabs".to_owned())
    } else if line.contains(": *") || line.contains("[*") || line.contains("- *") {
        Some("quote a value that begins with `*`".to_owned())
    } else {
        None
    };
    SyntaxError { at, message: message.to_owned(), hint }
}

/// `[2001:db8::1]` reads as a list unless it is quoted.
fn has_bare_ipv6(line: &str) -> bool {
    line.split('[').skip(1).any(|after| {
        let inside = after.split(']').next().unwrap_or_default();
        let address = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        inside.matches(':').count() >= 2 && inside.chars().all(address)
    })
}

fn fail<T>(at: Marker, message: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError { at: position(at), message: message.into(), hint: None })
}

fn position(at: Marker) -> Position {
    Position { line: at.line().max(1), column: at.col() + 1, ..Position::START }
}

#[derive(Default)]
struct Builder {
    stack: Vec<(Position, Open)>,
    root: Option<Node>,
    documents: usize,
    duplicates: Vec<SyntaxError>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Marker) -> Result<(), SyntaxError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fail(
                        at,
                        "the file has a second YAML document; a configuration is one document",
                    );
                }
                Ok(())
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => Err(SyntaxError {
                at: position(at),
                message: "aliases (`*name`) are not supported".to_owned(),
                hint: Some("quote a value that begins with `*`: \"*.example.com\"".to_owned()),
            }),
            Event::Anchor(..) => {
                fail(at, "anchors (`&name`) are not supported; quote a value that begins with `&`")
            }
            Event::Scalar(text, style, _, tag) => {
                no_tag(tag.is_some(), at)?;
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let scalar = || Kind::Scalar { text: text.into_owned(), plain };
                let kind = if null { Kind::Null } else { scalar() };
                self.add(Node { at: position(at), kind })
            }
            Event::SequenceStart(_, _, tag) => {
                no_tag(tag.is_some(), at)?;
                self.open(at, Open::List(Vec::new()))
            }
            Event::MappingStart(_, _, tag) => {
                no_tag(tag.is_some(), at)?;
                let seen = std::collections::BTreeSet::new();
                self.open(at, Open::Map { entries: Vec::new(), key: None, seen })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: Marker, open: Open) -> Result<(), SyntaxError> {
        if self.stack.len() >= DEPTH_MAX {
            return fail(at, TOO_DEEP);
        }
        self.stack.push((position(at), open));
        Ok(())
    }

    fn close(&mut self, at: Marker) -> Result<(), SyntaxError> {
        let node = match self.stack.pop() {
            Some((at, Open::List(items))) => Node { at, kind: Kind::List(items) },
            Some((at, Open::Map { entries, .. })) => Node { at, kind: Kind::Map(entries) },
            None => return fail(at, "an unbalanced end"),
        };
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<(), SyntaxError> {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some((_, Open::List(items))) => items.push(node),
            Some((_, Open::Map { entries, key, seen })) => match key.take() {
                Some(known) => {
                    // The first of duplicate keys is read, so that its problems are reported too.
                    match known.text().is_some_and(|text| seen.insert(text.to_owned())) {
                        true => entries.push((known, node)),
                        false => self.duplicates.push(duplicate(&known)),
                    }
                }
                None => {
                    check_key(&node)?;
                    *key = Some(node);
                }
            },
        }
        Ok(())
    }
}

fn duplicate(key: &Node) -> SyntaxError {
    let message = format!("duplicate key `{}`", key.text().unwrap_or_default());
    SyntaxError { at: key.at, message, hint: None }
}

fn check_key(node: &Node) -> Result<(), SyntaxError> {
    let wrong = |message: String, hint: Option<&str>| {
        Err(SyntaxError { at: node.at, message, hint: hint.map(str::to_owned) })
    };
    match &node.kind {
        Kind::Scalar { text, plain: true } if text == "<<" => {
            wrong("merge keys (`<<`) are not supported".to_owned(), None)
        }
        Kind::Scalar { .. } => Ok(()),
        Kind::Null | Kind::List(_) | Kind::Map(_) => wrong(
            "a key must be a scalar, not a list or a map".to_owned(),
            Some("quote a value that begins with `{` or `[`"),
        ),
    }
}

fn no_tag(tagged: bool, at: Marker) -> Result<(), SyntaxError> {
    if tagged {
        fail(at, "tags (`!name`) are not supported; quote a value that begins with `!`")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_positions() {
        let node = parse("a:\n  b: [x, \"y\"]\n").0.unwrap();
        let Kind::Map(top) = node.kind else { panic!("a map") };
        let Kind::Map(inner) = &top[0].1.kind else { panic!("a map") };
        let Kind::List(items) = &inner[0].1.kind else { panic!("a list") };
        assert_eq!(items[1].at, Position { file: 0, line: 2, column: 10 });
        assert!(matches!(&items[1].kind, Kind::Scalar { text, plain: false } if text == "y"));
    }

    #[test]
    fn refusals_have_a_position_and_a_hint() {
        for (text, line, column, hint) in [
            ("a: 1\na: 2", 2, 1, ""),
            ("key: *.example.com", 1, 6, "quote"),
            ("addr: [::]:80", 1, 11, "quote an IPv6"),
            ("a: &x 1", 1, 4, ""),
            ("a: !!str 1", 1, 10, ""),
            ("a: 1\n---\nb: 2", 2, 1, ""),
            ("a: \"open", 1, 4, ""),
            ("a:\n\tb: 1", 2, 2, "spaces"),
        ] {
            let wrong = parse(text).1.pop().unwrap();
            assert_eq!((wrong.at.line, wrong.at.column), (line, column), "{text}: {wrong:?}");
            assert!(wrong.hint.unwrap_or_default().contains(hint), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).0.is_none());
        assert!(parse("").0.unwrap().is_null());
    }

    #[test]
    fn every_duplicate_key_is_reported_and_the_first_is_used() {
        let (node, wrong) = parse("a: 1\nb: {c: 1, c: 2}\na: [x]\n");
        let places: Vec<_> = wrong.iter().map(|wrong| (wrong.at.line, wrong.at.column)).collect();
        assert_eq!(places, [(2, 11), (3, 1)]);
        let Kind::Map(top) = node.unwrap().kind else { panic!("a map") };
        assert_eq!((top.len(), top[0].1.text()), (2, Some("1")));
    }
}
