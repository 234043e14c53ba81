//! See `promises::listings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::listings::hold(data));
