//! Keys in the forms that other programs write: PKCS#8, PKCS#1, SEC1 and X.509.

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

/// One private key as people keep them: a JWK, or PEM with PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) or SEC1 (RFC 5915).
pub fn private_key(text: &str) -> Option<Jwk> {
    if text.trim_start().starts_with('{') {
        return Jwk::parse(text.as_bytes()).ok();
    }
    // `openssl ecparam -genkey` writes the curve in front of the key, which names it again.
    let text = match text.trim_start().strip_prefix("-----BEGIN EC PARAMETERS-----") {
        Some(rest) => rest.split_once("-----END EC PARAMETERS-----")?.1,
        None => text,
    };
    PrivateKeyForm::ALL.iter().find_map(|form| form.jwk(&pem_block(text, form.label())?).ok())
}

/// The DER forms in which PEM files hold private keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateKeyForm {
    /// `PRIVATE KEY`, RFC 5958: any kind of key.
    Pkcs8,
    /// `RSA PRIVATE KEY`, RFC 8017 §A.1.2.
    Pkcs1,
    /// `EC PRIVATE KEY`, RFC 5915.
    Sec1,
}

impl PrivateKeyForm {
    /// Every form.
    pub const ALL: &[Self] = &[Self::Pkcs8, Self::Pkcs1, Self::Sec1];

    /// The label of its PEM block.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
        }
    }

    /// The key that is written so.
    pub fn jwk(self, der: &[u8]) -> Result<Jwk, JwkError> {
        match self {
            Self::Pkcs8 => jwk_of_pkcs8(der),
            Self::Pkcs1 => jwk_of_pkcs1(der),
            Self::Sec1 => jwk_of_ec(|algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der))
                .ok_or(JwkError::Broken("it is not a private key of P-256, P-384 or P-521 as RFC 5915 writes it")),
        }
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
        return jwk_of_pkcs1(info.private_key);
    }
    if let Some(jwk) = jwk_of_ec(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der)) {
        return Ok(jwk);
    }
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NOT_PKCS8)?;
    let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| NOT_PKCS8)?;
    Ok(Jwk::from_members(json!({
        "kty": "OKP", "crv": "Ed25519",
        "x": to_base64url(pair.public_key().as_ref()), "d": to_base64url(seed.as_ref()),
    })))
}

/// Reads an `RSAPrivateKey` (RFC 8017 §A.1.2).
fn jwk_of_pkcs1(der: &[u8]) -> Result<Jwk, JwkError> {
    let key = pkcs1::RsaPrivateKey::from_der(der)
        .map_err(|_| JwkError::Broken("it is not a private key of RSA as RFC 8017 writes it"))?;
    let text = |number: pkcs1::UintRef<'_>| to_base64url(number.as_bytes());
    Ok(Jwk::from_members(json!({
        "kty": "RSA", "n": text(key.modulus), "e": text(key.public_exponent), "d": text(key.private_exponent),
        "p": text(key.prime1), "q": text(key.prime2), "dp": text(key.exponent1), "dq": text(key.exponent2),
        "qi": text(key.coefficient),
    })))
}

/// The key of the first curve with which `read` takes it.
fn jwk_of_ec(
    read: impl Fn(&'static sig::EcdsaSigningAlgorithm) -> Result<EcdsaKeyPair, aws_lc_rs::error::KeyRejected>,
) -> Option<Jwk> {
    let curves = [
        ("P-256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", &sig::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", &sig::ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    let (curve, pair) = curves.iter().find_map(|(curve, algorithm)| Some((curve, read(algorithm).ok()?)))?;
    let d = pair.private_key().as_be_bytes().ok()?;
    let point = pair.public_key().as_ref().get(1..)?;
    let (x, y) = point.split_at(point.len() / 2);
    Some(Jwk::from_members(json!({
        "kty": "EC", "crv": curve, "x": to_base64url(x), "y": to_base64url(y), "d": to_base64url(d.as_ref()),
    })))
}
