#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::canonical_json(data));
