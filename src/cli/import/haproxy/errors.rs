//! `errorfile`, `errorfiles` with `http-errors`, and `http-error` as `error_pages`.
//!
//! A file of HAProxy is a whole response; an error page of Tidegate is the body, and its suffix decides the content type.
//! Both replace only the responses that the proxy generates itself.

use super::super::companions::{NO_FOLDER, page};
use super::super::document::Map;
use super::super::files::beside;
use super::super::pages::{own_statuses, set};
use super::parse::{Line, Section};
use super::{Translation, last};
use crate::decision::pages::BYTES_MAX;
use std::path::Path;

/// Fields of a response that Tidegate sets itself, or that have no meaning for its own answers.
const USUAL: &[&str] =
    &["content-type", "content-length", "connection", "cache-control", "date", "server"];

/// Sets the pages of a frontend at its listener.
pub(super) fn of_frontend(translation: &mut Translation<'_>, section: &Section, keys: &mut Map) {
    pages(translation, section.lines.iter(), keys);
}

/// Sets the pages of a backend at its service, but those that all frontends have.
pub(super) fn of_backend(translation: &mut Translation<'_>, section: &Section, keys: &mut Map) {
    let sections = translation.sections;
    let is_everywhere = |line: &Line| {
        let mut frontends =
            sections.iter().filter(|s| matches!(s.kind.as_str(), "frontend" | "listen"));
        frontends.all(|frontend| {
            let has_others = ["errorfiles", "http-error"];
            let last = last(frontend, &["errorfile", line.word(1)]);
            last.is_some_and(|last| last.at == line.at)
                && !frontend.lines.iter().any(|line| has_others.contains(&line.word(0)))
        })
    };
    let own = |line: &&Line| line.word(0) != "errorfile" || !is_everywhere(line);
    pages(translation, section.lines.iter().filter(own), keys);
}

fn pages<'a>(
    translation: &mut Translation<'_>,
    lines: impl Iterator<Item = &'a Line>,
    keys: &mut Map,
) {
    for line in lines {
        match line.word(0) {
            "errorfile" => of_file(translation, line, line.word(1), line.word(2), keys),
            "errorfiles" => of_group(translation, line, keys),
            "http-error" => of_text(translation, line, keys),
            _ => {}
        }
    }
}

/// The files of a section `http-errors`: those with the listed statuses, or all.
fn of_group(translation: &mut Translation<'_>, line: &Line, keys: &mut Map) {
    let sections = translation.sections;
    let is_it = |section: &&Section| section.kind == "http-errors" && section.name == line.word(1);
    let Some(group) = sections.iter().find(is_it) else {
        let hint = "there is no section `http-errors` of this name";
        return translation.model.left_out(&line.at, &line.shown(), hint);
    };
    let listed = line.words.get(2..).unwrap_or_default();
    for file in group.lines.iter().filter(|file| file.word(0) == "errorfile") {
        if listed.is_empty() || listed.iter().any(|status| status == file.word(1)) {
            of_file(translation, file, file.word(1), file.word(2), keys);
        }
    }
}

/// A file with a whole response.
fn of_file(
    translation: &mut Translation<'_>,
    line: &Line,
    status: &str,
    file: &str,
    keys: &mut Map,
) {
    let Some(status) = own_status(translation, line, status) else { return };
    let path = beside(&translation.folder, file);
    let response = translation.files.read(Path::new(&path));
    let body = match response.as_deref().map(response_of) {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(why)) => Err(format!("`{path}` {why}")),
        Err(why) => Err(format!("`{path}` cannot be read ({why})")),
    };
    let stem = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let body = body.and_then(|response| match response.status == status {
        true => Ok(response),
        false => Err(format!(
            "`{path}` answers {}: an answer keeps its status, {status}",
            response.status
        )),
    });
    match body {
        Ok(response) => {
            if !response.fields.is_empty() {
                let hint = format!(
                    "the page is the body; set these fields with `response_headers`: {}",
                    response.fields.join(", ")
                );
                translation.model.differs(&line.at, &line.shown(), &hint);
            }
            put(translation, line, status, &stem, &response.kind, &response.body, keys);
        }
        Err(hint) => translation.model.left_out(&line.at, &line.shown(), &hint),
    }
}

/// `http-error status 503 content-type text/html file FILE`, or with `string`.
fn of_text(translation: &mut Translation<'_>, line: &Line, keys: &mut Map) {
    if let Some(file) = line.after("errorfile") {
        return of_file(translation, line, line.after("status").unwrap_or_default(), file, keys);
    }
    let Some(status) = own_status(translation, line, line.after("status").unwrap_or_default())
    else {
        return;
    };
    let file = line.after("file").map(|file| beside(&translation.folder, file));
    let body = match (line.after("string"), &file) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(path)) => {
            let text = translation.files.read(Path::new(path));
            text.map_err(|why| format!("`{path}` cannot be read ({why})"))
        }
        (None, None) => Err("`error_pages` names a file for a status".to_owned()),
    };
    if line.has("hdr") {
        let hint = "the page is the body; set the fields with `response_headers`";
        translation.model.differs(&line.at, &line.shown(), hint);
    }
    let stem = format!("error-{status}");
    match body {
        Ok(body) => {
            let kind = line.after("content-type").unwrap_or("text/plain");
            put(translation, line, status, &stem, kind, &body, keys);
        }
        Err(hint) => translation.model.left_out(&line.at, &line.shown(), &hint),
    }
}

/// A status that Tidegate answers itself.
fn own_status(translation: &mut Translation<'_>, line: &Line, text: &str) -> Option<u16> {
    let Ok(status) = text.parse::<u16>() else {
        translation.model.left_out(&line.at, &line.shown(), "it has no status");
        return None;
    };
    if own_statuses(status, status).is_empty() {
        let why = "Tidegate itself never answers with this status";
        translation.model.unneeded(&line.at, &line.shown(), why);
        return None;
    }
    Some(status)
}

/// Writes a page beside the configuration, and names it.
fn put(
    translation: &mut Translation<'_>,
    line: &Line,
    status: u16,
    stem: &str,
    kind: &str,
    body: &str,
    keys: &mut Map,
) {
    let suffix = match kind.split(';').next().unwrap_or_default().trim() {
        "text/html" => Ok("html"),
        "application/json" => Ok("json"),
        "text/plain" => Ok("txt"),
        other => Err(format!("a page is text/html, application/json or text/plain, not `{other}`")),
    };
    let name = match suffix {
        Ok(_) if body.len() > BYTES_MAX => Err("a page has at most 64 KiB".to_owned()),
        Ok(_) if body.trim().is_empty() => {
            Err("it has no body: a connection is not closed without an answer".to_owned())
        }
        Ok(_) if !translation.files.writes() => {
            Err(format!("`error_pages` names a file with the body alone: {NO_FOLDER}"))
        }
        Ok(suffix) => Ok(page(&mut translation.model, &format!("haproxy-{stem}"), suffix, body)),
        Err(hint) => Err(hint),
    };
    match name {
        Ok(name) => set(keys, &[status], &name),
        Err(hint) => translation.model.left_out(&line.at, &line.shown(), &hint),
    }
}

/// A response of a file.
#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    /// The content type.
    kind: String,
    body: String,
    /// Names of the other fields.
    fields: Vec<String>,
}

/// Reads a response.
fn response_of(text: &str) -> Result<Response, &'static str> {
    let text = text.replace("\r\n", "\n");
    let Some((head, body)) = text.split_once("\n\n") else {
        return Err(if text.trim().is_empty() {
            "is empty: a connection is not closed without an answer"
        } else {
            "is no response: a blank line after the head is missing"
        });
    };
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or("is no response: its first line has no status")?;
    let (mut kind, mut fields) = ("text/html".to_owned(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = name.trim().to_ascii_lowercase();
        match name.as_str() {
            "content-type" => kind = value.trim().to_ascii_lowercase(),
            name if USUAL.contains(&name) => {}
            _ => fields.push(name),
        }
    }
    Ok(Response { status, kind, body: body.to_owned(), fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_its_status_its_type_and_its_body() {
        let text = "HTTP/1.0 503 Service Unavailable\r\nCache-Control: no-cache\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n\r\nsorry\n\nindeed\n";
        let expected = Response {
            status: 503,
            kind: "text/plain; charset=utf-8".to_owned(),
            body: "sorry\n\nindeed\n".to_owned(),
            fields: vec!["retry-after".to_owned()],
        };
        assert_eq!(response_of(text), Ok(expected));
        for wrong in ["", "<p>sorry</p>\n\nmore", "HTTP/1.0 503", "HTTP/1.0\n\nx"] {
            assert!(response_of(wrong).is_err(), "{wrong:?}");
        }
    }
}
