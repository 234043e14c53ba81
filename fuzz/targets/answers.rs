//! See `promises::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| promises::answers::hold(data));
