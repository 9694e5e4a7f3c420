//! The middleware `errors` as `error_pages`.
//!
//! Traefik asks a service for the page, and replaces answers of the application, too. Tidegate sends a file, and
//! replaces its own answers alone. The importer does not ask the service: it names the files that lie beside the imported
//! file, and lists the others.

use super::super::document::Map;
use super::super::pages::{own_statuses, set, usable};
use super::Translation;
use super::tree::Tree;
use std::path::{Component, Path};

/// Sets the pages of the middleware.
pub(super) fn errors(
    translation: &mut Translation<'_>,
    what: &str,
    options: &Tree,
    keys: &mut Map,
) {
    for (key, tree) in options.entries("") {
        if !["status", "service", "query"].iter().any(|known| key.eq_ignore_ascii_case(known)) {
            let hint = "a page has the status of the answer that it replaces";
            translation.model.left_out(&tree.at, &format!("{what}.{key}"), hint);
        }
    }
    let query = options.text("query").unwrap_or("/{status}.html");
    let mut is_any = false;
    for written in options.texts("status") {
        let shown = format!("{what}: {written}");
        let Some((from, to)) = range(&written) else {
            translation.model.left_out(&options.at, &shown, "it is neither a status nor a range");
            continue;
        };
        let statuses = own_statuses(from, to);
        if statuses.is_empty() {
            let hint = "Tidegate never answers these statuses itself, and those of a cluster pass unchanged: let the application send the page";
            translation.model.left_out(&options.at, &shown, hint);
            continue;
        }
        let class = match (from, to) {
            (400, 499) => Some("4xx"),
            (500, 599) => Some("5xx"),
            _ => None,
        };
        if let (Some(class), false) = (class, query.contains("{status}"))
            && let Ok(file) = file_of(translation, query)
        {
            keys.put("error_pages", class, file);
            is_any = true;
            continue;
        }
        let mut missing = Vec::new();
        for status in statuses {
            let path = query.replace("{status}", &status.to_string());
            match file_of(translation, &path) {
                Ok(file) => {
                    set(keys, &[status], &file);
                    is_any = true;
                }
                Err(why) => missing.push((status, why)),
            }
        }
        lacking(translation, options, &shown, &missing);
    }
    if is_any {
        let hint = "the pages are files, and replace Tidegate's own answers alone: an error of a cluster passes unchanged";
        translation.model.differs(&options.at, what, hint);
    }
}

/// Notes the statuses without a page.
fn lacking(
    translation: &mut Translation<'_>,
    options: &Tree,
    shown: &str,
    missing: &[(u16, String)],
) {
    let Some((_, why)) = missing.first() else { return };
    let statuses: Vec<String> = missing.iter().map(|(status, _)| status.to_string()).collect();
    let service = options.text("service").unwrap_or_default();
    let hint = format!(
        "no page for {}: {why}; `error_pages` names files: save those of the service `{service}` beside the imported file, and import again",
        statuses.join(", ")
    );
    translation.model.left_out(&options.at, shown, &hint);
}

/// `503`, or `500-599`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to).then_some((from, to))
}

/// The file that has the page of a path: below the folder of the imported file, or in it.
///
/// # Errors
/// Why there is none.
fn file_of(translation: &Translation<'_>, path: &str) -> Result<String, String> {
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let is_plain = !path.contains(['{', '}'])
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let Some(name) = Path::new(path).file_name().filter(|_| is_plain) else {
        return Err(format!("`/{path}` is no name of a file"));
    };
    let (below, beside) = (translation.folder.join(path), translation.folder.join(name));
    let (below, beside) = (below.display().to_string(), beside.display().to_string());
    match usable(translation.files, &below) {
        Ok(()) => Ok(below),
        Err(_) => usable(translation.files, &beside).map(|()| beside),
    }
}
