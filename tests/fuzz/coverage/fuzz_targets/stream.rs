//! The fuzz body `stream` under libFuzzer; what it checks stands in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lampfield_fuzz::stream(data));
