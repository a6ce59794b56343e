//! From the numbers of a JWK to the forms that the crypto library reads, checked on the way.

use pkcs1::UintRef;
use pkcs1::der::Encode;

use crate::{Jwk, JwkError};

const BAD_DER: JwkError = JwkError::Broken("its numbers cannot be encoded");

fn number(jwk: &Jwk, name: &'static str, problem: &'static str) -> Result<Vec<u8>, JwkError> {
    jwk.bytes(name).filter(|bytes| !bytes.is_empty()).ok_or(JwkError::Broken(problem))
}

/// `n` and `e` as the DER of an `RSAPublicKey` (RFC 8017 §A.1.1).
pub(crate) fn rsa_public(jwk: &Jwk) -> Result<Vec<u8>, JwkError> {
    let (n, e) = (
        number(jwk, "n", "`n` must be base64url, or `x5c` a certificate of an RSA key")?,
        number(jwk, "e", "`e` must be base64url")?,
    );
    if bits(&n) < 2048 {
        return Err(JwkError::Broken("RSA keys must have at least 2048 bits"));
    }
    // e = 1 makes the "signature" the padded message itself.
    if e.last().is_none_or(|low| low % 2 == 0) || bits(&e) < 2 {
        return Err(JwkError::Broken("`e` must be an odd number greater than 1"));
    }
    if is_roca(&n) {
        return Err(JwkError::Broken(
            "the RSA key has the fingerprint of CVE-2017-15361 and can be factored: replace it",
        ));
    }
    let key = pkcs1::RsaPublicKey { modulus: uint(&n)?, public_exponent: uint(&e)? };
    key.to_der().map_err(|_| BAD_DER)
}

fn uint(bytes: &[u8]) -> Result<UintRef<'_>, JwkError> {
    UintRef::new(bytes).map_err(|_| BAD_DER)
}

/// The DER of an `RSAPrivateKey` (RFC 8017 §A.1.2). All of RFC 7518 §6.3.2 must be there.
pub(crate) fn rsa_private(jwk: &Jwk) -> Result<Vec<u8>, JwkError> {
    rsa_public(jwk)?;
    if jwk.get("oth").is_some() {
        return Err(JwkError::Broken("RSA keys of more than two primes are not supported"));
    }
    if jwk.get("d").is_none() {
        return Err(JwkError::NotPrivate);
    }
    let part = |name| number(jwk, name, "a private RSA key needs `d`, `p`, `q`, `dp`, `dq` and `qi`");
    let (n, e, d, p, q) = (part("n")?, part("e")?, part("d")?, part("p")?, part("q")?);
    let (dp, dq, qi) = (part("dp")?, part("dq")?, part("qi")?);
    let key = pkcs1::RsaPrivateKey {
        modulus: uint(&n)?,
        public_exponent: uint(&e)?,
        private_exponent: uint(&d)?,
        prime1: uint(&p)?,
        prime2: uint(&q)?,
        exponent1: uint(&dp)?,
        exponent2: uint(&dq)?,
        coefficient: uint(&qi)?,
        other_prime_infos: None,
    };
    key.to_der().map_err(|_| BAD_DER)
}

/// An `RSAPrivateKey` inside PKCS#8.
pub(crate) fn pkcs8_of_rsa(pkcs1: &[u8]) -> Result<Vec<u8>, JwkError> {
    let info = pkcs8::PrivateKeyInfo::new(::pkcs1::ALGORITHM_ID, pkcs1);
    info.to_der().map_err(|_| BAD_DER)
}

/// `x` and `y`, each exactly `size` bytes (RFC 7518 §6.2.1.2), as an uncompressed point.
pub(crate) fn point(jwk: &Jwk, size: usize) -> Result<Vec<u8>, JwkError> {
    let member = |name| jwk.bytes(name).filter(|bytes| bytes.len() == size);
    let (Some(x), Some(y)) = (member("x"), member("y")) else {
        return Err(JwkError::Broken(
            "`x` and `y` must be base64url of the curve's full size, or `x5c` a certificate of such a key",
        ));
    };
    Ok([&[4u8][..], &x, &y].concat())
}

/// `d` of exactly `size` bytes (RFC 7518 §6.2.2.1).
pub(crate) fn scalar(jwk: &Jwk, size: usize) -> Result<Vec<u8>, JwkError> {
    jwk.get("d").ok_or(JwkError::NotPrivate)?;
    jwk.bytes("d").filter(|d| d.len() == size).ok_or(JwkError::Broken("`d` must be base64url of the curve's full size"))
}

/// A 32-byte value of an OKP key (RFC 8037 §2).
pub(crate) fn okp(jwk: &Jwk, name: &'static str) -> Result<Vec<u8>, JwkError> {
    jwk.bytes(name)
        .filter(|bytes| bytes.len() == 32)
        .ok_or(JwkError::Broken("`x` and `d` must be 32 bytes of base64url"))
}

/// The bytes of a symmetric key.
pub(crate) fn octets(jwk: &Jwk) -> Result<Vec<u8>, JwkError> {
    jwk.bytes("k").filter(|k| !k.is_empty()).ok_or(JwkError::Broken("`k` must be base64url"))
}

/// The fingerprint of CVE-2017-15361: keys whose primes were built as powers of 65537 leave, modulo every
/// small prime, a remainder that is such a power too. By chance that happens once in 2^27 keys.
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|&prime| {
        let remainder = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        std::iter::successors(Some(1), |power| Some(power * (65_537 % prime) % prime))
            .take(prime as usize)
            .any(|power| power == remainder)
    })
}

fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let mut rest = significant.clone();
    rest.next().map_or(0, |top| significant.count() * 8 - top.leading_zeros() as usize)
}
