//! Signed tokens and `jsonwebtoken`, whose cryptography is RustCrypto's: every algorithm that both know, both ways.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_jose::{Expectations, Jwk, KeySet, SigningKey, TokenError, Unverified, Verified, pkcs8_of_jwk};
use idm_tests::now;
use idm_types::{Algorithm, Skew, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";

fn theirs(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    algorithm.name().parse().ok()
}

/// Every algorithm that both know, with a new key.
fn known_to_both() -> Vec<(Algorithm, jsonwebtoken::Algorithm, SigningKey)> {
    let known: Vec<_> = Algorithm::ALL
        .iter()
        .filter_map(|&ours| Some((ours, theirs(ours)?, SigningKey::generate(ours, "k").unwrap())))
        .collect();
    let unknown: Vec<_> = Algorithm::ALL.iter().filter(|algorithm| theirs(**algorithm).is_none()).collect();
    assert_eq!(unknown, [&Algorithm::ES512], "the other library knows all but this one");
    known
}

/// The key that verifies, as the other library reads it: from the published JWK, or from the shared secret.
fn decoding_key(key: &SigningKey) -> DecodingKey {
    let jwk = key.public().map_or_else(|| key.reveal_jwk().to_owned(), |public| public.reveal().to_string());
    DecodingKey::from_jwk(&serde_json::from_str(&jwk).unwrap()).unwrap()
}

fn encoding_key(key: &SigningKey) -> EncodingKey {
    let jwk = Jwk::parse(key.reveal_jwk().as_bytes()).unwrap();
    if key.algorithm().is_symmetric() {
        return EncodingKey::from_secret(&idm_jose::base64url(jwk.text("k").unwrap()).unwrap());
    }
    let body = STANDARD.encode(pkcs8_of_jwk(&jwk).unwrap().reveal());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    match jwk.text("kty").unwrap() {
        "RSA" => EncodingKey::from_rsa_pem(pem.as_bytes()),
        "EC" => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_ed_pem(pem.as_bytes()),
    }
    .unwrap()
}

fn validation(algorithm: jsonwebtoken::Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = 0;
    validation.validate_nbf = true;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&["orders"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation
}

fn good() -> Value {
    json!({"iss": ISSUER, "sub": "ana", "aud": "orders", "iat": now() - 5, "nbf": now() - 5, "exp": now() + 300})
}

fn changed(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = good();
    claims[name] = value.into();
    claims
}

fn they_read(token: &str, key: &SigningKey) -> Result<Value, ErrorKind> {
    let algorithm = theirs(key.algorithm()).unwrap();
    let read = jsonwebtoken::decode::<Value>(token, &decoding_key(key), &validation(algorithm));
    read.map(|read| read.claims).map_err(|error| error.kind().clone())
}

fn we_read(token: &str, key: &SigningKey) -> Result<Verified, TokenError> {
    let algorithms = [key.algorithm()];
    let keys = KeySet::parse_secret(key.reveal_jwk().as_bytes(), &algorithms).unwrap();
    let audiences = ["orders".to_owned()];
    let expected = Expectations {
        client_ids: &[],
        issuer: ISSUER,
        audiences: &audiences,
        algorithms: &algorithms,
        types: &[],
        skew: Skew::from_seconds(0),
    };
    Unverified::parse(token)?.verify(&keys, &expected, Timestamp::from_seconds(now()))
}

/// The same token with one bit of its signature turned over.
fn with_another_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = idm_jose::base64url(signature).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    format!("{signed}.{}", idm_jose::to_base64url(&bytes))
}

#[test]
fn what_we_sign_is_verified_by_jsonwebtoken() {
    for (name, _, key) in known_to_both() {
        let token = key.sign(&good()).unwrap();
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some("k"));
        assert_eq!(they_read(&token, &key).unwrap()["sub"], "ana", "{name}");
        let other = SigningKey::generate(name, "k").unwrap();
        assert_eq!(they_read(&token, &other), Err(ErrorKind::InvalidSignature), "{name}: another key");
        let altered = with_another_signature(&token);
        assert_eq!(they_read(&altered, &key), Err(ErrorKind::InvalidSignature), "{name}: another signature");
        for (claims, kind) in [
            (changed("exp", now() - 2), ErrorKind::ExpiredSignature),
            (changed("aud", "billing"), ErrorKind::InvalidAudience),
            (changed("iss", "https://other.example"), ErrorKind::InvalidIssuer),
            (changed("nbf", now() + 60), ErrorKind::ImmatureSignature),
        ] {
            assert_eq!(they_read(&key.sign(&claims).unwrap(), &key), Err(kind), "{name}: {claims}");
        }
    }
}

#[test]
fn what_jsonwebtoken_signs_is_verified_by_us() {
    for (name, algorithm, key) in known_to_both() {
        let signer = encoding_key(&key);
        let header = Header { kid: Some("k".into()), ..Header::new(algorithm) };
        let sign = |claims: &Value| jsonwebtoken::encode(&header, claims, &signer).unwrap();
        let token = sign(&good());
        let read = we_read(&token, &key).unwrap();
        assert_eq!((read.claims().text("sub"), read.algorithm()), (Some("ana"), name));
        let other = SigningKey::generate(name, "k").unwrap();
        let bad_signature = || TokenError::BadSignature { kid: "`k`".into() };
        assert_eq!(we_read(&token, &other).unwrap_err(), bad_signature(), "{name}: another key");
        let altered = with_another_signature(&token);
        assert_eq!(we_read(&altered, &key).unwrap_err(), bad_signature(), "{name}: another signature");
        let refused = |claims: Value| we_read(&sign(&claims), &key).unwrap_err();
        assert!(matches!(refused(changed("exp", now() - 2)), TokenError::Expired { .. }), "{name}");
        assert!(matches!(refused(changed("aud", "billing")), TokenError::WrongAudience { .. }), "{name}");
        assert!(matches!(refused(changed("iss", "https://other.example")), TokenError::WrongIssuer(_)), "{name}");
        assert!(matches!(refused(changed("nbf", now() + 60)), TokenError::NotYetValid { claim: "nbf", .. }), "{name}");
    }
}

#[test]
fn neither_takes_an_hmac_under_the_public_key_for_a_signature() {
    let key = SigningKey::generate(Algorithm::RS256, "k").unwrap();
    let public = key.public().unwrap().reveal().to_string();
    let header = Header { kid: Some("k".into()), ..Header::new(jsonwebtoken::Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &good(), &EncodingKey::from_secret(public.as_bytes())).unwrap();
    assert_eq!(they_read(&forged, &key), Err(ErrorKind::InvalidAlgorithm));
    assert!(matches!(we_read(&forged, &key), Err(TokenError::AlgorithmNotAllowed(_))));
}
