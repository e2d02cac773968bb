//! The fuzz body `record` under libFuzzer; what it checks stands in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lampfield_fuzz::record(data));
