//! Sets as other products publish them: with keys that cannot be used, twice, as certificates, behind a mark.

use serde_json::json;

use super::*;
use crate::generate_ed25519;
use crate::{SigningKey, Unverified, base64url, to_base64url};

const ALLOWED: &[Algorithm] = &[Algorithm::ES256, Algorithm::RS256];

/// Certificates of `openssl req -x509`, of P-256 and of RSA with 2048 bits, with their `n`, `x` and `y`.
const CERTIFIED: &str = include_str!("certified.json");

fn public(kid: &str) -> Value {
    SigningKey::generate(Algorithm::ES256, kid).unwrap().jwks()["keys"][0].clone()
}

fn parse(keys: Value) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), ALLOWED)
}

fn without(mut key: Value, name: &str) -> Value {
    key.as_object_mut().unwrap().remove(name);
    key
}

#[test]
fn f06_a_key_that_cannot_be_used_is_named_where_a_token_wants_it() {
    let good = public("good");
    let no_y = without(public("no-y"), "y");
    let padded = json!({"kty": "RSA", "kid": "padded", "n": "AQAB==", "e": "AQAB"});
    let weak = json!({"kty": "RSA", "kid": "weak", "n": to_base64url(&[0xff; 128]), "e": "AQAB"});
    let set = parse(json!([weak, no_y, padded, good])).unwrap();
    assert_eq!((set.len(), set.left_out().len()), (1, 3));
    let hint = |kid: Option<&str>| set.hint(kid, None, Algorithm::RS256);
    assert!(hint(Some("weak")).contains("kid `weak`") && hint(Some("weak")).contains("2048 bits"), "{:?}", hint(None));
    assert!(!hint(Some("weak")).contains("padded"), "its own fault is enough");
    assert!(hint(Some("unknown")).starts_with(": 3 of the published keys cannot be used: "), "{}", hint(None));
    // However many there are and whatever they are called, the message is short and visible.
    let many: Vec<Value> = (0..200)
        .map(|n| json!({"kty": "RSA", "kid": format!("{n}\u{1b}[2J{}", "x".repeat(999)), "n": "AQAB", "e": "AQAB"}))
        .chain([good.clone()])
        .collect();
    let hint = parse(json!(many)).unwrap().hint(Some("?"), None, Algorithm::RS256);
    assert!(hint.len() < 1000 && hint.ends_with("; and 197 more") && !hint.contains('\u{1b}'), "{hint}");
    assert_eq!(parse(json!([good])).unwrap().hint(Some("?"), None, Algorithm::ES256), "");
}

#[test]
fn f07_the_same_key_twice_is_one_key_and_two_keys_of_one_kid_serve_nobody() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let twin = key.jwks()["keys"][0].clone();
    let mut plain = without(twin.clone(), "use");
    plain["x5t#S256"] = json!("AAAA");
    let set = parse(json!([twin, plain, twin])).unwrap();
    assert_eq!((set.len(), set.left_out()), (1, &[][..]));
    assert!(set.select(Some("k"), None, Algorithm::ES256).is_some());
    assert!(set.select(None, None, Algorithm::ES256).is_some(), "the only key");
    assert!(set.select(None, Some("AAAA"), Algorithm::ES256).is_some());
    // The same key under another name, as it is while names change.
    let mut renamed = twin.clone();
    renamed["kid"] = json!("new");
    let set = parse(json!([twin, renamed])).unwrap();
    assert!(set.select(Some("new"), None, Algorithm::ES256).is_some());
    assert!(set.select(None, None, Algorithm::ES256).is_some());
    // A stranger under a known name closes the name, and one that cannot be read does.
    let good = public("good");
    for stranger in [public("k"), without(public("k"), "y")] {
        let set = parse(json!([twin, stranger, twin, good])).unwrap();
        assert!(set.select(Some("k"), None, Algorithm::ES256).is_none(), "{stranger}");
        assert!(set.select(Some("good"), None, Algorithm::ES256).is_some());
        assert!(set.hint(Some("k"), None, Algorithm::ES256).contains("two different keys"));
    }
}

#[test]
fn f07_several_keys_and_a_token_without_a_name_are_said() {
    let set = parse(json!([public("a"), public("b")])).unwrap();
    assert!(set.select(None, None, Algorithm::ES256).is_none());
    assert_eq!(set.hint(None, None, Algorithm::ES256), ": 2 keys fit, and the token must name one");
}

#[test]
fn f08_a_certificate_stands_for_the_key_in_it() {
    let certified: Value = serde_json::from_str(CERTIFIED).unwrap();
    for (kind, algorithm, numbers) in
        [("rsa", Algorithm::RS256, &["n", "e"][..]), ("ec", Algorithm::ES256, &["x", "y", "crv"])]
    {
        let whole = certified[kind].clone();
        let bare = numbers.iter().fold(whole.clone(), |key, name| without(key, name));
        let set = parse(json!([bare])).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let only = without(whole.clone(), "x5c");
        let same = parse(json!([only])).unwrap();
        assert_eq!(
            set.select(Some(kind), None, algorithm).map(|key| &key.identity),
            same.select(Some(kind), None, algorithm).map(|key| &key.identity),
            "{kind}"
        );
        assert!(set.select(Some(kind), None, algorithm).is_some());
        // Beside its own numbers it is the same key, listed twice.
        assert_eq!(parse(json!([bare, only])).unwrap().left_out(), []);
        // With another certificate's key under the name, nobody knows which is meant.
        let mut other = if kind == "rsa" { certified["rsa2"].clone() } else { public(kind) };
        other["kid"] = json!(kind);
        let closed = parse(json!([bare, other, public("good")])).unwrap();
        assert!(closed.select(Some(kind), None, algorithm).is_none());
        // Numbers count where they are: a certificate beside them adds nothing.
        let mut half = bare.clone();
        half[numbers[0]] = whole[numbers[0]].clone();
        assert!(parse(json!([half])).is_err(), "{kind}: half a key is broken");
        for (chain, what) in [
            (json!([]), "none"),
            (json!("text"), "no list"),
            (json!([1]), "no text"),
            (json!(["AAAA"]), "no certificate"),
            (certified[if kind == "rsa" { "ec" } else { "rsa" }]["x5c"].clone(), "another type"),
        ] {
            let mut unusable = bare.clone();
            unusable["x5c"] = chain;
            let error = parse(json!([unusable])).map(|set| set.len());
            assert!(
                matches!(error, Err(KeySetError::BrokenKey { .. } | KeySetError::NoUsableKey)),
                "{kind}, {what}: {error:?}"
            );
        }
        // The certificate's key of a private key that was published is no better than that.
        let mut leaked = only.clone();
        leaked["d"] = json!("AAAA");
        assert!(matches!(parse(json!([bare, leaked])).map(|set| set.len()), Err(KeySetError::PrivateKey { .. })));
    }
    let mut truncated = certified["rsa"].clone();
    let der = base64url(&truncated["n"].as_str().unwrap().replace('=', "")).unwrap();
    truncated["x5c"] = json!([base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der[..40])]);
    let bare = without(without(truncated, "n"), "e");
    let Err(KeySetError::BrokenKey { problem, .. }) = parse(json!([bare])) else { panic!("a broken certificate") };
    assert!(problem.contains("`x5c`"), "{problem}");
}

#[test]
fn a_byte_order_mark_in_front_of_a_set_is_left_out() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let set = KeySet::parse(format!("\u{feff}{}", key.jwks()).as_bytes(), ALLOWED).unwrap();
    assert_eq!(set.len(), 1);
    let marked = format!("\u{feff}{}", key.sign(&json!({})).unwrap());
    assert!(Unverified::parse(&marked).is_err(), "a token has none");
}

#[test]
fn a_key_for_bare_signatures_is_of_one_kind() {
    let private = generate_ed25519().unwrap();
    let public = private.public().unwrap();
    assert!(VerifyingKey::of_public(&public, Algorithm::EdDSA).is_ok());
    for (jwk, algorithm) in [(&private, Algorithm::EdDSA), (&public, Algorithm::ES256), (&public, Algorithm::HS256)] {
        assert!(VerifyingKey::of_public(jwk, algorithm).is_err(), "{jwk:?} {algorithm:?}");
    }
    for (bytes, algorithm) in [(32, Algorithm::HS256), (48, Algorithm::HS384), (64, Algorithm::HS512)] {
        assert!(VerifyingKey::of_secret(&vec![7; bytes], algorithm).is_ok());
        assert!(VerifyingKey::of_secret(&vec![7; bytes - 1], algorithm).is_err());
    }
    assert!(VerifyingKey::of_secret(&[7; 64], Algorithm::EdDSA).is_err());
}
