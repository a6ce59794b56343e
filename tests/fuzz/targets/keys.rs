//! Key sets and keys from outside, in every form that is read.
#![no_main]

use idm_jose::{DecryptionKeys, Jwk, KeySet, SigningKey, jwk_of_pkcs8, jwk_of_spki, private_key};
use idm_types::{Algorithm, KeyManagement};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // A published set never holds a secret, however it is written.
    if KeySet::parse(data, Algorithm::ALL).is_ok() {
        let document: serde_json::Value = serde_json::from_slice(data).expect("it was JSON");
        let is_public = |key: &serde_json::Value| key.get("d").is_none() && key["kty"] != "oct";
        assert!(document["keys"].as_array().is_some_and(|keys| keys.iter().all(is_public)));
    }
    let _ = KeySet::parse_secret(data, Algorithm::ALL);
    let _ = DecryptionKeys::parse(data, KeyManagement::ALL);
    let _ = jwk_of_pkcs8(data);
    let _ = jwk_of_spki(data);
    if let Ok(jwk) = Jwk::parse(data) {
        let _ = jwk.thumbprint();
        assert!(jwk.public().is_none_or(|public| !public.is_secret()));
        for &algorithm in Algorithm::ALL {
            let _ = SigningKey::from_jwk(&jwk, algorithm);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = private_key(text);
    }
});
