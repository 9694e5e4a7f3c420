//! Regular expressions: of bounded size, matched in linear time.

use super::compiler::Compiler;
use super::shape::Spanned;
use regex::{Regex, RegexBuilder, bytes};

/// Characters of a pattern, at most.
const PATTERN_MAX: usize = 2048;
/// Bytes of a compiled pattern, at most; the cache of its matcher has the same bound.
const COMPILED_MAX: usize = 1 << 20;

impl Compiler<'_> {
    /// A pattern for text; reports an invalid one.
    pub(super) fn pattern(&mut self, written: &Spanned<String>, path: &str) -> Option<Regex> {
        self.built(written, path, |text| {
            let mut builder = RegexBuilder::new(text);
            builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build()
        })
    }

    /// A pattern for whole values in bytes; reports an invalid one.
    pub(super) fn value_pattern(
        &mut self,
        written: &Spanned<String>,
        path: &str,
    ) -> Option<bytes::Regex> {
        self.built(written, path, |text| {
            let mut builder = bytes::RegexBuilder::new(&whole(text));
            builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build()
        })
    }

    /// A pattern that must match a whole path; reports an invalid one.
    pub(super) fn path_pattern(&mut self, written: &Spanned<String>, path: &str) -> Option<Regex> {
        self.built(written, path, |text| {
            let mut builder = RegexBuilder::new(&whole(text));
            builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build()
        })
    }

    fn built<R>(
        &mut self,
        written: &Spanned<String>,
        path: &str,
        build: impl Fn(&str) -> Result<R, regex::Error>,
    ) -> Option<R> {
        let text = &written.value;
        if text.len() > PATTERN_MAX {
            let message = format!("the pattern is longer than {PATTERN_MAX} characters");
            self.problems.error(written.at, path, message);
            return None;
        }
        let built = build(text).map_err(|error| {
            let message = format!("`{text}` is not a regular expression: {error}");
            self.problems.error(written.at, path, message.replace('\n', " "));
        });
        built.ok()
    }
}

fn whole(text: &str) -> String {
    format!("^(?:{text})$")
}
