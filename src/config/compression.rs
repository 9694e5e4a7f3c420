//! Compression of responses of services and routes.

use super::compiler::Compiler;
use super::file::policy::{CompressionAlgorithm, CompressionFile};
use super::services::has_sensitive;
use crate::decision::compression::{Algorithm, Compression, MIN_SIZE, TYPES, TypePattern};
use crate::decision::plan::{ClassIndex, Plan};
use std::sync::Arc;

impl Compiler<'_> {
    /// Compiles the setting written at `path`; `None` turns compression off.
    pub(super) fn compression(
        &mut self,
        written: &CompressionFile,
        path: &str,
    ) -> Option<Arc<Compression>> {
        let path = format!("{path}.compression");
        if !cfg!(feature = "compression") {
            let message = "this build cannot compress: it needs the cargo feature `compression`";
            let hint = "build with `--features compression`, or remove the key";
            self.problems.error_with_hint(written.at, path, message, hint);
            return None;
        }
        let algorithm = |written: &CompressionAlgorithm| match written {
            CompressionAlgorithm::Zstd => Algorithm::Zstd,
            CompressionAlgorithm::Brotli => Algorithm::Brotli,
            CompressionAlgorithm::Gzip => Algorithm::Gzip,
        };
        let algorithms = match &written.algorithms {
            Some(written) => written.iter().map(algorithm).collect(),
            None => Algorithm::ALL.to_vec(),
        };
        let types = self.content_types(written, &path);
        let min_size = written.min_size.map_or(MIN_SIZE, |size| size.0);
        let is_off = algorithms.is_empty();
        (!is_off).then(|| Arc::new(Compression { algorithms, types, min_size }))
    }

    fn content_types(&mut self, written: &CompressionFile, path: &str) -> Vec<TypePattern> {
        let path = format!("{path}.types");
        let Some(written) = &written.types else {
            return TYPES.iter().filter_map(|kind| TypePattern::parse(kind).ok()).collect();
        };
        let mut types = Vec::new();
        for (index, kind) in written.iter().enumerate() {
            match TypePattern::parse(&kind.value) {
                Ok(pattern) => types.push(pattern),
                Err(why) => {
                    let message = format!("`{}` is {why}", kind.value.escape_debug());
                    let hint = "write TYPE/SUBTYPE, TYPE/* or TYPE/*+SUFFIX, such as text/* or application/*+json";
                    let path = format!("{path}[{index}]");
                    self.problems.error_with_hint(kind.at, path, message, hint);
                }
            }
        }
        types
    }

    /// Warns of a setting that has no effect because the data are sensitive.
    pub(super) fn warn_of_sensitive(
        &mut self,
        written: Option<&CompressionFile>,
        data: &[String],
        path: &str,
    ) {
        let Some(written) = written.filter(|_| has_sensitive(data)) else { return };
        if written.algorithms.as_ref().is_none_or(|list| !list.is_empty()) {
            let message = "has no effect: sensitive data are never compressed, because the length of a response could reveal a secret in it";
            let hint = "remove the key";
            let path = format!("{path}.compression");
            self.problems.warning(written.at, path, message, hint);
        }
    }
}

/// The setting for a class of exchanges: none for sensitive data.
pub(super) fn unless_sensitive(
    plan: &Plan,
    class: ClassIndex,
    compression: Option<Arc<Compression>>,
) -> Option<Arc<Compression>> {
    compression.filter(|_| !has_sensitive(&plan.classes[class].data))
}
