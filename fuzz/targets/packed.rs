//! See `promises::packed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::packed::hold(data));
