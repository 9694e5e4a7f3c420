//! Any text is a configuration or a list of problems with places in it; never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let outcome = tidegate::config::load(text, std::path::Path::new("/nonexistent"), &|_| None);
    assert!(outcome.config.is_some() || !outcome.problems.is_empty());
});
