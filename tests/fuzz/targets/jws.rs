//! Signed tokens: no bytes make the reader panic, and none verify under a key that nobody used.
#![no_main]

use std::sync::OnceLock;

use idm_jose::{Jws, JwsForm, KeySet, Proof, SigningKey, Unverified};
use idm_types::Algorithm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let key = SigningKey::generate(Algorithm::HS256, "k").expect("a key");
        KeySet::parse_secret(key.reveal_jwk().as_bytes(), Algorithm::ALL).expect("keys")
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Unverified::parse(text);
    let _ = Proof::verify(text);
    for form in [JwsForm::default(), JwsForm { detached: Some(b"payload"), max_bytes: 0 }] {
        if let Ok(jws) = Jws::parse_compact(text, form) {
            assert!(jws.verify(keys, Algorithm::ALL).is_err());
        }
        for jws in Jws::parse_json(text, form).into_iter().flatten() {
            assert!(jws.verify(keys, Algorithm::ALL).is_err());
        }
    }
});
