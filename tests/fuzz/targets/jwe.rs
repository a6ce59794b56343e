//! Encrypted objects: no bytes make the reader panic, and none open under a key that nobody used.
#![no_main]

use std::sync::OnceLock;

use idm_jose::{DecryptionKeys, Jwe, JweExpectations, generate_octets};
use idm_types::{ContentEncryption, KeyManagement};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static KEYS: OnceLock<DecryptionKeys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let key = generate_octets(32).expect("a key");
        DecryptionKeys::parse(key.reveal().to_string().as_bytes(), KeyManagement::ALL).expect("keys")
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (key_management, content_encryption) = (KeyManagement::ALL, ContentEncryption::ALL);
    let expected = JweExpectations { key_management, content_encryption, compressed: true };
    for jwe in [Jwe::parse(text), Jwe::parse_json(text)].into_iter().flatten() {
        assert!(jwe.decrypt(keys, &expected).is_err());
    }
});
