//! ECDH-ES (RFC 7518 §4.6, RFC 8037 §3.2): a shared secret with an ephemeral key, and the key made of it.

use aws_lc_rs::agreement::{self as ag, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use serde_json::{Value, json};

use crate::{JweError, Jwk, JwkError, numbers, to_base64url};

/// A curve by its names and sizes.
fn curve(jwk: &Jwk) -> Option<(&'static ag::Algorithm, usize)> {
    match (jwk.text("kty")?, jwk.text("crv")?) {
        ("EC", "P-256") => Some((&ag::ECDH_P256, 32)),
        ("EC", "P-384") => Some((&ag::ECDH_P384, 48)),
        ("EC", "P-521") => Some((&ag::ECDH_P521, 66)),
        ("OKP", "X25519") => Some((&ag::X25519, 32)),
        _ => None,
    }
}

pub(crate) fn is_agreement_key(jwk: &Jwk) -> bool {
    curve(jwk).is_some()
}

const UNFIT: JwkError = JwkError::Broken("ECDH-ES needs a key on P-256, P-384, P-521 or X25519");

fn public_bytes(jwk: &Jwk) -> Result<Vec<u8>, JwkError> {
    let (algorithm, size) = curve(jwk).ok_or(UNFIT)?;
    if algorithm == &ag::X25519 { numbers::okp(jwk, "x") } else { numbers::point(jwk, size) }
}

/// Reads a private agreement key; public and private part must be there.
pub(crate) fn private(jwk: &Jwk) -> Result<PrivateKey, JwkError> {
    let (algorithm, size) = curve(jwk).ok_or(UNFIT)?;
    public_bytes(jwk)?;
    let d = numbers::scalar(jwk, size)?;
    PrivateKey::from_private_key(algorithm, &d).map_err(|_| JwkError::Broken("`d` is not a key of this curve"))
}

/// The shared secret of our private key and their public one, which must lie on the same curve.
pub(crate) fn shared_secret(ours: &PrivateKey, theirs: &Jwk) -> Result<Vec<u8>, JweError> {
    let (algorithm, _) = curve(theirs).ok_or(JweError::CannotDecrypt)?;
    let point = public_bytes(theirs).map_err(|_| JweError::CannotDecrypt)?;
    if ours.algorithm() != algorithm {
        return Err(JweError::CannotDecrypt);
    }
    // The library refuses points that are not on the curve, and an all-zero X25519 result.
    ag::agree(ours, UnparsedPublicKey::new(algorithm, point), JweError::CannotDecrypt, |secret| Ok(secret.to_vec()))
}

/// A new ephemeral key on the recipient's curve: the key, and its public part as `epk`.
pub(crate) fn ephemeral(recipient: &Jwk) -> Result<(PrivateKey, Value), JweError> {
    let (algorithm, _) = curve(recipient).ok_or(JweError::CannotEncrypt)?;
    let key = PrivateKey::generate(algorithm).map_err(|_| JweError::CannotEncrypt)?;
    let public = key.compute_public_key().map_err(|_| JweError::CannotEncrypt)?;
    let bytes = public.as_ref();
    let epk = if algorithm == &ag::X25519 {
        json!({"kty": "OKP", "crv": "X25519", "x": to_base64url(bytes)})
    } else {
        let (x, y) = bytes.get(1..).unwrap_or_default().split_at(bytes.len() / 2);
        json!({"kty": "EC", "crv": recipient.text("crv"), "x": to_base64url(x), "y": to_base64url(y)})
    };
    Ok((key, epk))
}

/// The Concat KDF of RFC 7518 §4.6.2: one-step key derivation with SHA-256.
pub(crate) fn derive(
    secret: &[u8],
    algorithm_id: &str,
    apu: &[u8],
    apv: &[u8],
    bytes: usize,
) -> Result<Vec<u8>, JweError> {
    let mut info = Vec::new();
    for part in [algorithm_id.as_bytes(), apu, apv] {
        info.extend_from_slice(&(part.len() as u32).to_be_bytes());
        info.extend_from_slice(part);
    }
    info.extend_from_slice(&(bytes as u32 * 8).to_be_bytes());
    let mut key = vec![0; bytes];
    let sha256 = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or(JweError::CannotDecrypt)?;
    sskdf_digest(sha256, secret, &info, &mut key).map_err(|_| JweError::CannotDecrypt)?;
    Ok(key)
}
