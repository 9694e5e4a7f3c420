//! The files of the dashboard, embedded in the binary.
//!
//! The page contains no data of this proxy: all data come from the API, which requires the token. Therefore the
//! page itself needs no token, and a browser can open it.

use super::Backend;
use super::{api, guard};
use crate::decision::units::hash;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The content security policy of the page: no external resources, no inline scripts or styles, no frames.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file: its path below `/dashboard/`, its content type and its content.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal $kind:ident,)*) => {
        &[$(Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("assets/", $path)) },)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const FONT: &str = "font/woff2";
const TEXT: &str = "text/plain; charset=utf-8";

const ASSETS: &[Asset] = assets![
    "index.html" HTML,
    "style.css" STYLE,
    "icon.svg" PICTURE,
    "fonts/plex-sans-latin.woff2" FONT,
    "fonts/OFL.txt" TEXT,
    "js/app.js" SCRIPT,
    "js/actions.js" SCRIPT,
    "js/api.js" SCRIPT,
    "js/chart.js" SCRIPT,
    "js/map.js" SCRIPT,
    "js/operations.js" SCRIPT,
    "js/site-acts.js" SCRIPT,
    "js/table.js" SCRIPT,
    "js/ui.js" SCRIPT,
    "js/views.js" SCRIPT,
    "js/views-config.js" SCRIPT,
    "js/views-past.js" SCRIPT,
    "js/views-site.js" SCRIPT,
    "js/views-why.js" SCRIPT,
    "js/world.js" SCRIPT,
    "vendor/htm.js" SCRIPT,
    "vendor/htm.LICENSE.txt" TEXT,
    "vendor/preact.js" SCRIPT,
    "vendor/preact.LICENSE.txt" TEXT,
    "vendor/uplot.css" STYLE,
    "vendor/uplot.js" SCRIPT,
    "vendor/uplot.LICENSE.txt" TEXT,
];

/// `GET /`: the page for a browser, the list of paths for a program.
pub(super) async fn root(
    State(backend): State<Arc<Backend>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if prefers_html(headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("")) {
        return file("index.html", &headers);
    }
    match guard::judge(&backend, &method, "/", &headers) {
        Ok(()) => api::index().await.into_response(),
        Err(refused) => guard::answer(&backend, refused),
    }
}

/// A file of the dashboard.
pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(&path, &headers)
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let tag = format!("\"{:016x}\"", hash(asset.bytes));
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or("");
    let fields = [
        (CONTENT_TYPE.as_str(), asset.kind),
        (CACHE_CONTROL.as_str(), "no-cache"),
        (ETAG.as_str(), &tag),
        ("vary", "accept"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", POLICY),
    ];
    match known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag) {
        true => (StatusCode::NOT_MODIFIED, fields).into_response(),
        false => (fields, asset.bytes).into_response(),
    }
}

/// Whether `Accept` lists HTML and prefers it to plain text.
fn prefers_html(accept: &str) -> bool {
    let quality = |wanted: &str| {
        let entries = accept.split(',').filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
            let given = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
            is_it.then_some(given.unwrap_or(1.0))
        });
        entries.fold(0.0, f64::max)
    };
    let html = quality("text/html");
    html > 0.0 && html >= quality("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_the_page_and_a_program_the_list() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html", true),
            ("*/*", false),
            ("", false),
            ("application/json", false),
            ("text/plain, text/html;q=0.5", false),
            ("text/html;q=0", false),
        ] {
            assert_eq!(prefers_html(accept), html, "{accept}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_binary() {
        let root =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/dashboard/assets");
        let (mut folders, mut found) = (vec![root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(&root).unwrap().display().to_string()),
                }
            }
        }
        found.sort();
        let mut known: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        known.sort_unstable();
        assert_eq!(found, known);
    }
}
