//! nginx's values: times, sizes, variables, addresses, regular expressions.

use super::super::model::literal;
use super::parse::Directive;

/// Levels of variables that refer to variables.
const DEPTH_MAX: usize = 8;

/// The blocks around a directive, the outermost first. Inner directives replace outer ones.
#[derive(Clone, Debug)]
pub(super) struct Scope<'a> {
    pub(super) levels: Vec<&'a [Directive]>,
    /// The first name of the server.
    pub(super) server_name: String,
    /// Whether all listeners of the server use TLS, if they agree.
    pub(super) tls: Option<bool>,
    /// Variables of maps, with their values in this case.
    pub(super) values: Vec<(String, String)>,
}

impl<'a> Scope<'a> {
    /// The scope of a block inside this one.
    pub(super) fn inside(&self, block: &'a [Directive]) -> Scope<'a> {
        let mut scope = self.clone();
        scope.levels.push(block);
        scope
    }

    /// The scope in which a variable has a value.
    pub(super) fn with(&self, variable: &str, value: &str) -> Scope<'a> {
        let mut scope = self.clone();
        scope.values.push((variable.to_owned(), value.to_owned()));
        scope
    }

    /// The value that a variable has in this case.
    pub(super) fn bound(&self, variable: &str) -> Option<&str> {
        let found = self.values.iter().find(|(known, _)| known == variable);
        found.map(|(_, value)| value.as_str())
    }

    /// The innermost directive of a name.
    pub(super) fn last(&self, name: &str) -> Option<&'a Directive> {
        self.levels.iter().rev().find_map(|level| level.iter().rev().find(|d| d.name == name))
    }

    /// All directives of a name at the innermost level that has one.
    pub(super) fn all(&self, name: &str) -> Vec<&'a Directive> {
        let of = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level.iter().filter(|directive| directive.name == name).collect()
        };
        self.levels.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The value of a time such as `30s` in seconds.
    pub(super) fn seconds(&self, name: &str) -> Option<(f64, &'a Directive)> {
        let directive = self.last(name)?;
        Some((time(directive.word(0))?, directive))
    }

    /// A value with `set` variables replaced by their values.
    pub(super) fn expanded(&self, text: &str) -> String {
        let mut text = text.replace("${", "$\u{1}").replace('}', "\u{2}");
        for _ in 0..DEPTH_MAX {
            let Some((start, end, name)) = self.first_set(&text) else { break };
            let value = self.set(&name).unwrap_or_default();
            text.replace_range(start..end, &value);
            if text.len() > 16 * 1024 {
                break;
            }
        }
        text.replace("$\u{1}", "${").replace('\u{2}', "}")
    }

    fn set(&self, name: &str) -> Option<String> {
        let marked = |text: &str| text.replace("${", "$\u{1}").replace('}', "\u{2}");
        if let Some(value) = self.bound(name) {
            return Some(marked(value));
        }
        let is = |directive: &&Directive| {
            directive.name == "set" && directive.word(0).strip_prefix('$') == Some(name)
        };
        let found = self.levels.iter().rev().find_map(|level| level.iter().rev().find(is))?;
        Some(marked(found.word(1)))
    }

    fn first_set(&self, text: &str) -> Option<(usize, usize, String)> {
        variables(text).into_iter().find(|(_, _, name)| self.set(name).is_some())
    }

    /// A value as Tidegate writes it, with `{variables}`; the name of the first variable without equivalent as error.
    pub(super) fn template(&self, text: &str) -> Result<String, String> {
        let text = self.expanded(text).replace("${", "$\u{1}").replace('}', "\u{2}");
        let mut out = String::new();
        let mut done = 0;
        for (start, end, name) in variables(&text) {
            out.push_str(&literal(&text[done..start].replace('\u{2}', "}")));
            out.push_str(&self.variable(&name).ok_or(name)?);
            done = end;
        }
        out.push_str(&literal(&text[done..].replace('\u{2}', "}")));
        Ok(out)
    }

    fn variable(&self, name: &str) -> Option<String> {
        let known = match name {
            "host" | "http_host" => "{host}",
            "remote_addr" | "realip_remote_addr" => "{client_ip}",
            "scheme" => match self.tls {
                Some(true) => "https",
                Some(false) => "http",
                None => "{scheme}",
            },
            "request_uri" => "{uri}",
            "uri" | "document_uri" => "{path}",
            "args" | "query_string" => "{query}",
            "is_args" => "?",
            "request_id" => "{request_id}",
            "ssl_server_name" => "{sni}",
            "ssl_client_s_dn" => "{client_cert_subject}",
            "ssl_client_fingerprint" => "{client_cert_fingerprint}",
            "status" => "{status}",
            "server_name" => return Some(self.server_name.clone()),
            name => {
                let field = name.strip_prefix("http_")?;
                return Some(format!("{{header:{}}}", field.replace('_', "-")));
            }
        };
        Some(known.to_owned())
    }
}

/// The names of the variables of a text.
pub(super) fn names_in(text: &str) -> Vec<String> {
    let text = text.replace("${", "$\u{1}").replace('}', "\u{2}");
    variables(&text).into_iter().map(|(_, _, name)| name).collect()
}

/// The variables of a text: start, end and name. `${name}` is written with \u{1} and \u{2} for the braces.
fn variables(text: &str) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices('$') {
        let rest = &text[start + 1..];
        let braced = rest.strip_prefix('\u{1}');
        let body = braced.unwrap_or(rest);
        let end =
            body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(body.len());
        if end == 0 {
            continue;
        }
        let length = 1 + end + if braced.is_some() { 2 } else { 0 };
        let end_at = (start + length).min(text.len());
        if text.is_char_boundary(end_at) {
            found.push((start, end_at, body[..end].to_owned()));
        }
    }
    found
}

/// A time such as `30`, `30s`, `1m`, `1h30m` in seconds.
pub(super) fn time(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "M" => 2_592_000.0,
            "y" => 31_536_000.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    (!text.is_empty() && total < 31_622_400.0).then_some(total)
}

/// A size such as `1m` in bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let shift = match text[digits..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}
