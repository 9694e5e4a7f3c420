//! Any text is either a valid configuration or yields problems with positions; the parser never panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let outcome = tidegate::config::load(text, std::path::Path::new("/nonexistent"), &|_| None);
    assert!(outcome.config.is_some() || !outcome.problems.is_empty());
});
