//! See `promises::backup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::backup::hold(data));
