//! HTTP message signatures (RFC 9421) and digests of content (RFC 9530) of one request.
//!
//! In: the request as it is forwarded ([`Message`]). Out: the signatures that it carries ([`Signatures`]), for each of
//! them the bytes that were signed ([`Signature::base`]), and the digests that its content must have
//! ([`ContentDigest`]). Structured fields are read by `sfv` alone. Pure: no IO, no clock and no key.
//! Never gives a base in which a component is missing, is there twice, or can be read in two ways. Start at
//! [`Signatures::of`]; `component.rs` has the values of the components.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod accept;
mod component;
mod content_digest;
mod error;
mod fields;
mod message;
mod signature;

pub use accept::accept;
pub use component::is_component;
pub use content_digest::{ContentDigest, digest_field};
pub use error::SignatureError;
pub use message::Message;
pub use signature::{Parameters, Signature, Signatures};

/// Reads both fields and makes every base, for the fuzzer: none of this may panic.
#[doc(hidden)]
pub fn fuzz(input: &[u8], signature: &[u8], digest: &[u8]) {
    let mut headers = http::HeaderMap::new();
    for (name, value) in [("signature-input", input), ("signature", signature), ("content-digest", digest)] {
        if let Ok(value) = http::HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let message = Message {
        method: "POST",
        https: true,
        authority: "example.com",
        path: "/a",
        query: Some("b=c"),
        headers: &headers,
    };
    if let Ok(Some(signatures)) = Signatures::of(&headers) {
        signatures.all().iter().for_each(|signature| drop(signature.base(message)));
    }
    if let Ok(digest) = ContentDigest::of(&headers) {
        let _ = digest.fits(b"");
    }
}

#[cfg(test)]
mod tests;
