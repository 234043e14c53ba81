//! See `promises::pages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::pages::hold(data));
