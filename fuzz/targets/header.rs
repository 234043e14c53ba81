//! See `promises::header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::header::hold(data));
