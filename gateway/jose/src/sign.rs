//! Minting: for the demo's identity provider, `idm token mint` and tests.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use idm_types::Redacted;
use serde_json::{Value, json};

use crate::to_base64url;

/// Why a key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The random source or the crypto library failed.
    #[error("the crypto library refused to make or use the key")]
    Crypto,
    /// Not the PKCS#8 of a P-256 key.
    #[error("not a PKCS#8 document of a P-256 key")]
    NotAKey,
}

/// An ES256 key that signs tokens.
pub struct SigningKey {
    kid: String,
    pair: EcdsaKeyPair,
    pkcs8: Redacted<Vec<u8>>,
}

impl SigningKey {
    /// Makes a new key.
    pub fn generate(kid: &str) -> Result<Self, SigningError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(|_| SigningError::Crypto)?;
        Self::from_pkcs8(kid, pkcs8.as_ref())
    }

    /// Reads a key that [`Self::to_pkcs8`] wrote.
    pub fn from_pkcs8(kid: &str, pkcs8: &[u8]) -> Result<Self, SigningError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| SigningError::NotAKey)?;
        Ok(Self { kid: kid.to_owned(), pair, pkcs8: Redacted::new(pkcs8.to_vec()) })
    }

    /// The private key as PKCS#8, to be stored where only its owner reads.
    pub fn to_pkcs8(&self) -> &[u8] {
        self.pkcs8.reveal()
    }

    /// The public key as a JWKS.
    pub fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": to_base64url(x), "y": to_base64url(y)}]})
    }

    /// Signs `claims` as a JWT.
    pub fn sign(&self, claims: &Value) -> Result<String, SigningError> {
        self.sign_with_header(&json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}), claims)
    }

    /// Signs under a header of the caller's making, right or wrong: for tests of what must be refused.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> Result<String, SigningError> {
        let signed = format!("{}.{}", to_base64url(header.to_string().as_bytes()), to_base64url(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| SigningError::Crypto)?;
        Ok(format!("{signed}.{}", to_base64url(signature.as_ref())))
    }
}
