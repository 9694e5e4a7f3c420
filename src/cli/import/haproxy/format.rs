//! HAProxy's log formats in values: `%[req.hdr(host)]`, `%ci`, as Tidegate's `{variables}`.

use super::super::model::literal;

/// A value with variables, or the part without equivalent.
pub(super) fn template(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&literal(&rest[..at]));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = after.find(']').ok_or_else(|| format!("%[{after}"))?;
            let sample = &after[..end];
            out.push_str(&variable(sample).ok_or_else(|| format!("%[{sample}]"))?);
            rest = &after[end + 1..];
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let name = &rest[..end];
            let known = match name {
                "ci" => "{client_ip}",
                "ID" => "{request_id}",
                "HU" => "{uri}",
                "HP" => "{path}",
                "HQ" => "{query}",
                "ST" => "{status}",
                "s" | "b" => "{cluster}",
                _ => return Err(format!("%{name}")),
            };
            out.push_str(known);
            rest = &rest[end..];
        }
    }
    out.push_str(&literal(rest));
    Ok(out)
}

fn variable(sample: &str) -> Option<String> {
    let known = match sample.trim() {
        "src" => "{client_ip}",
        "path" => "{path}",
        "query" => "{query}",
        "url" | "capture.req.uri" | "pathq" => "{uri}",
        "unique-id" => "{request_id}",
        "ssl_fc_sni" => "{sni}",
        "status" => "{status}",
        "be_name" => "{service}",
        "fe_name" => "{listener}",
        "ssl_c_s_dn" => "{client_cert_subject}",
        other => {
            let inner = ["req.hdr(", "hdr(", "req.fhdr("]
                .iter()
                .find_map(|start| other.strip_prefix(start))?;
            let name = inner.strip_suffix(')')?.split(',').next()?.trim().trim_matches(['"', '\'']);
            let valid = !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
            if !valid {
                return None;
            }
            return Some(match name.eq_ignore_ascii_case("host") {
                true => "{host}".to_owned(),
                false => format!("{{header:{}}}", name.to_ascii_lowercase()),
            });
        }
    };
    Some(known.to_owned())
}

/// The target of a redirect: `{uri}` as path and query.
pub(super) fn location(text: &str) -> Result<String, String> {
    Ok(template(text)?.replace("{uri}", "{path}?{query}"))
}
