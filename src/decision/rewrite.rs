//! Rewrites of a request's path and host for the cluster.
//!
//! # Invariants
//! Routes and policies see the original path: a rewrite changes only what the cluster gets.

use regex::Regex;
use std::borrow::Cow;

/// The rewrites of a route, in order: strip, replace, add.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// A prefix of whole segments to remove, without a slash at its end.
    pub strip_prefix: Option<String>,
    /// A pattern, and the replacement of its first match; `$1` or `${name}` in it is a group.
    pub replace: Option<(Regex, String)>,
    /// A prefix to add, in canonical form, without a slash at its end.
    pub add_prefix: Option<String>,
    /// `Host` for the cluster.
    pub host: Option<String>,
}

impl Rewrite {
    /// Whether the path may change.
    #[must_use]
    pub fn changes_paths(&self) -> bool {
        self.strip_prefix.is_some() || self.replace.is_some() || self.add_prefix.is_some()
    }

    /// The path without the prefix, if it has the prefix.
    #[must_use]
    pub fn stripped<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let rest = self.strip_prefix.as_deref().and_then(|prefix| path.strip_prefix(prefix));
        match rest {
            Some("") => Cow::Borrowed("/"),
            Some(rest) if rest.starts_with('/') => Cow::Borrowed(rest),
            Some(_) | None => Cow::Borrowed(path),
        }
    }

    /// The path with the first match of the pattern replaced; `None` if the pattern does not match. The result may
    /// have a query, and need not be canonical.
    #[must_use]
    pub fn replaced(&self, path: &str) -> Option<String> {
        let (pattern, replacement) = self.replace.as_ref()?;
        match pattern.replace(path, replacement.as_str()) {
            Cow::Borrowed(_) => None,
            Cow::Owned(replaced) if replaced.starts_with('/') => Some(replaced),
            Cow::Owned(replaced) => Some(format!("/{replaced}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_stripped_by_whole_segments() {
        let rewrite = Rewrite { strip_prefix: Some("/shop".to_owned()), ..Rewrite::default() };
        for (path, expected) in [
            ("/shop", "/"),
            ("/shop/", "/"),
            ("/shop/a", "/a"),
            ("/shopping", "/shopping"),
            ("/a/shop", "/a/shop"),
        ] {
            assert_eq!(rewrite.stripped(path), expected);
        }
        assert_eq!(Rewrite::default().stripped("/a"), "/a");
    }

    #[test]
    fn the_first_match_is_replaced() {
        let rewrite = |pattern: &str, replacement: &str| Rewrite {
            replace: Some((Regex::new(pattern).unwrap(), replacement.to_owned())),
            ..Rewrite::default()
        };
        for (pattern, replacement, path, expected) in [
            ("^/v[0-9]+/(.*)$", "/api/$1", "/v2/users", Some("/api/users")),
            ("^/v[0-9]+/(.*)$", "/api/$1", "/w2/users", None),
            ("/(?P<id>[0-9]+)$", "/item?id=${id}", "/7", Some("/item?id=7")),
            ("a", "b", "/a/a", Some("/b/a")),
            ("^/a", "", "/ab", Some("/b")),
        ] {
            assert_eq!(
                rewrite(pattern, replacement).replaced(path).as_deref(),
                expected,
                "{pattern}"
            );
        }
    }
}
