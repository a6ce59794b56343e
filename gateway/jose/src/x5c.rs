//! The key of a published certificate (RFC 7517 §4.7), where a JWK has no numbers of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkcs1::der::asn1::AnyRef;
use pkcs1::der::{Decode, Header, Reader, SliceReader, Tag, Tagged};
use serde_json::Value;

use crate::{Jwk, convert::jwk_of_spki};

/// Adds the members of the first certificate's key to a key that has only `x5c`. The key set vouches for the
/// certificate as it does for numbers, so that its signature and its dates do not matter. Every other key stays as it
/// is, and so does one whose certificate is unreadable or holds a key of another type.
pub(crate) fn complete(jwk: Jwk) -> Jwk {
    let numbers: &[&str] = match jwk.text("kty") {
        Some("RSA") => &["n", "e"],
        Some("EC") => &["x", "y", "crv"],
        Some("OKP") => &["x", "crv"],
        _ => return jwk,
    };
    if numbers.iter().any(|member| jwk.get(member).is_some() && *member != "crv") {
        return jwk;
    }
    let Some(certified) = first_key(&jwk) else { return jwk };
    let is_same = |member| jwk.text(member).is_none() || jwk.text(member) == certified.text(member);
    if !is_same("kty") || !is_same("crv") {
        return jwk;
    }
    let of_certificate = numbers.iter().filter_map(|member| Some((*member, certified.text(member)?)));
    of_certificate.fold(jwk.clone(), |jwk, (member, value)| jwk.with(member, value))
}

/// The key of the first certificate of `x5c`, which is the key itself. RFC 7517 wants base64 and not base64url.
fn first_key(jwk: &Jwk) -> Option<Jwk> {
    let first = jwk.get("x5c").and_then(Value::as_array)?.first()?.as_str()?;
    let certificate = STANDARD.decode(first.split_ascii_whitespace().collect::<String>()).ok()?;
    jwk_of_spki(spki(&certificate)?).ok()
}

/// The `subjectPublicKeyInfo` of a certificate (RFC 5280 §4.1).
fn spki(certificate: &[u8]) -> Option<&[u8]> {
    let sequence = |der: AnyRef<'_>| der.tag() == Tag::Sequence;
    let certificate = AnyRef::from_der(certificate).ok().filter(|der| sequence(*der))?;
    let mut reader = SliceReader::new(certificate.value()).ok()?;
    let signed = AnyRef::decode(&mut reader).ok().filter(|der| sequence(*der))?;
    let mut reader = SliceReader::new(signed.value()).ok()?;
    let is_version = |header: Header| header.tag.is_context_specific();
    if reader.peek_header().is_ok_and(is_version) {
        reader.tlv_bytes().ok()?;
    }
    // Serial number, algorithm, issuer, validity and subject.
    for _ in 0..5 {
        reader.tlv_bytes().ok()?;
    }
    reader.tlv_bytes().ok()
}
