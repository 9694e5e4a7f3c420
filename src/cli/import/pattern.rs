//! Regular expressions of nginx, HAProxy and Traefik, which search, as patterns for a whole value.

/// A regular expression of a part of the path as a pattern for the whole path, if Tidegate supports it.
pub(super) fn whole(pattern: &str, ignores_case: bool) -> Result<String, &'static str> {
    let mut depth = 0_usize;
    let mut splits = false;
    let mut escaped = false;
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => splits = true,
            _ => {}
        }
    }
    let ends = pattern.ends_with('$') && !pattern.ends_with("\\$");
    let mut whole = match (pattern.strip_prefix('^'), splits) {
        (_, true) => format!(".*(?:{pattern}).*"),
        (Some(rest), false) if ends => {
            rest.get(..rest.len().saturating_sub(1)).unwrap_or("").to_owned()
        }
        (Some(rest), false) => format!("{rest}.*"),
        (None, false) if ends => format!(".*{}", pattern.get(..pattern.len() - 1).unwrap_or("")),
        (None, false) => format!(".*{pattern}.*"),
    };
    if ignores_case {
        whole = format!("(?i){whole}");
    }
    // nginx and HAProxy escape `/` in places where it needs no escape.
    let whole = whole.replace("\\/", "/");
    match regex::Regex::new(&format!("^(?:{whole})$")) {
        Ok(_) => Ok(whole),
        Err(_) => Err(
            "its regular expression has look-around, a back-reference or an error: list the paths instead",
        ),
    }
}

/// A pattern for the whole value as an expression that searches.
pub(super) fn anchored(whole: &str) -> String {
    if whole.contains('|') { format!("^(?:{whole})$") } else { format!("^{whole}$") }
}
