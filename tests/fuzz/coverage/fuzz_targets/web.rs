//! The fuzz body `web` under libFuzzer; what it checks stands in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lampfield_fuzz::web(data));
