//! See `promises::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::configuration::hold(data));
