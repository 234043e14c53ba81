//! See `promises::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::settings::hold(data));
