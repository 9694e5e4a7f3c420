//! Edits of header fields: permitted names and values, and the variables in values.

use super::compiler::Compiler;
use super::error::{Position, nearest};
use super::file::HeaderEdits;
use super::shape::Spanned;
use crate::decision::edits::Edits;
use crate::decision::template::{Purpose, Template};

/// Fields that frame or route a message are managed by the proxy; and what the operator can do instead.
const NOT_EDITABLE: &[(&str, &str)] = &[
    ("host", "use `host` of the cluster, or `rewrite: { host: NAME }` of the route"),
    ("connection", FRAMING),
    ("content-length", FRAMING),
    ("transfer-encoding", FRAMING),
    ("te", FRAMING),
    ("trailer", FRAMING),
    ("keep-alive", FRAMING),
    ("proxy-connection", FRAMING),
    ("expect", FRAMING),
    ("http2-settings", FRAMING),
    ("upgrade", "use `upgrades` of the listener"),
];
const FRAMING: &str = "the proxy writes this field itself, for each connection";

impl Compiler<'_> {
    /// Compiles the edits of one head and reports problems.
    pub(super) fn edits(&mut self, written: Option<&HeaderEdits>, path: &str) -> Edits {
        let mut edits = Edits::default();
        let Some(written) = written else { return edits };
        for name in written.remove.iter().flatten() {
            self.check_field(name, None, path);
            edits.remove.push(name.value.to_ascii_lowercase());
        }
        for (name, value) in written.set.iter().flat_map(|pairs| &pairs.0) {
            let lower = name.value.to_ascii_lowercase();
            let template = self.field(name, value, path);
            match template.constant() {
                Some(constant) => edits.set.push((lower, constant.to_owned())),
                None => {
                    edits.remove.push(lower.clone());
                    edits.composed.push((lower, template));
                }
            }
        }
        for (name, value) in written.add.iter().flat_map(|pairs| &pairs.0) {
            let lower = name.value.to_ascii_lowercase();
            let template = self.field(name, value, path);
            match template.constant() {
                Some(constant) => edits.add.push((lower, constant.to_owned())),
                None => edits.composed.push((lower, template)),
            }
        }
        edits
    }

    fn field(&mut self, name: &Spanned<String>, value: &str, path: &str) -> Template {
        self.check_field(name, Some(value), path);
        self.template(name.at, path, value, Purpose::Field)
    }

    /// Text with variables; reports an unknown one.
    pub(super) fn template(
        &mut self,
        at: Position,
        path: &str,
        text: &str,
        purpose: Purpose,
    ) -> Template {
        match Template::parse(text, purpose) {
            Ok(template) => template,
            Err(word) => {
                let names = purpose.names();
                let hint = match nearest(&word, names.iter().copied()) {
                    Some(near) => {
                        format!(
                            "did you mean `{{{near}}}`? For the text itself, write `{{{{{word}}}`"
                        )
                    }
                    None => format!(
                        "one of: {}. For the text itself, write `{{{{{word}}}`",
                        names.join(", ")
                    ),
                };
                let message = format!("there is no variable `{{{word}}}` here");
                self.problems.error_with_hint(at, path, message, hint);
                Template::default()
            }
        }
    }

    /// Reports a field that cannot be edited, or a value that no field can have.
    pub(super) fn check_field(&mut self, name: &Spanned<String>, value: Option<&str>, path: &str) {
        let lower = name.value.to_ascii_lowercase();
        if !is_field_name(&name.value) {
            let message = format!("`{}` is not a valid header name", name.value.escape_debug());
            self.problems.error(name.at, path, message);
        }
        let own = "`tidegate-*` fields are the proxy's own";
        let managed = NOT_EDITABLE.iter().find(|(known, _)| *known == lower);
        let hint = managed.map(|(_, hint)| *hint);
        if let Some(hint) = hint.or_else(|| lower.starts_with("tidegate-").then_some(own)) {
            let message =
                format!("`{}` frames or routes the message and cannot be edited", name.value);
            self.problems.error_with_hint(name.at, path, message, hint);
        }
        if value.is_some_and(|value| value.chars().any(char::is_control)) {
            self.problems.error(name.at, path, "the header's value has a control character");
        }
    }
}

/// Whether `text` is a valid field name.
pub(super) fn is_field_name(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(token)
}
