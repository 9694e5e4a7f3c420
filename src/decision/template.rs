//! Text with variables: `{client_ip}` in a header value, a redirect or an error page.
//!
//! A template is parsed once, when the plan is built. `{{` is a literal brace. A brace that does not begin a variable is
//! literal, too, so that JSON and CSS need no escapes.
//!
//! # Invariants
//! No value of a variable can end a field or the text around it: [`Escape`] decides how a value is written, and no
//! escape writes a control character.

use std::fmt::Write;

/// A part of a request that a template can name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Variable {
    /// The client's address, as access rules see it.
    ClientIp,
    /// `http` or `https`.
    Scheme,
    /// The request's host, in lower case, without port.
    Host,
    /// The request's canonical path.
    Path,
    /// The query without its question mark.
    Query,
    /// Path and query.
    Uri,
    /// The request's id.
    RequestId,
    /// The listener's name.
    Listener,
    /// The route's name.
    Route,
    /// The service's name.
    Service,
    /// The cluster's name.
    Cluster,
    /// This proxy's site.
    Site,
    /// The server name of the client's TLS handshake.
    Sni,
    /// The subject of the client's verified certificate.
    ClientCertSubject,
    /// The SHA-256 of the client's verified certificate, in hexadecimal digits.
    ClientCertFingerprint,
    /// The word that says why the proxy refused the request.
    Reason,
    /// The status of the response.
    Status,
    /// The first value of a request field; the name is in lower case.
    Header(String),
}

/// All variables without an argument, by name.
const NAMES: &[(&str, Variable)] = &[
    ("client_ip", Variable::ClientIp),
    ("scheme", Variable::Scheme),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("uri", Variable::Uri),
    ("request_id", Variable::RequestId),
    ("listener", Variable::Listener),
    ("route", Variable::Route),
    ("service", Variable::Service),
    ("cluster", Variable::Cluster),
    ("site", Variable::Site),
    ("sni", Variable::Sni),
    ("client_cert_subject", Variable::ClientCertSubject),
    ("client_cert_fingerprint", Variable::ClientCertFingerprint),
    ("reason", Variable::Reason),
    ("status", Variable::Status),
];

/// The text that a template is for, which decides the variables that it may name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// The value of a header field.
    Field,
    /// The `Location` of a redirect. No service and no cluster is chosen for a redirect.
    Location,
    /// An error page.
    Page,
}

impl Purpose {
    fn permits(self, variable: &Variable) -> bool {
        match (self, variable) {
            (Purpose::Page, _) => true,
            (Purpose::Field | Purpose::Location, Variable::Reason | Variable::Status) => false,
            (Purpose::Location, Variable::Service | Variable::Cluster) => false,
            (Purpose::Field | Purpose::Location, _) => true,
        }
    }

    /// A template of the program itself, all of whose variables exist.
    #[must_use]
    pub fn parsed(self, text: &str) -> Template {
        Template::parse(text, self).unwrap_or_default()
    }

    /// The names that a template of this purpose may use, as they are written.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let known = NAMES.iter().filter(|(_, variable)| self.permits(variable));
        known.map(|(name, _)| *name).chain(["header:NAME"]).collect()
    }
}

/// How the value of a variable is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Escape {
    /// As part of a field value, or of plain text: control characters become spaces.
    Text,
    /// As part of a URI reference: all bytes that a URI may not have are percent-encoded (RFC 3986 §2).
    Uri,
    /// As text in HTML.
    Html,
    /// As part of a JSON string (RFC 8259 §7).
    Json,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// Text with variables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// The word between braces that is not a variable of this purpose.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Template, String> {
        let mut template = Template::default();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            template.push_text(before);
            let inside = &from[1..];
            if let Some(after) = inside.strip_prefix('{') {
                template.push_text("{");
                rest = after;
            } else if let Some((word, after)) = word(inside) {
                let variable = variable(word).filter(|variable| purpose.permits(variable));
                template.parts.push(Part::Variable(variable.ok_or_else(|| word.to_owned())?));
                rest = after;
            } else {
                template.push_text("{");
                rest = inside;
            }
        }
        template.push_text(rest);
        Ok(template)
    }

    fn push_text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(before)) => before.push_str(text),
            Some(Part::Variable(_)) | None => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// The text, if no part of it depends on the request.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether the template names this variable.
    #[must_use]
    pub fn has(&self, variable: &Variable) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Variable(own) if own == variable))
    }

    /// Whether the text begins with the value of a variable.
    #[must_use]
    pub fn begins_with_variable(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Variable(_)))
    }

    /// Writes the text to `out`; `value` writes the value of a variable. With an empty `{query}`, the `?` or `&`
    /// before it is left out.
    pub fn render(
        &self,
        out: &mut Vec<u8>,
        escape: Escape,
        mut value: impl FnMut(&Variable, &mut Vec<u8>),
    ) {
        let begin = out.len();
        let mut raw = Vec::new();
        for part in &self.parts {
            let variable = match part {
                Part::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Variable(variable) => variable,
            };
            raw.clear();
            value(variable, &mut raw);
            let joined = out.len() > begin && matches!(out.last(), Some(b'?' | b'&'));
            if *variable == Variable::Query && raw.is_empty() && joined {
                out.pop();
            }
            escape.push(out, &raw);
        }
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{")),
            Part::Variable(Variable::Header(name)) => write!(f, "{{header:{name}}}"),
            Part::Variable(variable) => {
                let name = NAMES.iter().find(|(_, known)| known == variable);
                write!(f, "{{{}}}", name.map_or("", |(name, _)| name))
            }
        })
    }
}

/// The word at the start of `inside`, up to its closing brace, and the rest. `None` if no variable begins here.
fn word(inside: &str) -> Option<(&str, &str)> {
    let (word, after) = inside.split_once('}')?;
    let name = match word.split_once(':') {
        None => word,
        // `{margin:0}` is CSS.
        Some(("header", name)) => return is_field_name(name).then_some((word, after)),
        Some(_) => return None,
    };
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_word =
        name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    is_word.then_some((word, after))
}

fn is_field_name(name: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(token)
}

fn variable(word: &str) -> Option<Variable> {
    if let Some(name) = word.strip_prefix("header:") {
        return Some(Variable::Header(name.to_ascii_lowercase()));
    }
    NAMES.iter().find(|(name, _)| *name == word).map(|(_, variable)| variable.clone())
}

impl Escape {
    fn push(self, out: &mut Vec<u8>, raw: &[u8]) {
        match self {
            Escape::Text => {
                out.extend(raw.iter().map(|byte| if is_control(*byte) { b' ' } else { *byte }));
            }
            Escape::Uri => raw.iter().for_each(|byte| push_uri(out, *byte)),
            Escape::Html => push_escaped(out, raw, |c| match c {
                '&' => Some("&amp;".to_owned()),
                '<' => Some("&lt;".to_owned()),
                '>' => Some("&gt;".to_owned()),
                '"' => Some("&quot;".to_owned()),
                '\'' => Some("&#39;".to_owned()),
                c if c.is_control() => Some(" ".to_owned()),
                _ => None,
            }),
            Escape::Json => push_escaped(out, raw, |c| match c {
                '"' => Some("\\\"".to_owned()),
                '\\' => Some("\\\\".to_owned()),
                // Also the characters that would end a script in an HTML page.
                c if c.is_control() || "<>&\u{2028}\u{2029}".contains(c) => {
                    let mut text = String::new();
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\u{:04x}", u32::from(c));
                    Some(text)
                }
                _ => None,
            }),
        }
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn push_uri(out: &mut Vec<u8>, byte: u8) {
    let is_plain = byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    match is_plain {
        true => out.push(byte),
        false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
    }
}

/// Writes text character by character; bytes that are not UTF-8 become U+FFFD.
fn push_escaped(out: &mut Vec<u8>, raw: &[u8], escaped: impl Fn(char) -> Option<String>) {
    for c in String::from_utf8_lossy(raw).chars() {
        match escaped(c) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, escape: Escape, value: &[u8]) -> String {
        let template = Template::parse(text, Purpose::Page).unwrap();
        let mut out = b">".to_vec();
        template.render(&mut out, escape, |variable, out| match variable {
            Variable::Query => {}
            _ => out.extend_from_slice(value),
        });
        String::from_utf8(out[1..].to_vec()).unwrap()
    }

    #[test]
    fn only_variables_are_replaced() {
        for (text, expected) in [
            ("", ""),
            ("a{host}b{header:X-A}", "aVbV"),
            ("{{host}", "{host}"),
            ("{{{host}}", "{V}"),
            ("{\"reason\": \"{reason}\"}", "{\"reason\": \"V\"}"),
            ("a { color: red } b{margin:0} c{}", "a { color: red } b{margin:0} c{}"),
            ("{host", "{host"),
            ("{Host} {header:} {header:a b}", "{Host} {header:} {header:a b}"),
        ] {
            assert_eq!(rendered(text, Escape::Text, b"V"), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_variable_is_named() {
        for (text, purpose, word) in [
            ("a{hots}", Purpose::Page, "hots"),
            ("{reason}", Purpose::Field, "reason"),
            ("{status}", Purpose::Location, "status"),
            ("{host}{cluster}", Purpose::Location, "cluster"),
        ] {
            assert_eq!(Template::parse(text, purpose), Err(word.to_owned()), "{text}");
        }
        assert!(Purpose::Field.names().contains(&"cluster"));
        assert!(!Purpose::Field.names().contains(&"reason"));
    }

    #[test]
    fn a_constant_needs_no_request() {
        for (text, constant) in
            [("", Some("")), ("a", Some("a")), ("{{a", Some("{a")), ("{host}", None)]
        {
            let template = Template::parse(text, Purpose::Field).unwrap();
            assert_eq!(template.constant(), constant, "{text}");
            assert_eq!(template.to_string(), text.replace("{{", "{").replace("{a", "{{a"));
        }
    }

    #[test]
    fn no_value_can_leave_its_place() {
        let value = b"a\r\nb\0\x7f<&>\"'\\ \xff";
        for (escape, expected) in [
            (Escape::Uri, "a%0D%0Ab%00%7F%3C&%3E%22'%5C%20%FF"),
            (Escape::Html, "a  b  &lt;&amp;&gt;&quot;&#39;\\ \u{fffd}"),
            (Escape::Json, "a\\u000d\\u000ab\\u0000\\u007f\\u003c\\u0026\\u003e\\\"'\\\\ \u{fffd}"),
        ] {
            assert_eq!(rendered("{host}", escape, value), expected, "{escape:?}");
        }
        assert_eq!(rendered("{host}", Escape::Text, b"a\r\nb\0\x7f\tc"), "a  b   c");
    }

    #[test]
    fn an_empty_query_has_no_question_mark() {
        for (text, expected) in [
            ("/a?{query}", "/a"),
            ("/a?b=1&{query}", "/a?b=1"),
            ("/a{query}", "/a"),
            ("{query}", ""),
        ] {
            assert_eq!(rendered(text, Escape::Uri, b""), expected, "{text}");
        }
    }
}
