//! A panic on demand, in debug builds only, for tests of its effect on other exchanges.

/// Panics on the path that `TIDEGATE_INJECT_PANIC` names.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is what it is for")]
pub fn panic_on(path: &str) {
    if std::env::var("TIDEGATE_INJECT_PANIC").is_ok_and(|wanted| wanted == path) {
        panic!("injected");
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
pub fn panic_on(_: &str) {}
