//! DPoP proofs (RFC 9449 §4): a token that brings its own key, and is worth only what that key is bound to.

use idm_types::Algorithm;

use crate::{Claims, Jwk, Jws, KeySet, TokenError};

/// Algorithms a proof may be signed with: the asymmetric ones.
pub const PROOF_ALGORITHMS: &[Algorithm] = &[
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::ES512,
    Algorithm::EdDSA,
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// A proof whose signature was checked with the key it names. That says who holds the key, and nothing more.
#[derive(Debug)]
pub struct Proof {
    /// The claims: `jti`, `htm`, `htu`, `iat`, `ath`.
    pub claims: Claims,
    /// The SHA-256 thumbprint of the key (RFC 7638).
    pub thumbprint: String,
}

impl Proof {
    /// Checks form, type and signature (RFC 9449 §4.3, steps 2 to 7).
    pub fn verify(text: &str) -> Result<Self, TokenError> {
        const NO_KEY: TokenError = TokenError::Malformed("a proof must hold the public `jwk` it is signed with");
        let jws = Jws::parse(text)?;
        if !jws.typ().is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")) {
            return Err(TokenError::WrongType(jws.typ().unwrap_or("(none)").to_owned()));
        }
        let jwk = jws.jwk().cloned().and_then(Jwk::from_value).filter(|jwk| !jwk.is_secret()).ok_or(NO_KEY)?;
        let thumbprint = jwk.thumbprint().ok_or(NO_KEY)?;
        let keys = KeySet::of_key(&jwk, PROOF_ALGORITHMS).map_err(|_| NO_KEY)?;
        let claims = Claims::new(crate::jws::object(jws.payload())?);
        jws.verify(&keys, PROOF_ALGORITHMS)?;
        Ok(Self { claims, thumbprint })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::SigningKey;

    fn proof(key: &SigningKey, typ: &str, jwk: Value) -> String {
        key.sign_with_header(&json!({"typ": typ, "alg": key.algorithm().name(), "jwk": jwk}), &json!({"jti": "1"}))
            .unwrap()
    }

    #[test]
    fn a_proof_is_good_for_the_key_it_was_signed_with() {
        for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::PS256] {
            let key = SigningKey::generate(algorithm, "k").unwrap();
            let public = key.public().unwrap();
            let verified = Proof::verify(&proof(&key, "dpop+jwt", public.reveal())).unwrap();
            assert_eq!((Some(verified.thumbprint), verified.claims.text("jti")), (public.thumbprint(), Some("1")));
            let other = SigningKey::generate(algorithm, "k").unwrap();
            assert!(Proof::verify(&proof(&key, "dpop+jwt", other.public().unwrap().reveal())).is_err());
            assert!(matches!(Proof::verify(&proof(&key, "JWT", public.reveal())), Err(TokenError::WrongType(_))));
            let private: Value = serde_json::from_str(key.reveal_jwk()).unwrap();
            assert!(Proof::verify(&proof(&key, "dpop+jwt", private)).is_err(), "a private key in a proof is a leak");
            assert!(Proof::verify(&key.sign(&json!({})).unwrap()).is_err());
        }
        let hmac = SigningKey::generate(Algorithm::HS256, "k").unwrap();
        assert!(Proof::verify(&proof(&hmac, "dpop+jwt", serde_json::from_str(hmac.reveal_jwk()).unwrap())).is_err());
    }
}
