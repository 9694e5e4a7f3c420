//! The target of a rewritten request.

use super::failure::Failure;
use crate::decision::rewrite::Rewrite;
use crate::http::request::RequestHead;
use crate::http::target::Target;
use crate::http::{EncodedSlash, Slashes};
use crate::refusal::Refusal;
use crate::shared::violation;

/// Bytes of a rewritten target, at most.
const TARGET_MAX: usize = 64 * 1024;

/// Path and query for the cluster. `None` if they do not change.
///
/// A replacement may join parts of the path to a form that is not canonical, so its result is read again like a
/// client's target. A prefix is added after that: no dot segment can leave it.
///
/// # Errors
/// A refusal, if the result is too long or is not a valid target.
pub(super) fn target(
    rewrite: Option<&Rewrite>,
    head: &RequestHead,
) -> Result<Option<String>, Failure> {
    let original = head.target();
    let Some(rewrite) = rewrite.filter(|rewrite| rewrite.changes_paths()) else {
        return Ok(None);
    };
    if !original.path().starts_with('/') {
        // `OPTIONS *`
        return Ok(None);
    }
    let path = rewrite.stripped(original.path());
    let mut again = Target::default();
    let (path, query) = match rewrite.replaced(&path) {
        None => (&*path, original.query()),
        Some(replaced) => {
            let text = with_query(replaced, original.query());
            let read = again.read(text.as_bytes(), EncodedSlash::Keep, Slashes::Keep);
            read.map_err(|violation| Failure::refuse(violation::refusal(violation)))?;
            (again.path(), again.query())
        }
    };
    let prefix = rewrite.add_prefix.as_deref().unwrap_or_default();
    let target = [prefix, path, query].concat();
    match target.len() > TARGET_MAX {
        true => Err(Failure::refuse(Refusal::UriTooLong)),
        false => Ok(Some(target)),
    }
}

/// Adds the request's query to a path that may have a query of its own.
fn with_query(mut path: String, query: &str) -> String {
    match query.strip_prefix('?') {
        Some(parameters) if path.contains('?') => {
            path.push('&');
            path.push_str(parameters);
        }
        Some(_) | None => path.push_str(query),
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Limits;
    use regex::Regex;

    fn rewritten(rewrite: &Rewrite, sent: &str) -> Result<Option<String>, u16> {
        let mut head = RequestHead::default();
        let text = format!("GET {sent} HTTP/1.1\r\nHost: a\r\n\r\n");
        head.read(text.as_bytes(), &Limits::default()).unwrap();
        let result = target(Some(rewrite), &head);
        result.map_err(|failure| failure.refusal().unwrap().status())
    }

    fn replace(pattern: &str, replacement: &str) -> Rewrite {
        let replace = Some((Regex::new(pattern).unwrap(), replacement.to_owned()));
        Rewrite { replace, ..Rewrite::default() }
    }

    #[test]
    fn a_rewritten_target_is_a_valid_one() {
        let dots = replace("^/(.)x(.)$", "/a/$1$2/b");
        for (rewrite, sent, expected) in [
            (replace("^/a", "/b"), "/a/c?d=e", Ok(Some("/b/c?d=e"))),
            (replace("^/([0-9]+)$", "/item?id=$1"), "/7?x=y", Ok(Some("/item?id=7&x=y"))),
            (replace("^/([0-9]+)$", "/item?id=$1"), "/7", Ok(Some("/item?id=7"))),
            (dots.clone(), "/.x.", Ok(Some("/b"))),
            (dots, "/;x.", Ok(Some("/a/;./b"))),
            (replace("x", "/../.."), "/x", Ok(Some("/"))),
            (replace("x", "%2e%2e"), "/a/x", Ok(Some("/"))),
            (replace("x", "..;a"), "/./x", Err(400)),
            (replace("x", "%00"), "/x", Err(400)),
            (replace("x", "%zz"), "/x", Err(400)),
        ] {
            let expected = expected.map(|text: Option<&str>| text.map(str::to_owned));
            assert_eq!(rewritten(&rewrite, sent), expected, "{rewrite:?} {sent}");
        }
    }

    #[test]
    fn slashes_that_the_listener_keeps_are_kept_and_the_asterisk_is_no_path() {
        let limits = Limits {
            slashes: Slashes::Keep,
            encoded_slash: EncodedSlash::Keep,
            ..Limits::default()
        };
        let rewrite = Rewrite { add_prefix: Some("/tenant".to_owned()), ..replace("^/a", "/b") };
        for (line, expected) in [
            ("GET /a//c%2Fd", Some("/tenant/b//c%2Fd")),
            ("GET /a%2F..//c", Some("/tenant/b%2F..//c")),
            ("OPTIONS *", None),
        ] {
            let mut head = RequestHead::default();
            head.read(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &limits).unwrap();
            let rewritten = target(Some(&rewrite), &head).ok().flatten();
            assert_eq!(rewritten.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn no_dot_segment_leaves_the_added_prefix() {
        let inside = Rewrite {
            strip_prefix: Some("/s".to_owned()),
            add_prefix: Some("/tenant".to_owned()),
            ..replace("x", "..")
        };
        for (sent, expected) in [
            ("/s/a", "/tenant/a"),
            ("/s", "/tenant/"),
            ("/s/x/x/etc", "/tenant/x/etc"),
            ("/s/x?y", "/tenant/?y"),
        ] {
            assert_eq!(rewritten(&inside, sent), Ok(Some(expected.to_owned())), "{sent}");
        }
    }

    #[test]
    fn a_target_does_not_grow_without_limit() {
        let long = replace("^(.*)$", &"$1".repeat(16));
        assert_eq!(rewritten(&long, &format!("/{}", "a".repeat(6000))), Err(414));
    }
}
