//! See `promises::damage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::damage::hold(data));
