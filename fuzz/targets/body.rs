//! See `promises::body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::body::hold(data));
