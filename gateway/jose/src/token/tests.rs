use idm_types::Reason;
use serde_json::json;

use super::*;
use crate::{KeySetError, MAX_TOKEN_BYTES, SigningKey};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct Case {
    key: SigningKey,
    keys: KeySet,
    audiences: Vec<String>,
    types: Vec<String>,
}

impl Case {
    fn new() -> Self {
        let key = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
        let keys = KeySet::parse(key.jwks().to_string().as_bytes(), &[Algorithm::ES256]).unwrap();
        Self { key, keys, audiences: vec!["orders".into()], types: vec![] }
    }

    fn check(&self, token: &str) -> Result<Verified, TokenError> {
        let expected = Expectations {
            client_ids: &[],
            issuer: "https://idp",
            audiences: &self.audiences,
            algorithms: &[Algorithm::ES256],
            types: &self.types,
            skew: Skew::from_seconds(30),
        };
        Unverified::parse(token)?.verify(&self.keys, &expected, NOW)
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({"iss": "https://idp", "aud": "orders", "sub": "ana", "exp": NOW.seconds() + 60});
        change(&mut claims);
        self.key.sign(&claims).unwrap()
    }
}

#[test]
fn a_good_token_yields_its_claims() {
    let case = Case::new();
    let verified = case.check(&case.token(|c| c["aud"] = json!(["x", "orders"]))).unwrap();
    assert_eq!(verified.claims().text("sub"), Some("ana"));
    assert_eq!((verified.kid(), verified.algorithm()), (Some("k1"), Algorithm::ES256));
}

#[test]
fn a_token_is_refused_from_exp_plus_skew_on() {
    let case = Case::new();
    assert!(case.check(&case.token(|c| c["exp"] = json!(NOW.seconds() - 29))).is_ok());
    assert_eq!(
        case.check(&case.token(|c| c["exp"] = json!(NOW.seconds() - 30))).unwrap_err(),
        TokenError::Expired { seconds_ago: 30 }
    );
}

#[test]
fn standard_claims_that_are_missing_wrong_or_of_another_type_are_refused() {
    let case = Case::new();
    let reason = |change: fn(&mut Value)| case.check(&case.token(change)).unwrap_err().reason();
    assert_eq!(reason(|c| c["iss"] = json!("https://idp/")), Reason::UnknownIssuer);
    assert_eq!(reason(|c| c["iss"] = json!(["https://idp"])), Reason::UnknownIssuer);
    assert_eq!(reason(|c| c["aud"] = json!("order")), Reason::WrongAudience);
    assert_eq!(reason(|c| c["aud"] = json!({"orders": true})), Reason::WrongAudience);
    assert_eq!(reason(|c| drop(c.as_object_mut().unwrap().remove("aud"))), Reason::WrongAudience);
    assert_eq!(reason(|c| drop(c.as_object_mut().unwrap().remove("exp"))), Reason::UnusableClaim);
    assert_eq!(reason(|c| c["exp"] = json!("tomorrow")), Reason::UnusableClaim);
    assert_eq!(reason(|c| c["exp"] = json!(NOW.0 + 60_000)), Reason::UnusableClaim);
    assert_eq!(reason(|c| c["nbf"] = json!([])), Reason::UnusableClaim);
    assert_eq!(reason(|c| c["exp"] = json!(1e300)), Reason::UnusableClaim);
    assert_eq!(reason(|c| c["nbf"] = json!(NOW.seconds() + 31)), Reason::TokenNotYetValid);
    assert_eq!(reason(|c| c["iat"] = json!(NOW.seconds() + 3600)), Reason::TokenNotYetValid);
    assert!(case.check(&case.token(|c| c["nbf"] = json!(NOW.seconds() + 30))).is_ok());
}

#[test]
fn an_altered_token_is_refused() {
    let case = Case::new();
    let good = case.token(|_| {});
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = crate::to_base64url(
        json!({"iss": "https://idp", "aud": "orders", "sub": "root", "exp": NOW.seconds() + 60}).to_string().as_bytes(),
    );
    assert_eq!(case.check(&format!("{header}.{other}.{signature}")).unwrap_err().reason(), Reason::BadSignature);
    assert_eq!(case.check(&format!("{signed}.")).unwrap_err().reason(), Reason::BadSignature);
    let stranger = SigningKey::generate(Algorithm::ES256, "k1")
        .unwrap()
        .sign(&json!({"iss": "https://idp", "aud": "orders", "exp": NOW.seconds() + 60}))
        .unwrap();
    assert_eq!(case.check(&stranger).unwrap_err().reason(), Reason::BadSignature);
}

#[test]
fn headers_that_change_the_meaning_are_refused() {
    let case = Case::new();
    let with = |header: Value| {
        let claims = json!({"iss": "https://idp", "aud": "orders", "exp": NOW.seconds() + 60});
        case.check(&case.key.sign_with_header(&header, &claims).unwrap()).map(drop).map_err(|e| e.reason())
    };
    assert_eq!(with(json!({"alg": "ES256", "kid": "k1"})), Ok(()));
    assert_eq!(with(json!({"alg": "ES256"})), Ok(()), "the only key of its algorithm");
    assert_eq!(with(json!({"alg": "none", "kid": "k1"})), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(with(json!({"alg": "None", "kid": "k1"})), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(with(json!({"alg": "HS256", "kid": "k1"})), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(with(json!({"alg": "es256", "kid": "k1"})), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(with(json!({"alg": "RS256", "kid": "k1"})), Err(Reason::AlgorithmNotAllowed));
    assert_eq!(with(json!({"alg": "ES256", "kid": "k2"})), Err(Reason::UnknownKey));
    assert_eq!(with(json!({"alg": "ES256", "kid": 1})), Err(Reason::MalformedToken));
    assert_eq!(with(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]})), Err(Reason::UnsupportedCritical));
    assert_eq!(with(json!({"alg": "ES256", "kid": "k1", "b64": false})), Err(Reason::MalformedToken));
    assert_eq!(with(json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"})), Err(Reason::WrongTokenType));
    assert_eq!(with(json!({"alg": "ES256", "kid": "k1", "typ": "application/AT+JWT"})), Ok(()));
    // A key of the attacker's, carried along, is never looked at: the signature is checked with ours.
    let own = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let jwk = own.jwks()["keys"][0].clone();
    let claims = json!({"iss": "https://idp", "aud": "orders", "exp": NOW.seconds() + 60});
    let token = own
        .sign_with_header(&json!({"alg": "ES256", "kid": "k1", "jwk": jwk, "jku": "https://evil"}), &claims)
        .unwrap();
    assert_eq!(case.check(&token).unwrap_err().reason(), Reason::BadSignature);
}

#[test]
fn a_pinned_type_must_be_there() {
    let case = Case { types: vec!["at+jwt".into()], ..Case::new() };
    let claims = json!({"iss": "https://idp", "aud": "orders", "exp": NOW.seconds() + 60});
    let with = |header: Value| {
        case.check(&case.key.sign_with_header(&header, &claims).unwrap()).map(drop).map_err(|e| e.reason())
    };
    assert_eq!(with(json!({"alg": "ES256", "typ": "at+jwt"})), Ok(()));
    assert_eq!(with(json!({"alg": "ES256"})), Err(Reason::WrongTokenType));
    assert_eq!(with(json!({"alg": "ES256", "typ": "JWT"})), Err(Reason::WrongTokenType));
}

#[test]
fn what_is_no_token_is_refused_unread() {
    let case = Case::new();
    for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d.e", "e30.e30.", "e30=.e30=.AA==", &"a".repeat(5000)] {
        assert_eq!(case.check(text).unwrap_err().reason(), Reason::MalformedToken, "{text}");
    }
    assert_eq!(case.check(&"a".repeat(MAX_TOKEN_BYTES + 1)).unwrap_err().reason(), Reason::TokenTooLarge);
}

#[test]
fn a_key_set_of_which_nothing_can_be_used_is_refused_whole() {
    let allowed = &[Algorithm::ES256, Algorithm::RS256];
    let parse = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), allowed).map(|k| k.len());
    let good = SigningKey::generate(Algorithm::ES256, "a").unwrap().jwks()["keys"][0].clone();
    let mut private = good.clone();
    private["d"] = json!("AAAA");
    let mut off_curve = good.clone();
    off_curve["x"] = off_curve["y"].clone();
    assert_eq!(parse(json!([good])), Ok(1));
    // The public twin of a published private key is no better than that.
    assert_eq!(parse(json!([good, private])), Err(KeySetError::PrivateKey { position: 0 }));
    assert_eq!(parse(json!([{"kty": "oct", "k": "AAAA"}])), Err(KeySetError::PrivateKey { position: 0 }));
    let other = SigningKey::generate(Algorithm::ES256, "a").unwrap().jwks()["keys"][0].clone();
    assert_eq!(parse(json!([good, other])), Err(KeySetError::DuplicateKid("a".into())));
    assert!(matches!(parse(json!([off_curve])), Err(KeySetError::BrokenKey { position: 0, .. })));
    assert!(matches!(parse(json!([{"kty": "RSA", "n": "AQAB", "e": "AQAB"}])), Err(KeySetError::BrokenKey { .. })));
    // Keys of kinds that we do not know must not break the ones that we do (RFC 7517 §5).
    let foreign = json!([{"kty": "AKP", "alg": "ML-DSA-44"}, {"kty": "made-up"}, {"kty": "EC", "crv": "P-999"}, good]);
    assert_eq!(parse(foreign), Ok(1));
    assert_eq!(parse(json!([])), Err(KeySetError::NoUsableKey));
    assert!(matches!(KeySet::parse(b"<html>", allowed), Err(KeySetError::NotJson(_))));
    assert_eq!(KeySet::parse(b"[]", allowed).unwrap_err(), KeySetError::NotAKeySet);
    assert_eq!(KeySet::parse(&vec![b' '; MAX_TOKEN_BYTES * 64], allowed).unwrap_err(), KeySetError::TooLarge);
}

#[test]
fn a10_what_cannot_be_used_is_left_out_and_named_and_the_rest_serves() {
    let allowed = &[Algorithm::ES256, Algorithm::RS256];
    let public = |kid: &str| SigningKey::generate(Algorithm::ES256, kid).unwrap().jwks()["keys"][0].clone();
    let good = public("good");
    let mut off_curve = public("off");
    off_curve["x"] = off_curve["y"].clone();
    let mut private = public("private");
    private["d"] = json!("AAAA");
    let twin = public("private");
    let weak = json!({"kty": "RSA", "kid": "weak\u{1b}[31m", "n": "AQAB", "e": "AQAB"});
    let (one, two) = (public("twice"), public("twice"));
    for (others, left_out, usable) in [
        (json!([off_curve]), "kid `off`", 1),
        (json!([weak]), "kid `weak\\u{1b}[31m`", 1),
        (json!([private]), "kid `private`", 1),
        (json!([private, twin]), "kid `private`", 2),
        (json!([{"kty": "oct", "k": "AAAA", "kid": "shared"}]), "kid `shared`", 1),
        (json!([one, two]), "two different keys of the key set have the kid `twice`", 1),
    ] {
        let mut all = vec![good.clone()];
        all.extend(others.as_array().unwrap().iter().cloned());
        let set = KeySet::parse(json!({ "keys": all }).to_string().as_bytes(), allowed).unwrap();
        assert_eq!(set.len(), usable, "{others}");
        assert!(set.left_out()[0].to_string().contains(left_out), "{}", set.left_out()[0]);
        assert!(set.select(Some("good"), None, Algorithm::ES256).is_some());
        assert!(set.select(Some("twice"), None, Algorithm::ES256).is_none());
    }
    // Other uses and algorithms are no mistake, and say nothing.
    let mut encrypts = public("enc");
    encrypts["use"] = json!("enc");
    let mut signs_only = public("ops");
    signs_only["key_ops"] = json!(["deriveBits"]);
    let mut other = public("alg");
    other["alg"] = json!("ES384");
    let all = json!({"keys": [good, encrypts, signs_only, other, 1, "x"]}).to_string();
    let set = KeySet::parse(all.as_bytes(), allowed).unwrap();
    assert_eq!((set.len(), set.left_out().len()), (1, 0));
    // The operator's own keys are strict as ever.
    assert!(KeySet::parse_secret(json!({"keys": [good, off_curve]}).to_string().as_bytes(), allowed).is_err());
    let many = json!({"keys": (0..257).map(|_| good.clone()).collect::<Vec<_>>()}).to_string();
    assert_eq!(KeySet::parse(many.as_bytes(), allowed).unwrap_err(), KeySetError::TooLarge);
}
