//! See `tidegate::http::properties::grpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::http::properties::grpc(bytes));
