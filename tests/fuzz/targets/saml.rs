//! Messages of a SAML provider: XML, metadata, compressed messages. Without a key nothing is believed.
#![no_main]

use idm_saml::{Expected, LogoutRequest, RedirectMessage, Response, post_form_value};
use idm_types::{Skew, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    idm_saml::fuzz(text);
    let now = Timestamp(1_800_000_000_000);
    let expected = Expected {
        issuer: "i",
        keys: &[],
        audience: "a",
        consumer: "c",
        own_key: None,
        signed_assertions: false,
        unsolicited: true,
        skew: Skew::from_seconds(30),
        now,
    };
    match Response::posted(&post_form_value(text)) {
        Ok(response) => assert!(response.accept(&expected).is_err(), "believed without a key"),
        // A NUL among the first two characters is how UTF-16 begins: no text of XML has one.
        Err(_) => assert!(text.chars().take(2).any(|c| c == '\0'), "a text in UTF-8 was not read"),
    }
    assert!(LogoutRequest::posted(&post_form_value(text), &[], "i", "d", now).is_err());
    let _ = Response::posted(text);
    if let Some(message) = RedirectMessage::of(text) {
        assert!(message.verified(&[]).is_err());
        let _ = message.relay_state();
    }
});
