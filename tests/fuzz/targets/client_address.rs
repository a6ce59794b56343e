//! `X-Forwarded-For` and `Forwarded`: any bytes give a client or a refusal, and what a client puts before the address
//! that a trusted proxy adds never becomes another client.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use idm_plan::Network;
use idm_request::client;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [sender, own] = [[10u8, 0, 0, 1], [203, 0, 113, 7]].map(std::net::IpAddr::from);
    let Some(trusted) = Network::parse("10.0.0.0/8") else { return };
    for (name, added) in [("x-forwarded-for", &b",203.0.113.7"[..]), ("forwarded", &b",for=203.0.113.7"[..])] {
        let told = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).ok()?;
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
            client(sender, &headers, std::slice::from_ref(&trusted)).ok()
        };
        let _ = told(bytes);
        if let Some(client) = told(&[bytes, added].concat()) {
            assert_eq!(client.address, own);
        }
    }
});
