#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| billhook_fuzz::properties::app_url::origin(data));
