//! Error pages: files, read when the configuration is built.

use super::compiler::Compiler;
use super::shape::{Named, Spanned};
use crate::decision::pages::{BYTES_MAX, ErrorPages, Page, kind};
use crate::decision::refusal::Refusal;
use crate::decision::template::Purpose;
use std::path::Path;
use std::sync::Arc;

impl Compiler<'_> {
    /// Compiles the error pages written at `path`. `None` if there are none.
    pub(super) fn error_pages(
        &mut self,
        written: Option<&Named<Spanned<String>>>,
        path: &str,
    ) -> Option<ErrorPages> {
        let path = format!("{path}.error_pages");
        let mut pages = ErrorPages::default();
        for (key, file) in &written?.0 {
            let path = format!("{path}.{}", key.value);
            let page = self.page(file, &path);
            match statuses(&key.value) {
                Some(Statuses::One(status)) => {
                    pages.exact.extend(page.map(|page| (status, page)));
                    if !Refusal::ALL.iter().any(|refusal| refusal.status() == status) {
                        let message = format!("the proxy itself never answers {status}");
                        let hint = "error pages are for its own refusals; those of clusters pass unchanged";
                        self.problems.warning(key.at, path, message, hint);
                    }
                }
                Some(Statuses::Class(class)) => {
                    pages.classes.extend(page.map(|page| (class, page)));
                }
                None => {
                    let message = format!("`{}` is neither a status nor a class", key.value);
                    let hint = "for example \"503\", \"4xx\" or \"5xx\"";
                    self.problems.error_with_hint(key.at, path, message, hint);
                }
            }
        }
        Some(pages)
    }

    fn page(&mut self, file: &Spanned<String>, path: &str) -> Option<Arc<Page>> {
        let Some((content_type, escape)) = kind(&file.value) else {
            let message = format!("`{}` has no known suffix", file.value);
            let hint = "the suffix decides the content type: .html, .htm, .json or .txt";
            self.problems.error_with_hint(file.at, path, message, hint);
            return None;
        };
        let text = match read(&self.folder.join(&file.value)) {
            Ok(text) => text,
            Err(why) => {
                let message = format!("cannot use `{}`: {why}", file.value);
                self.problems.error(file.at, path, message);
                return None;
            }
        };
        let body = self.template(file.at, path, &text, Purpose::Page);
        Some(Arc::new(Page { content_type, escape, body }))
    }
}

enum Statuses {
    One(u16),
    Class(u16),
}

fn statuses(key: &str) -> Option<Statuses> {
    match key {
        "4xx" => Some(Statuses::Class(4)),
        "5xx" => Some(Statuses::Class(5)),
        _ => {
            let status = key.parse().ok().filter(|status| (400..600).contains(status));
            status.filter(|_| key.len() == 3).map(Statuses::One)
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    if about.len() > BYTES_MAX as u64 {
        return Err(format!("it is larger than {} KiB", BYTES_MAX / 1024));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}
