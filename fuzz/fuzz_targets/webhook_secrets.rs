#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| billhook_fuzz::properties::webhook_secrets::list(data));
