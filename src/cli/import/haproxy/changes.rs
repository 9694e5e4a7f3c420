//! `http-request` and `http-response` lines that change header fields or the path.

use super::super::document::{Doc, Map};
use super::super::model::Verdict;
use super::super::pattern::{anchored, whole};
use super::Translation;
use super::format::template;
use super::parse::Line;

/// A change of the keys of a route.
pub(super) type Change = Box<dyn Fn(&mut Map)>;

/// Fields that Tidegate sends by itself.
const BUILT_IN: &[&str] = &[
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "x-forwarded-port",
];

/// A line that changes requests or responses.
pub(super) fn change(translation: &mut Translation<'_>, line: &Line) -> Option<Change> {
    let (name, value) = (line.word(2).to_ascii_lowercase(), line.word(3));
    let side = if line.word(0) == "http-request" { "request_headers" } else { "response_headers" };
    let mut note =
        |verdict, hint: &str| translation.model.note(verdict, &line.at, &line.shown(), hint);
    let forwarded = side == "request_headers" && BUILT_IN.contains(&name.as_str());
    match line.word(1) {
        "set-header" | "add-header" if forwarded => {
            note(Verdict::Unneeded, "Tidegate sends X-Forwarded-* and X-Request-Id by itself");
            None
        }
        "set-header" if side == "request_headers" && name == "host" => match template(value) {
            Ok(host) if !host.contains('{') => {
                Some(Box::new(move |keys| keys.set("rewrite.host", host.clone())))
            }
            Ok(_) | Err(_) => {
                note(Verdict::LeftOut, "use `rewrite.host` with a fixed name");
                None
            }
        },
        way @ ("set-header" | "add-header") => match template(value) {
            Ok(value) => {
                let way = if way == "set-header" { "set" } else { "add" };
                let path = format!("{side}.{way}");
                Some(Box::new(move |keys| keys.put(&path, &name, value.clone())))
            }
            Err(part) => {
                note(Verdict::LeftOut, &format!("`{side}` have no variable for `{part}`"));
                None
            }
        },
        "del-header" => {
            let path = format!("{side}.remove");
            Some(Box::new(move |keys| keys.push(&path, name.as_str())))
        }
        "set-path" | "replace-path" | "set-uri" | "replace-uri" => path_change(translation, line),
        "track-sc0" | "track-sc1" | "track-sc2" => {
            note(Verdict::Unneeded, "the buckets of `rate_limit` are by client address");
            None
        }
        "capture" | "set-log-level" | "set-nice" => {
            note(Verdict::Unneeded, "the access log has fixed fields");
            None
        }
        "allow" => {
            note(Verdict::LeftOut, "write a route for these requests in front");
            None
        }
        "disable-l7-retry" => Some(Box::new(|keys| keys.set("retry.retries", Doc::word(0)))),
        _ => {
            note(
                Verdict::LeftOut,
                "it has no equivalent; see `match`, `rewrite`, `request_headers` and `response_headers`",
            );
            None
        }
    }
}

fn path_change(translation: &mut Translation<'_>, line: &Line) -> Option<Change> {
    let (pattern, to) = match (line.word(1), line.word(2), line.word(3)) {
        ("set-path", value, _) => match regsub(value) {
            Some(parts) => parts,
            None => match value
                .strip_suffix("%[path]")
                .filter(|prefix| prefix.starts_with('/') && !prefix.contains('%'))
            {
                Some(prefix) => {
                    let prefix = prefix.trim_end_matches('/').to_owned();
                    return Some(Box::new(move |keys| {
                        keys.set("rewrite.add_prefix", prefix.clone())
                    }));
                }
                None => (String::new(), String::new()),
            },
        },
        (_, pattern, to) => (pattern.to_owned(), to.to_owned()),
    };
    let to = to.replace('\\', "$");
    let stripped = pattern
        .strip_prefix('^')
        .and_then(|p| {
            p.strip_suffix("/(.*)").or(p.strip_suffix("/(.*)$")).or(p.strip_suffix("(/)?(.*)"))
        })
        .filter(|prefix| {
            prefix.starts_with('/')
                && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "/-_".contains(c))
        });
    if let (Some(prefix), "/$1" | "/$2") = (stripped, to.as_str()) {
        let prefix = prefix.to_owned();
        return Some(Box::new(move |keys| keys.set("rewrite.strip_prefix", prefix.clone())));
    }
    // `replace-path` replaces the whole path, `regsub` what matches.
    let replaces_all = line.word(1).starts_with("replace");
    match whole(&pattern, false) {
        Ok(all) if !pattern.is_empty() && !to.contains('%') => {
            let search = if replaces_all { anchored(&all) } else { pattern };
            Some(Box::new(move |keys| {
                keys.set("rewrite.path_regex.match", search.as_str());
                keys.set("rewrite.path_regex.replace", to.as_str());
            }))
        }
        Ok(_) | Err(_) => {
            let hint =
                "`rewrite` has strip_prefix, add_prefix and path_regex with a fixed replacement";
            translation.model.left_out(&line.at, &line.shown(), hint);
            None
        }
    }
}

/// `%[path,regsub(PATTERN,TO)]`.
fn regsub(value: &str) -> Option<(String, String)> {
    let inner = value.strip_prefix("%[path,regsub(")?.strip_suffix(")]")?;
    let (pattern, to) = inner.split_once(',')?;
    let to = to.split(',').next()?;
    Some((pattern.trim_matches(['"', '\'']).to_owned(), to.trim_matches(['"', '\'']).to_owned()))
}
