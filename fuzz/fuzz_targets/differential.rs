//! The codec compared with httparse and hyper: see `tests/codec/differential.rs`.
#![no_main]

#[path = "../../tests/codec/differential.rs"]
mod differential;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    differential::compare(bytes);
});
