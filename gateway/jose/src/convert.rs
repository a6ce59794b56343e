//! Keys in the forms that other programs write: PKCS#8 and X.509.

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use idm_types::{Algorithm, Redacted};
use pkcs1::der::Decode;
use serde_json::json;

use crate::sign::{Signer, signer};
use crate::{Jwk, JwkError, SigningError, numbers, to_base64url};

/// The bytes of a PEM block with this label (RFC 7468); `None` when the text is not exactly one.
pub fn pem_block(text: &str, label: &str) -> Option<Vec<u8>> {
    let inside = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let body: String = inside.split_whitespace().collect();
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).ok()
}

/// One private key as people keep them: a JWK, or PEM with PKCS#8.
pub fn private_key(text: &str) -> Option<Jwk> {
    if text.trim_start().starts_with('{') {
        Jwk::parse(text.as_bytes()).ok()
    } else {
        jwk_of_pkcs8(&pem_block(text, "PRIVATE KEY")?).ok()
    }
}

/// The private key as PKCS#8 (RFC 5958).
pub fn pkcs8_of_jwk(jwk: &Jwk) -> Result<Redacted<Vec<u8>>, JwkError> {
    const UNFIT: JwkError =
        JwkError::Broken("only RSA, EC (P-256, P-384, P-521) and Ed25519 keys have a PKCS#8 form here");
    let (kty, crv) = (jwk.text("kty").unwrap_or_default(), jwk.text("crv").unwrap_or_default());
    let algorithm = match (kty, crv) {
        ("RSA", _) => return numbers::pkcs8_of_rsa(&numbers::rsa_private(jwk)?).map(Redacted::new),
        ("EC", "P-256") => Algorithm::ES256,
        ("EC", "P-384") => Algorithm::ES384,
        ("EC", "P-521") => Algorithm::ES512,
        ("OKP", "Ed25519") => Algorithm::EdDSA,
        _ => return Err(UNFIT),
    };
    let document = match signer(jwk, algorithm) {
        Ok(Signer::Ec(pair)) => pair.to_pkcs8v1(),
        Ok(Signer::Ed(pair)) => pair.to_pkcs8v1(),
        Err(SigningError::Key(error)) => return Err(error),
        _ => return Err(UNFIT),
    };
    document.map(|document| Redacted::new(document.as_ref().to_vec())).map_err(|_| UNFIT)
}

/// Reads a public key as X.509 writes it (`SubjectPublicKeyInfo`, RFC 5280 §4.1.2.7).
pub fn jwk_of_spki(der: &[u8]) -> Result<Jwk, JwkError> {
    use pkcs8::ObjectIdentifier as Oid;
    use pkcs8::spki::SubjectPublicKeyInfoRef;
    const UNFIT: JwkError = JwkError::Broken("it is not a public key of RSA, EC (P-256, P-384, P-521) or Ed25519");
    const EC: Oid = Oid::new_unwrap("1.2.840.10045.2.1");
    const ED25519: Oid = Oid::new_unwrap("1.3.101.112");
    const CURVES: [(Oid, &str); 3] = [
        (Oid::new_unwrap("1.2.840.10045.3.1.7"), "P-256"),
        (Oid::new_unwrap("1.3.132.0.34"), "P-384"),
        (Oid::new_unwrap("1.3.132.0.35"), "P-521"),
    ];
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| UNFIT)?;
    let key = info.subject_public_key.as_bytes().ok_or(UNFIT)?;
    if info.algorithm.oid == pkcs1::ALGORITHM_OID {
        let key = pkcs1::RsaPublicKey::from_der(key).map_err(|_| UNFIT)?;
        return Ok(Jwk::from_members(json!({
            "kty": "RSA",
            "n": to_base64url(key.modulus.as_bytes()), "e": to_base64url(key.public_exponent.as_bytes()),
        })));
    }
    if info.algorithm.oid == ED25519 {
        return Ok(Jwk::from_members(json!({"kty": "OKP", "crv": "Ed25519", "x": to_base64url(key)})));
    }
    let named = info.algorithm.parameters_oid().ok().filter(|_| info.algorithm.oid == EC);
    let (_, curve) = CURVES.iter().find(|(oid, _)| Some(*oid) == named).ok_or(UNFIT)?;
    let point = key.strip_prefix(&[4]).ok_or(UNFIT)?;
    let (x, y) = point.split_at(point.len() / 2);
    Ok(Jwk::from_members(json!({"kty": "EC", "crv": curve, "x": to_base64url(x), "y": to_base64url(y)})))
}

/// Reads a PKCS#8 private key (RFC 5958) of RSA, EC or Ed25519.
pub fn jwk_of_pkcs8(der: &[u8]) -> Result<Jwk, JwkError> {
    const NOT_PKCS8: JwkError =
        JwkError::Broken("it is not a PKCS#8 private key of RSA, EC (P-256, P-384, P-521) or Ed25519");
    let info = pkcs8::PrivateKeyInfo::from_der(der).map_err(|_| NOT_PKCS8)?;
    if info.algorithm.oid == pkcs1::ALGORITHM_OID {
        let key = pkcs1::RsaPrivateKey::from_der(info.private_key).map_err(|_| NOT_PKCS8)?;
        let text = |number: pkcs1::UintRef<'_>| to_base64url(number.as_bytes());
        return Ok(Jwk::from_members(json!({
            "kty": "RSA", "n": text(key.modulus), "e": text(key.public_exponent), "d": text(key.private_exponent), "p": text(key.prime1),
            "q": text(key.prime2), "dp": text(key.exponent1), "dq": text(key.exponent2), "qi": text(key.coefficient),
        })));
    }
    for (curve, algorithm) in [
        ("P-256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", &sig::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", &sig::ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, der) {
            let d = pair.private_key().as_be_bytes().map_err(|_| NOT_PKCS8)?;
            let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
            let (x, y) = point.split_at(point.len() / 2);
            return Ok(Jwk::from_members(json!({
                "kty": "EC", "crv": curve,
                "x": to_base64url(x), "y": to_base64url(y), "d": to_base64url(d.as_ref()),
            })));
        }
    }
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NOT_PKCS8)?;
    let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| NOT_PKCS8)?;
    Ok(Jwk::from_members(json!({
        "kty": "OKP", "crv": "Ed25519",
        "x": to_base64url(pair.public_key().as_ref()), "d": to_base64url(seed.as_ref()),
    })))
}
