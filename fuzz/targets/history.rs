//! See `promises::history`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::history::hold(data));
