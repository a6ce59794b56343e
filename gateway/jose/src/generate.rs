//! New keys.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use idm_types::Algorithm;
use serde_json::json;

use crate::{Jwk, JwkError, SigningError, jwk_of_pkcs8, to_base64url};

/// A new key for an algorithm.
pub(crate) fn generate(algorithm: Algorithm) -> Result<Jwk, SigningError> {
    use Algorithm::*;
    match algorithm {
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => generate_rsa(2048),
        ES256 => generate_ec("P-256"),
        ES384 => generate_ec("P-384"),
        ES512 => generate_ec("P-521"),
        EdDSA => generate_ed25519(),
        HS256 => generate_octets(32),
        HS384 => generate_octets(48),
        HS512 => generate_octets(64),
    }
}

/// A new RSA key of 2048, 3072, 4096 or 8192 bits.
pub fn generate_rsa(bits: u32) -> Result<Jwk, SigningError> {
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        8192 => KeySize::Rsa8192,
        _ => return Err(JwkError::Broken("RSA keys are made with 2048, 3072, 4096 or 8192 bits").into()),
    };
    let pair = RsaKeyPair::generate(size).map_err(|_| SigningError::Crypto)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SigningError::Crypto)?;
    Ok(jwk_of_pkcs8(der.as_ref())?)
}

/// A new EC key on `P-256`, `P-384` or `P-521`.
pub fn generate_ec(curve: &str) -> Result<Jwk, SigningError> {
    let algorithm = match curve {
        "P-256" => &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
        "P-384" => &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
        "P-521" => &sig::ECDSA_P521_SHA512_FIXED_SIGNING,
        _ => return Err(JwkError::Broken("EC keys are made on P-256, P-384 or P-521").into()),
    };
    let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| SigningError::Crypto)?;
    let d = pair.private_key().as_be_bytes().map_err(|_| SigningError::Crypto)?;
    let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    let jwk =
        json!({"kty": "EC", "crv": curve, "x": to_base64url(x), "y": to_base64url(y), "d": to_base64url(d.as_ref())});
    Ok(Jwk::from_members(jwk))
}

/// A new Ed25519 key.
pub fn generate_ed25519() -> Result<Jwk, SigningError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| SigningError::Crypto)?;
    let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| SigningError::Crypto)?;
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": to_base64url(pair.public_key().as_ref()),
        "d": to_base64url(seed.as_ref())});
    Ok(Jwk::from_members(jwk))
}

/// A new X25519 key, for ECDH-ES.
pub fn generate_x25519() -> Result<Jwk, SigningError> {
    use aws_lc_rs::agreement::{PrivateKey, X25519};
    use aws_lc_rs::encoding::Curve25519SeedBin;
    let key = PrivateKey::generate(&X25519).map_err(|_| SigningError::Crypto)?;
    let public = key.compute_public_key().map_err(|_| SigningError::Crypto)?;
    let seed: Curve25519SeedBin<'_> = key.as_be_bytes().map_err(|_| SigningError::Crypto)?;
    let jwk =
        json!({"kty": "OKP", "crv": "X25519", "x": to_base64url(public.as_ref()), "d": to_base64url(seed.as_ref())});
    Ok(Jwk::from_members(jwk))
}

/// A new symmetric key of this many random bytes.
pub fn generate_octets(bytes: usize) -> Result<Jwk, SigningError> {
    let mut key = vec![0; bytes];
    SystemRandom::new().fill(&mut key).map_err(|_| SigningError::Crypto)?;
    Ok(Jwk::from_members(json!({"kty": "oct", "k": to_base64url(&key)})))
}
