//! Cross-origin resource sharing: which pages of other origins may read responses in a browser.
//!
//! The CORS protocol of the Fetch standard (§3.3). A browser asks beforehand by a preflight (`OPTIONS` with `Origin` and
//! `Access-Control-Request-Method`), and reads a response only if its fields name the page's origin. The proxy answers
//! preflights itself and writes these fields; those of the cluster are removed, since a browser rejects two of them.
//!
//! # Invariants
//! * A response is for the origin that asked: with listed origins every response has `Vary: Origin`, so that no cache
//!   hands it to another.
//! * Credentials are never permitted for every origin: the configuration is rejected.

use std::time::Duration;

/// The names of the protocol's response fields.
pub const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// The requested fields that are repeated in an answer, in bytes, at most.
const REQUESTED_MAX: usize = 4096;

/// The rules of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Origins that may read.
    pub origins: Origins,
    /// Methods that they may use beside the safelisted ones, in upper case.
    pub methods: Vec<String>,
    /// Request fields that they may set beside the safelisted ones; `None` permits any.
    pub headers: Option<Vec<String>>,
    /// Response fields that they may read beside the safelisted ones.
    pub expose: Vec<String>,
    /// How long a browser may keep the answer to a preflight.
    pub max_age: Duration,
    /// Whether requests may carry cookies, client certificates and `Authorization`.
    pub credentials: bool,
}

/// The origins that may read.
#[derive(Clone, Debug, PartialEq)]
pub enum Origins {
    /// Every one.
    Any,
    /// These, in lower case: `scheme://host[:port]`, where the host may begin with `*.`, or `null`.
    Listed(Vec<String>),
}

impl Origins {
    /// Whether an origin, as a browser writes it, may read.
    #[must_use]
    pub fn permit(&self, origin: &[u8]) -> bool {
        let Origins::Listed(listed) = self else { return true };
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        let origin = origin.to_ascii_lowercase();
        listed.iter().any(|one| one_permits(one, &origin))
    }
}

fn one_permits(listed: &str, origin: &str) -> bool {
    let Some((scheme, suffix)) = listed.split_once("://*") else { return listed == origin };
    let host = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    // At least one label before the suffix, which begins with a dot.
    host.and_then(|host| host.strip_suffix(suffix)).is_some_and(|labels| {
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !labels.is_empty() && !labels.ends_with('.') && labels.chars().all(is_host)
    })
}

impl Cors {
    /// The lines that a response gets, each complete; `origin` is the request's `Origin`.
    #[must_use]
    pub fn lines(&self, origin: Option<&[u8]>) -> Vec<u8> {
        let mut lines = self.origin_lines(origin);
        if !lines.permitted {
            return lines.text;
        }
        push(&mut lines.text, "access-control-expose-headers", &self.expose.join(", "));
        lines.text
    }

    /// The lines of the answer to a preflight; `requested` is its `Access-Control-Request-Headers`.
    #[must_use]
    pub fn preflight_lines(&self, origin: &[u8], requested: Option<&[u8]>) -> Vec<u8> {
        let mut lines = self.origin_lines(Some(origin));
        if self.headers.is_none() {
            push(&mut lines.text, "vary", "Access-Control-Request-Headers");
        }
        if !lines.permitted {
            return lines.text;
        }
        push(&mut lines.text, "access-control-allow-methods", &self.methods.join(", "));
        let headers = match &self.headers {
            Some(listed) => listed.join(", "),
            None => repeated(requested.unwrap_or_default()),
        };
        push(&mut lines.text, "access-control-allow-headers", &headers);
        push(&mut lines.text, "access-control-max-age", &self.max_age.as_secs().to_string());
        lines.text
    }

    fn origin_lines(&self, origin: Option<&[u8]>) -> OriginLines {
        let permitted = origin.filter(|origin| self.origins.permit(origin));
        let mut text = Vec::new();
        match (&self.origins, permitted) {
            (Origins::Any, _) => push(&mut text, FIELDS[0], "*"),
            (Origins::Listed(_), Some(origin)) => {
                text.extend_from_slice(b"access-control-allow-origin: ");
                text.extend_from_slice(origin);
                text.extend_from_slice(b"\r\nvary: Origin\r\n");
            }
            (Origins::Listed(_), None) => push(&mut text, "vary", "Origin"),
        }
        if permitted.is_some() && self.credentials {
            push(&mut text, "access-control-allow-credentials", "true");
        }
        OriginLines { text, permitted: permitted.is_some() }
    }
}

struct OriginLines {
    text: Vec<u8>,
    permitted: bool,
}

/// A line, unless the value is empty.
fn push(lines: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        lines.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
}

/// The requested names, if they are a list of field names of bounded length.
fn repeated(requested: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(byte);
    match requested.len() <= REQUESTED_MAX && requested.iter().all(is_plain) {
        true => String::from_utf8_lossy(requested).trim().to_owned(),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(origins: &[&str]) -> Cors {
        Cors {
            origins: Origins::Listed(origins.iter().map(|origin| (*origin).to_owned()).collect()),
            methods: vec!["GET".to_owned(), "PUT".to_owned()],
            headers: Some(vec!["content-type".to_owned()]),
            expose: vec!["x-total".to_owned()],
            max_age: Duration::from_secs(600),
            credentials: true,
        }
    }

    #[test]
    fn origins_are_compared_whole_and_a_wildcard_stands_for_labels() {
        let origins =
            listed(&["https://shop.example", "https://*.shop.example:8443", "null"]).origins;
        for (origin, permitted) in [
            ("https://shop.example", true),
            ("HTTPS://Shop.Example", true),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://shop.example.evil.example", false),
            ("https://evilshop.example", false),
            ("https://a.shop.example:8443", true),
            ("https://a.b.shop.example:8443", true),
            ("https://.shop.example:8443", false),
            ("https://evil.example/.shop.example:8443", false),
            ("https://evil.example#a.shop.example:8443", false),
            ("https://u@a.shop.example:8443", false),
            ("null", true),
            ("", false),
        ] {
            assert_eq!(origins.permit(origin.as_bytes()), permitted, "{origin}");
        }
        assert!(!origins.permit(b"https://\xff.shop.example:8443"));
    }

    #[test]
    fn a_permitted_origin_is_named_and_every_response_varies() {
        let cors = listed(&["https://shop.example"]);
        let text = |lines: Vec<u8>| String::from_utf8(lines).unwrap();
        assert_eq!(
            text(cors.lines(Some(b"https://shop.example"))),
            "access-control-allow-origin: https://shop.example\r\nvary: Origin\r\n\
             access-control-allow-credentials: true\r\naccess-control-expose-headers: x-total\r\n"
        );
        assert_eq!(text(cors.lines(Some(b"https://evil.example"))), "vary: Origin\r\n");
        assert_eq!(text(cors.lines(None)), "vary: Origin\r\n");
        let any = Cors { origins: Origins::Any, credentials: false, expose: Vec::new(), ..cors };
        assert_eq!(text(any.lines(None)), "access-control-allow-origin: *\r\n");
    }

    #[test]
    fn a_preflight_is_told_methods_fields_and_age_only_if_its_origin_is_permitted() {
        let cors = listed(&["https://shop.example"]);
        let text = |cors: &Cors, origin: &str, requested: &[u8]| {
            String::from_utf8(cors.preflight_lines(origin.as_bytes(), Some(requested))).unwrap()
        };
        assert_eq!(
            text(&cors, "https://shop.example", b"x-a"),
            "access-control-allow-origin: https://shop.example\r\nvary: Origin\r\n\
             access-control-allow-credentials: true\r\naccess-control-allow-methods: GET, PUT\r\n\
             access-control-allow-headers: content-type\r\naccess-control-max-age: 600\r\n"
        );
        assert_eq!(text(&cors, "https://evil.example", b"x-a"), "vary: Origin\r\n");
        let any = Cors { headers: None, ..cors };
        let repeated = text(&any, "https://shop.example", b"x-a, x-b");
        assert!(repeated.contains("access-control-allow-headers: x-a, x-b\r\n"), "{repeated}");
        assert!(repeated.contains("vary: Access-Control-Request-Headers\r\n"), "{repeated}");
        let broken = text(&any, "https://shop.example", b"x-a\x00");
        assert!(!broken.contains("allow-headers:"), "{broken}");
    }
}
