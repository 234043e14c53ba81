//! See `promises::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::manifest::hold(data));
