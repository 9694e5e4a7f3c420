//! A PROXY header is read exactly to its stated length.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((_, length)) = tidegate::os::proxy_header::read_from(bytes) {
        assert!((15..=16 + 2_048).contains(&length));
    }
});
