//! Futures that are made in their boxes.

use std::future::Future;
use std::pin::Pin;

/// Makes a large future in a new box. `Box::pin` makes it on the stack and copies it: if the allocation panicked, the
/// future would have to be dropped there. Here the allocation comes first, and the compiler writes the few fields of a
/// future that has not begun in their place.
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let space = Box::new_uninit();
    Box::into_pin(Box::write(space, make()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_boxed_future_runs() {
        let text = String::from("made");
        assert_eq!(boxed(|| async { text + " in place" }).await, "made in place");
    }
}
