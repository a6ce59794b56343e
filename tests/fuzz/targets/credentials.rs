//! Credentials of callers: headers with any bytes against every method that reads text.
#![no_main]

use idm_request::{remove_cookie, remove_query};
use idm_trust::roots;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = roots(text);
    idm_authn::fuzz_credential(text);
    if let Some(rest) = remove_query(text, "key") {
        assert_eq!(remove_query(&rest, "key").as_deref(), Some(rest.as_str()));
    }
    let mut headers = http::HeaderMap::new();
    if let Ok(value) = http::HeaderValue::from_str(text) {
        headers.insert(http::header::COOKIE, value);
        remove_cookie(&mut headers, "t");
    }
});
