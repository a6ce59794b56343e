//! Signing keys, bound to one algorithm, and what they sign.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding};
use idm_types::{Algorithm, Redacted};
use serde_json::{Map, Value, json};

use crate::generate::generate;
use crate::{Jwk, JwkError, key_set, numbers, to_base64url};

/// Why a key could not be made, read or used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SigningError {
    /// The random source or the crypto library failed.
    #[error("the crypto library refused to make or use the key")]
    Crypto,
    /// The key is not usable for signing with this algorithm.
    #[error(transparent)]
    Key(#[from] JwkError),
}

pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Mac(Box<hmac::Key>),
}

/// A private key that signs with one algorithm.
pub struct SigningKey {
    algorithm: Algorithm,
    kid: Option<String>,
    public: Option<Jwk>,
    secret: Redacted<String>,
    signer: Signer,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}, kid {:?})", self.algorithm, self.kid)
    }
}

impl SigningKey {
    /// Makes a new key: RSA of 2048 bits, the curve of the algorithm, or as many random bytes as the hash has.
    pub fn generate(algorithm: Algorithm, kid: &str) -> Result<Self, SigningError> {
        let jwk = generate(algorithm)?.named(kid).with("use", "sig").with("alg", algorithm.name());
        Self::from_jwk(&jwk, algorithm)
    }

    /// Binds a private (or symmetric) key to one algorithm.
    pub fn from_jwk(jwk: &Jwk, algorithm: Algorithm) -> Result<Self, SigningError> {
        if !key_set::fits(jwk, algorithm, "sign") {
            return Err(JwkError::Unfit { key: jwk.describe(), algorithm: algorithm.name() }.into());
        }
        let signer = signer(jwk, algorithm)?;
        let (kid, public) = (jwk.kid().map(str::to_owned), jwk.public());
        Ok(Self { algorithm, kid, public, secret: Redacted::new(jwk.reveal().to_string()), signer })
    }

    /// The algorithm it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's name.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The private key as a JWK, to be stored where only its owner reads.
    pub fn reveal_jwk(&self) -> &str {
        self.secret.reveal()
    }

    /// The public part; `None` for symmetric keys.
    pub fn public(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// The public key as a JWKS; empty for symmetric keys.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.public.iter().map(Jwk::reveal).collect::<Vec<_>>()})
    }

    /// The raw signature of RFC 7518 §3 over `message`.
    pub fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).map_err(|_| SigningError::Crypto)?;
                Ok(signature)
            }
            Signer::Ec(pair) => Ok(pair.sign(&random, message).map_err(|_| SigningError::Crypto)?.as_ref().to_vec()),
            Signer::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Signer::Mac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }

    /// Signs `claims` as a JWT.
    pub fn sign(&self, claims: &Value) -> Result<String, SigningError> {
        let mut header = self.header();
        header.insert("typ".into(), "JWT".into());
        self.sign_with_header(&Value::Object(header), claims)
    }

    /// `alg` and `kid`: the least that a header of this key says.
    pub fn header(&self) -> Map<String, Value> {
        let kid = self.kid.as_deref().map(|kid| ("kid".to_owned(), Value::from(kid)));
        [("alg".to_owned(), Value::from(self.algorithm.name()))].into_iter().chain(kid).collect()
    }

    /// Signs under a header of the caller's making, right or wrong.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> Result<String, SigningError> {
        self.sign_compact(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// The compact serialization (RFC 7515 §7.1) of exactly these header and payload bytes.
    pub fn sign_compact(&self, header: &[u8], payload: &[u8]) -> Result<String, SigningError> {
        let mut out = format!("{}.{}", to_base64url(header), to_base64url(payload));
        let signature = self.sign_bytes(out.as_bytes())?;
        out.push('.');
        out.push_str(&to_base64url(&signature));
        Ok(out)
    }
}

/// One signature over a payload, to be written in the serialization that is wanted.
pub struct Signed {
    protected: String,
    payload: String,
    signature: String,
}

impl SigningKey {
    /// Signs under this protected header (RFC 7515 §5.1).
    pub fn sign_payload(&self, header: &Map<String, Value>, payload: &[u8]) -> Result<Signed, SigningError> {
        let protected = to_base64url(Value::Object(header.clone()).to_string().as_bytes());
        let payload = to_base64url(payload);
        let signature = to_base64url(&self.sign_bytes(format!("{protected}.{payload}").as_bytes())?);
        Ok(Signed { protected, payload, signature })
    }
}

impl Signed {
    /// The compact serialization (RFC 7515 §7.1).
    pub fn compact(&self) -> String {
        format!("{}.{}.{}", self.protected, self.payload, self.signature)
    }

    /// The compact serialization whose payload travels apart (RFC 7515 appendix F).
    pub fn detached(&self) -> String {
        format!("{}..{}", self.protected, self.signature)
    }

    /// The flattened JSON serialization (RFC 7515 §7.2.2).
    pub fn flattened(&self) -> Value {
        json!({"payload": self.payload, "protected": self.protected, "signature": self.signature})
    }
}

pub(crate) fn signer(jwk: &Jwk, algorithm: Algorithm) -> Result<Signer, SigningError> {
    use Algorithm::*;
    let rsa = |encoding: &'static dyn RsaEncoding| {
        let der = numbers::rsa_private(jwk)?;
        let pair = RsaKeyPair::from_der(&der).map_err(|_| JwkError::Broken("its numbers are not an RSA key"))?;
        Ok(Signer::Rsa(Box::new(pair), encoding))
    };
    let ec = |algorithm: &'static EcdsaSigningAlgorithm, size| {
        let (d, point) = (numbers::scalar(jwk, size)?, numbers::point(jwk, size)?);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &d, &point);
        Ok(Signer::Ec(pair.map_err(|_| JwkError::Broken("`d` does not belong to `x` and `y`"))?))
    };
    match algorithm {
        RS256 => rsa(&sig::RSA_PKCS1_SHA256),
        RS384 => rsa(&sig::RSA_PKCS1_SHA384),
        RS512 => rsa(&sig::RSA_PKCS1_SHA512),
        PS256 => rsa(&sig::RSA_PSS_SHA256),
        PS384 => rsa(&sig::RSA_PSS_SHA384),
        PS512 => rsa(&sig::RSA_PSS_SHA512),
        ES256 => ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING, 32),
        ES384 => ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING, 48),
        ES512 => ec(&sig::ECDSA_P521_SHA512_FIXED_SIGNING, 66),
        EdDSA => {
            jwk.get("d").ok_or(JwkError::NotPrivate)?;
            let (d, x) = (numbers::okp(jwk, "d")?, numbers::okp(jwk, "x")?);
            let pair = Ed25519KeyPair::from_seed_and_public_key(&d, &x);
            Ok(Signer::Ed(pair.map_err(|_| JwkError::Broken("`d` does not belong to `x`"))?))
        }
        HS256 | HS384 | HS512 => Ok(Signer::Mac(Box::new(key_set::mac_key(jwk, algorithm)?))),
    }
}
