//! Redirects and rewrites of routes.

use super::compiler::Compiler;
use super::file::rewrite::{PathReplacement, Redirect, Rewrite as Written};
use super::routes::canonical_path;
use super::shape::Spanned;
use crate::decision::rewrite::Rewrite;
use crate::decision::route::Action;
use crate::decision::template::Purpose;
use crate::http::target;
use regex::Regex;

/// Bytes of a replacement, and references to groups in it, at most: they bound the length of a rewritten path.
const REPLACEMENT_MAX: usize = 2048;
const REFERENCES_MAX: usize = 16;
/// Permanent, and the method stays (RFC 9110 §15.4.9).
const TO_HTTPS: u16 = 308;

impl Compiler<'_> {
    /// Compiles a redirect.
    pub(super) fn redirect(&mut self, written: &Redirect, path: &str) -> Option<Action> {
        let path = format!("{path}.redirect");
        let written = match written {
            Redirect::Https => {
                let to = Purpose::Location.parsed("https://{host}{uri}");
                return Some(Action::Redirect { to, status: TO_HTTPS });
            }
            Redirect::To(written) => written,
        };
        let status = written.status.map_or(302, |status| status.0);
        if !matches!(status, 301 | 302 | 303 | 307 | 308)
            || written.to.chars().any(char::is_control)
        {
            let message = "`status` must be 301, 302, 303, 307 or 308, and `to` must have no control characters";
            self.problems.error(written.at, path, message);
            return None;
        }
        let status = u16::try_from(status).unwrap_or(302);
        let to = self.template(written.at, &path, &written.to, Purpose::Location);
        Some(Action::Redirect { to, status })
    }

    /// Compiles the rewrites of a route. `None` if there are none.
    pub(super) fn rewrite(
        &mut self,
        written: Option<&Written>,
        action: Option<&Action>,
        path: &str,
    ) -> Option<Box<Rewrite>> {
        let written = written?;
        let path = format!("{path}.rewrite");
        if matches!(action, Some(Action::Redirect { .. } | Action::Respond { .. })) {
            let message = "a route with `redirect` or `respond` forwards nothing, so there is nothing to rewrite";
            self.problems.error(written.at, &path, message);
        }
        let strip = written.strip_prefix.as_ref();
        if let Some(prefix) = strip.filter(|prefix| !prefix.value.starts_with('/')) {
            let message = format!("`{}` must begin with `/`", prefix.value);
            self.problems.error(prefix.at, format!("{path}.strip_prefix"), message);
        }
        if let Some(prefix) = &written.add_prefix
            && canonical_path(&prefix.value).as_ref() != Some(&prefix.value)
        {
            let message = format!("`{}` is not a path in canonical form", prefix.value);
            let hint = "it must begin with `/`, without query, `//` and dot segments";
            let path = format!("{path}.add_prefix");
            self.problems.error_with_hint(prefix.at, path, message, hint);
        }
        if let Some(host) = &written.host
            && target::authority(host.value.as_bytes()).is_err()
        {
            let message = format!("`{}` is not a host", host.value.escape_debug());
            let path = format!("{path}.host");
            self.problems.error_with_hint(host.at, path, message, "NAME or NAME:PORT");
        }
        let bare = |prefix: &Spanned<String>| prefix.value.trim_end_matches('/').to_owned();
        let given = |prefix: &String| !prefix.is_empty();
        Some(Box::new(Rewrite {
            strip_prefix: strip.map(bare).filter(given),
            replace: written.path_regex.as_ref().and_then(|one| self.replacement(one, &path)),
            add_prefix: written.add_prefix.as_ref().map(bare).filter(given),
            host: written.host.as_ref().map(|host| host.value.clone()),
        }))
    }

    fn replacement(&mut self, written: &PathReplacement, path: &str) -> Option<(Regex, String)> {
        let path = format!("{path}.path_regex");
        let pattern = self.pattern(&written.r#match, &format!("{path}.match"))?;
        let replace = &written.replace;
        let path = format!("{path}.replace");
        let is_plain = |c: char| c.is_ascii_graphic() && c != '#' && c != '\\';
        if replace.value.len() > REPLACEMENT_MAX || !replace.value.chars().all(is_plain) {
            let message = format!(
                "must be at most {REPLACEMENT_MAX} visible ASCII characters, without `#` and `\\`"
            );
            self.problems.error_with_hint(replace.at, path, message, "a group is `$1`, not `\\1`");
            return None;
        }
        let groups = groups(&replace.value);
        if groups.len() > REFERENCES_MAX {
            let message = format!("has more than {REFERENCES_MAX} references to groups");
            self.problems.error(replace.at, path, message);
            return None;
        }
        for group in groups {
            let known = match group.parse::<usize>() {
                Ok(number) => number < pattern.captures_len(),
                Err(_) => pattern.capture_names().flatten().any(|name| name == group),
            };
            if !known {
                let message = format!("the pattern has no group `{group}`");
                let hint = "`$1a` is the group `1a`: write `$${1}a` for group 1 before an `a`";
                self.problems.error_with_hint(replace.at, &path, message, hint);
            }
        }
        Some((pattern, replace.value.clone()))
    }
}

/// The groups that a replacement names, as the library reads them: `$name`, `${name}`; `$$` is a dollar sign.
fn groups(text: &str) -> Vec<&str> {
    let mut groups = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            groups.push(name);
            rest = after;
        } else {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            groups.extend(Some(&rest[..end]).filter(|name| !name.is_empty()));
            rest = &rest[end..];
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_are_those_that_the_library_expands() {
        for (text, expected) in [
            ("/a", &[][..]),
            ("/$1/${name}/$$2/$", &["1", "name"][..]),
            ("$1a-${1}a", &["1a", "1"][..]),
        ] {
            assert_eq!(groups(text), expected);
        }
        let pattern = regex::Regex::new("(b)").unwrap();
        assert_eq!(pattern.replace("abc", "${1}x$$$1"), "abx$bc");
    }
}
