//! Error pages: the statuses of the responses that Tidegate generates itself, and whether a file can be an error page.

use super::document::Map;
use super::files::Files;
use crate::decision::pages::{BYTES_MAX, kind};
use crate::decision::refusal::Refusal;
use crate::decision::template::{Purpose, Template};
use std::path::Path;

/// The statuses of Tidegate's own refusals in a range, in order.
pub(super) fn own_statuses(from: u16, to: u16) -> Vec<u16> {
    let all = Refusal::ALL.iter().map(|refusal| refusal.status());
    let mut found: Vec<u16> =
        all.filter(|status| (400..600).contains(status) && (from..=to).contains(status)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a file can be a page.
///
/// # Errors
/// The reason, as a hint.
pub(super) fn usable(files: &dyn Files, path: &str) -> Result<(), String> {
    if kind(path).is_none() {
        return Err(format!(
            "`{path}` has no suffix that decides the content type: .html, .htm, .json or .txt"
        ));
    }
    let text = files
        .read(Path::new(path))
        .map_err(|_| format!("the page `{path}` cannot be read: set `error_pages` to a file"))?;
    if text.len() > BYTES_MAX {
        return Err(format!("the page `{path}` is larger than 64 KiB"));
    }
    Template::parse(&text, Purpose::Page).map(drop).map_err(|word| {
        format!("the page `{path}` has `{{{word}}}`, which is no variable: write `{{{{{word}}}`")
    })
}

/// Sets the page of some statuses.
pub(super) fn set(keys: &mut Map, statuses: &[u16], path: &str) {
    for status in statuses {
        keys.put("error_pages", &status.to_string(), path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::table;
    use super::*;

    #[test]
    fn the_statuses_of_a_range_are_those_that_tidegate_answers() {
        assert_eq!(own_statuses(404, 404), [404]);
        let errors = own_statuses(500, 599);
        assert!(errors.contains(&503) && !errors.contains(&500), "{errors:?}");
        assert!(own_statuses(300, 399).is_empty());
    }

    #[test]
    fn a_page_that_check_would_refuse_is_not_used() {
        let large = "x".repeat(BYTES_MAX + 1);
        let files = table(&[
            ("a.html", "<p>{reason} a { b: c }</p>"),
            ("a.png", ""),
            ("b.html", "{word}"),
            ("large.txt", &large),
        ]);
        assert_eq!(usable(&files, "a.html"), Ok(()));
        for (path, part) in [
            ("a.png", "suffix"),
            ("b.html", "`{word}`, which is no variable: write `{{word}`"),
            ("large.txt", "64 KiB"),
            ("none.html", "cannot be read"),
        ] {
            let why = usable(&files, path).unwrap_err();
            assert!(why.contains(part), "{path}: {why}");
        }
    }
}
