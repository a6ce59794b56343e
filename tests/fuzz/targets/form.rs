//! Requests of clients to a token service.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| idm_issue::fuzz_form(body));
