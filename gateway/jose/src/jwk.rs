//! Key sets (RFC 7517). Every key leaves here bound to the algorithms it may verify.

use aws_lc_rs::signature::{self as sig, ParsedPublicKey, VerificationAlgorithm};
use idm_types::Algorithm;
use serde_json::Value;

use crate::{base64url, parse_strict};

/// Larger key sets are refused before they are parsed.
pub const MAX_JWKS_BYTES: usize = 512 * 1024;
const MAX_KEYS: usize = 256;

/// Why a key set was refused as a whole. The last good one stays in use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// Too many bytes or keys.
    #[error("the key set is larger than 512 KiB or 256 keys")]
    TooLarge,
    /// Not JSON, or JSON with duplicate members.
    #[error("the key set is not JSON: {0}")]
    NotJson(String),
    /// JSON, but not a JWKS.
    #[error("the key set must be an object with a `keys` list")]
    NotAKeySet,
    /// Someone published a private or symmetric key. Nothing of the set can be trusted any more.
    #[error("the key set holds a private or symmetric key (key {position}): publish public keys only and replace that key")]
    PrivateKey {
        /// Counted from 0.
        position: usize,
    },
    /// Two usable keys share a `kid` and an algorithm, so a token cannot say which one it means.
    #[error("two keys of the key set have the kid `{0}`")]
    DuplicateKid(String),
    /// A key with an allowed algorithm could not be read.
    #[error("key {position} of the key set is broken: {problem}")]
    BrokenKey {
        /// Counted from 0.
        position: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Nothing to verify with.
    #[error("the key set has no key for any allowed algorithm")]
    NoUsableKey,
}

#[derive(Debug)]
pub(crate) struct BoundKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl BoundKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

/// The usable keys of one issuer, each bound to one algorithm.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<BoundKey>,
}

impl KeySet {
    /// Reads a JWKS and binds each key to the `allowed` algorithms it fits.
    ///
    /// Keys for other purposes or of unknown types are skipped, as RFC 7517 §5 asks; a private or
    /// symmetric key, a duplicate `kid`, or a broken key refuses the whole set.
    pub fn parse(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        if json.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document = parse_strict(json).map_err(|e| KeySetError::NotJson(e.to_string()))?;
        let Some(entries) = document.get("keys").and_then(Value::as_array) else {
            return Err(KeySetError::NotAKeySet);
        };
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooLarge);
        }
        let mut keys: Vec<BoundKey> = Vec::new();
        for (position, jwk) in entries.iter().enumerate() {
            if holds_private_part(jwk) {
                return Err(KeySetError::PrivateKey { position });
            }
            let broken = |problem| KeySetError::BrokenKey { position, problem };
            for &algorithm in allowed.iter().filter(|&&a| fits(jwk, a)) {
                let kid = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
                if kid.is_some() && keys.iter().any(|k| k.kid == kid && k.algorithm == algorithm) {
                    return Err(KeySetError::DuplicateKid(kid.unwrap_or_default()));
                }
                keys.push(BoundKey { kid, algorithm, key: load(jwk, algorithm).map_err(broken)? });
            }
        }
        if keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// How many key and algorithm pairs can verify.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never true: a set without usable keys is refused by [`Self::parse`].
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key a token means: by `kid`, or the only key of its algorithm when it names none.
    pub(crate) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&BoundKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

fn holds_private_part(jwk: &Value) -> bool {
    let symmetric = jwk.get("kty").and_then(Value::as_str) == Some("oct");
    symmetric || ["d", "p", "q", "dp", "dq", "qi", "k", "oth", "priv"].iter().any(|member| jwk.get(member).is_some())
}

/// Whether the key may verify `algorithm`: by type and curve, and by `alg`, `use` and `key_ops` where given.
fn fits(jwk: &Value, algorithm: Algorithm) -> bool {
    use Algorithm::*;
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let kind = match algorithm {
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => text("kty") == Some("RSA"),
        ES256 => text("kty") == Some("EC") && text("crv") == Some("P-256"),
        ES384 => text("kty") == Some("EC") && text("crv") == Some("P-384"),
        ES512 => text("kty") == Some("EC") && text("crv") == Some("P-521"),
        EdDSA => text("kty") == Some("OKP") && text("crv") == Some("Ed25519"),
    };
    let ops_allow = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
    let named = match jwk.get("alg") {
        None => true,
        Some(alg) => alg == algorithm.name() || algorithm == EdDSA && alg == "Ed25519",
    };
    kind && named && jwk.get("use").is_none_or(|purpose| purpose == "sig") && jwk.get("key_ops").is_none_or(ops_allow)
}

fn load(jwk: &Value, algorithm: Algorithm) -> Result<ParsedPublicKey, &'static str> {
    use Algorithm::*;
    let member = |name: &str| jwk.get(name).and_then(Value::as_str).and_then(base64url);
    let (verifier, bytes): (&'static dyn VerificationAlgorithm, Vec<u8>) = match algorithm {
        RS256 => (&sig::RSA_PKCS1_2048_8192_SHA256, rsa(jwk)?),
        RS384 => (&sig::RSA_PKCS1_2048_8192_SHA384, rsa(jwk)?),
        RS512 => (&sig::RSA_PKCS1_2048_8192_SHA512, rsa(jwk)?),
        PS256 => (&sig::RSA_PSS_2048_8192_SHA256, rsa(jwk)?),
        PS384 => (&sig::RSA_PSS_2048_8192_SHA384, rsa(jwk)?),
        PS512 => (&sig::RSA_PSS_2048_8192_SHA512, rsa(jwk)?),
        ES256 => (&sig::ECDSA_P256_SHA256_FIXED, point(jwk, 32)?),
        ES384 => (&sig::ECDSA_P384_SHA384_FIXED, point(jwk, 48)?),
        ES512 => (&sig::ECDSA_P521_SHA512_FIXED, point(jwk, 66)?),
        EdDSA => (&sig::ED25519, member("x").filter(|x| x.len() == 32).ok_or("`x` must be 32 bytes of base64url")?),
    };
    ParsedPublicKey::new(verifier, bytes).map_err(|_| "its numbers are not a key that this algorithm accepts (RSA needs 2048 to 8192 bits)")
}

/// `n` and `e` as the DER of an `RSAPublicKey` (RFC 8017 §A.1.1).
fn rsa(jwk: &Value) -> Result<Vec<u8>, &'static str> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str).and_then(base64url).filter(|bytes| !bytes.is_empty());
    let (n, e) = (member("n").ok_or("`n` must be base64url")?, member("e").ok_or("`e` must be base64url")?);
    if bits(&n) < 2048 {
        return Err("RSA keys must have at least 2048 bits");
    }
    // e = 1 makes the "signature" the padded message itself.
    if e.last().is_none_or(|low| low % 2 == 0) || bits(&e) < 2 {
        return Err("`e` must be an odd number greater than 1");
    }
    let body = [der(0x02, &unsigned(&n)), der(0x02, &unsigned(&e))].concat();
    Ok(der(0x30, &body))
}

fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let mut rest = significant.clone();
    rest.next().map_or(0, |top| significant.count() * 8 - top.leading_zeros() as usize)
}

fn unsigned(number: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    if out.first().is_none_or(|top| top & 0x80 != 0) {
        out.insert(0, 0);
    }
    out
}

fn der(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        short @ 0..=127 => out.push(short as u8),
        middle @ 128..=255 => out.extend([0x81, middle as u8]),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend_from_slice(body);
    out
}

/// `x` and `y`, each exactly `size` bytes (RFC 7518 §6.2.1.2), as an uncompressed point.
fn point(jwk: &Value, size: usize) -> Result<Vec<u8>, &'static str> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str).and_then(base64url).filter(|bytes| bytes.len() == size);
    let (Some(x), Some(y)) = (member("x"), member("y")) else {
        return Err("`x` and `y` must be base64url of the curve's full size");
    };
    Ok([&[4u8][..], &x, &y].concat())
}
