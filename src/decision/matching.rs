//! Conditions of a route beside host, path, method and listener: header fields, query parameters, the client's address
//! and the scheme.
//!
//! # Invariants
//! A regular expression is matched in linear time, against a whole value. Its size is bounded when the plan is built.

use regex::bytes::Regex;
use std::borrow::Cow;
use std::net::IpAddr;

/// The parts of a request that conditions look at. Each is read only when a route has such a condition.
pub trait RequestFacts {
    /// Whether a field of this (lower-case) name has a value that passes the test.
    fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool;
    /// The query, as received, with or without its question mark.
    fn query(&self) -> &str;
    /// The client's address, as access rules see it.
    fn client(&self) -> Option<IpAddr>;
    /// Whether the client's request came over TLS.
    fn is_https(&self) -> bool;
}

/// A request without fields, query and client.
#[derive(Clone, Copy, Debug, Default)]
pub struct BareRequest {
    /// Whether it came over TLS.
    pub is_https: bool,
}

impl RequestFacts for BareRequest {
    fn has_field(&self, _: &str, _: &dyn Fn(&[u8]) -> bool) -> bool {
        false
    }

    fn query(&self) -> &str {
        ""
    }

    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn is_https(&self) -> bool {
        self.is_https
    }
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum ValueTest {
    /// This value.
    Equals(String),
    /// A value that the pattern matches as a whole.
    Pattern(Regex),
    /// Any value, or no value at all.
    Present(bool),
}

impl ValueTest {
    /// `any` tells whether a value passes a test.
    fn holds(&self, any: impl Fn(&dyn Fn(&[u8]) -> bool) -> bool) -> bool {
        match self {
            ValueTest::Equals(wanted) => any(&|value| value == wanted.as_bytes()),
            ValueTest::Pattern(pattern) => any(&|value| pattern.is_match(value)),
            ValueTest::Present(wanted) => any(&|_| true) == *wanted,
        }
    }
}

/// A list of conditions.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// By field; names in lower case. One of several values is enough.
    pub headers: Vec<(String, ValueTest)>,
    /// By query parameter, decoded. One of several values is enough.
    pub query: Vec<(String, ValueTest)>,
    /// The client is in one of these networks; empty is no condition.
    pub client: Vec<ipnet::IpNet>,
}

impl Conditions {
    /// Each condition in turn: whether it holds.
    fn results<'a>(&'a self, request: &'a dyn RequestFacts) -> impl Iterator<Item = bool> + 'a {
        let headers = self
            .headers
            .iter()
            .map(move |(name, test)| test.holds(|passes| request.has_field(name, passes)));
        let query = self.query.iter().map(move |(name, test)| {
            test.holds(|passes| has_parameter(request.query(), name, passes))
        });
        let client = (!self.client.is_empty()).then_some(());
        let client = client.into_iter().map(move |()| {
            let address = request.client().map(|address| address.to_canonical());
            address.is_some_and(|own| self.client.iter().any(|network| network.contains(&own)))
        });
        headers.chain(query).chain(client)
    }

    /// The number of conditions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.headers.len() + self.query.len() + usize::from(!self.client.is_empty())
    }
}

/// All further conditions of a route.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// All of these hold.
    pub all: Conditions,
    /// None of these holds.
    pub none: Conditions,
    /// The request did not come over TLS.
    pub only_plain: bool,
}

impl Matcher {
    /// Whether a request meets the conditions.
    #[must_use]
    pub fn matches(&self, request: &dyn RequestFacts) -> bool {
        !(self.only_plain && request.is_https())
            && self.all.results(request).all(|holds| holds)
            && !self.none.results(request).any(|holds| holds)
    }

    /// The number of conditions: of two routes, the one with more conditions is more specific.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.count() + self.none.count() + usize::from(self.only_plain)
    }
}

/// Whether the query has a parameter of this name with a value that passes the test.
fn has_parameter(query: &str, name: &str, passes: &dyn Fn(&[u8]) -> bool) -> bool {
    let query = query.strip_prefix('?').unwrap_or(query);
    query.split('&').filter(|pair| !pair.is_empty()).any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        *decoded(key) == *name.as_bytes() && passes(&decoded(value))
    })
}

/// A name or value of a query as clusters read it: `+` is a space, `%41` is `A`. An invalid escape stays as it is.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let (decoded, used) = match (byte, after) {
            (b'+', _) => (b' ', 0),
            (b'%', [high, low, ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 2),
                _ => (b'%', 0),
            },
            (other, _) => (other, 0),
        };
        out.push(decoded);
        rest = &after[used..];
    }
    Cow::Owned(out)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Asked {
        fields: Vec<(&'static str, &'static [u8])>,
        query: &'static str,
        client: Option<IpAddr>,
        is_https: bool,
    }

    impl RequestFacts for Asked {
        fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
            self.fields.iter().any(|(known, value)| *known == name && test(value))
        }
        fn query(&self) -> &str {
            self.query
        }
        fn client(&self) -> Option<IpAddr> {
            self.client
        }
        fn is_https(&self) -> bool {
            self.is_https
        }
    }

    fn asked() -> Asked {
        Asked {
            fields: vec![("x-a", b"1"), ("x-a", b"2"), ("x-raw", b"\xff")],
            query: "?a=%31&b=two+words&flag&bad=%zz&c=%",
            client: "::ffff:10.1.2.3".parse().ok(),
            is_https: true,
        }
    }

    fn equals(text: &str) -> ValueTest {
        ValueTest::Equals(text.to_owned())
    }

    fn pattern(text: &str) -> ValueTest {
        ValueTest::Pattern(Regex::new(&format!("^(?:{text})$")).unwrap())
    }

    fn headers(name: &str, test: ValueTest) -> Conditions {
        Conditions { headers: vec![(name.to_owned(), test)], ..Conditions::default() }
    }

    fn query(name: &str, test: ValueTest) -> Conditions {
        Conditions { query: vec![(name.to_owned(), test)], ..Conditions::default() }
    }

    fn client(network: &str) -> Conditions {
        Conditions { client: vec![network.parse().unwrap()], ..Conditions::default() }
    }

    #[test]
    fn a_condition_and_its_negation_never_agree() {
        for (conditions, holds) in [
            (headers("x-a", equals("2")), true),
            (headers("x-a", equals("3")), false),
            (headers("x-a", pattern("[12]")), true),
            (headers("x-a", pattern("")), false),
            (headers("x-raw", pattern("(?-u:.)")), true),
            (headers("x-a", ValueTest::Present(true)), true),
            (headers("x-b", ValueTest::Present(true)), false),
            (headers("x-b", ValueTest::Present(false)), true),
            (query("a", equals("1")), true),
            (query("a", equals("%31")), false),
            (query("b", equals("two words")), true),
            (query("flag", equals("")), true),
            (query("fla", ValueTest::Present(true)), false),
            (query("bad", equals("%zz")), true),
            (query("c", equals("%")), true),
            (client("10.0.0.0/8"), true),
            (client("11.0.0.0/8"), false),
        ] {
            let all = Matcher { all: conditions.clone(), ..Matcher::default() };
            let none = Matcher { none: conditions.clone(), ..Matcher::default() };
            assert_eq!(all.matches(&asked()), holds, "{conditions:?}");
            assert_eq!(none.matches(&asked()), !holds, "not {conditions:?}");
        }
    }

    #[test]
    fn all_conditions_must_hold_and_none_of_the_negated_ones() {
        let both = Conditions {
            headers: vec![("x-a".to_owned(), equals("1"))],
            query: vec![("a".to_owned(), equals("2"))],
            client: Vec::new(),
        };
        assert!(!Matcher { all: both.clone(), ..Matcher::default() }.matches(&asked()));
        assert!(!Matcher { none: both.clone(), ..Matcher::default() }.matches(&asked()));
        assert!(!Matcher { only_plain: true, ..Matcher::default() }.matches(&asked()));
        let matcher = Matcher { all: both, none: client("10.0.0.0/8"), only_plain: true };
        assert_eq!(matcher.count(), 4);
    }
}
