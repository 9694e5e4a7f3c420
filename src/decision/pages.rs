//! Error pages: the operator's bodies for the proxy's own refusals.

use super::template::{Escape, Template};
use std::sync::Arc;

/// Bytes of a page, at most.
pub const BYTES_MAX: usize = 64 * 1024;

/// The content type of a file by its suffix, and how values are written in it.
#[must_use]
pub fn kind(file: &str) -> Option<(&'static str, Escape)> {
    let (_, suffix) = file.rsplit_once('.')?;
    match suffix.to_ascii_lowercase().as_str() {
        "html" | "htm" => Some(("text/html; charset=utf-8", Escape::Html)),
        "json" => Some(("application/json", Escape::Json)),
        "txt" => Some(("text/plain; charset=utf-8", Escape::Text)),
        _ => None,
    }
}

/// One page.
#[derive(Debug, PartialEq)]
pub struct Page {
    /// Its content type.
    pub content_type: &'static str,
    /// How values of variables are written in it.
    pub escape: Escape,
    /// Its text.
    pub body: Template,
}

/// The pages of one listener, service or route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorPages {
    /// By status.
    pub exact: Vec<(u16, Arc<Page>)>,
    /// By class: 4 or 5.
    pub classes: Vec<(u16, Arc<Page>)>,
}

impl ErrorPages {
    /// The page for a status: its own, else that of its class.
    #[must_use]
    pub fn find(&self, status: u16) -> Option<&Arc<Page>> {
        let exact = self.exact.iter().find(|(known, _)| *known == status);
        let class = || self.classes.iter().find(|(class, _)| *class == status / 100);
        exact.or_else(class).map(|(_, page)| page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_goes_before_its_class() {
        let page = |text: &str| {
            let body = Template::parse(text, super::super::template::Purpose::Page).unwrap();
            Arc::new(Page { content_type: "text/plain", escape: Escape::Text, body })
        };
        let (own, class) = (page("own"), page("class"));
        let pages =
            ErrorPages { exact: vec![(503, own.clone())], classes: vec![(5, class.clone())] };

        assert_eq!(pages.find(503), Some(&own));
        assert_eq!(pages.find(502), Some(&class));
        assert_eq!(pages.find(404), None);
    }
}
