//! Edits of header fields: permitted names and values.

use super::compiler::Compiler;
use super::file::HeaderEdits;
use super::shape::Spanned;
use crate::decision::route::Edits;

/// Fields that frame or route a message are managed by the proxy.
const NOT_EDITABLE: &[&str] = &[
    "connection",
    "content-length",
    "transfer-encoding",
    "host",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "expect",
];

/// Compiles the edits of one head and reports problems.
pub(super) fn edits(
    compiler: &mut Compiler<'_>,
    written: Option<&HeaderEdits>,
    path: &str,
) -> Edits {
    let mut edits = Edits::default();
    let Some(written) = written else { return edits };
    for (name, value) in written.set.iter().flat_map(|pairs| &pairs.0) {
        check_field(compiler, name, Some(value), path);
        edits.set.push((name.value.to_ascii_lowercase(), value.clone()));
    }
    for (name, value) in written.add.iter().flat_map(|pairs| &pairs.0) {
        check_field(compiler, name, Some(value), path);
        edits.add.push((name.value.to_ascii_lowercase(), value.clone()));
    }
    for name in written.remove.iter().flatten() {
        check_field(compiler, name, None, path);
        edits.remove.push(name.value.to_ascii_lowercase());
    }
    edits
}

/// Whether `text` is a valid field name.
pub(super) fn is_field_name(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(token)
}

pub(super) fn check_field(
    compiler: &mut Compiler<'_>,
    name: &Spanned<String>,
    value: Option<&String>,
    path: &str,
) {
    let lower = name.value.to_ascii_lowercase();
    if !is_field_name(&name.value) {
        compiler.problems.error(
            name.at,
            path,
            format!("`{}` is not a valid header name", name.value),
        );
    }
    if NOT_EDITABLE.contains(&lower.as_str()) || lower.starts_with("tidegate-") {
        let message = format!("`{}` frames or routes the message and cannot be edited", name.value);
        compiler.problems.error(name.at, path, message);
    }
    if value.is_some_and(|value| value.chars().any(char::is_control)) {
        compiler.problems.error(name.at, path, "the header's value has a control character");
    }
}
