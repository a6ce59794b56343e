//! `Content-Digest` (RFC 9530 §2).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use sfv::{BareItem, ListEntry};

use crate::SignatureError;
use crate::fields::dictionary;

const FIELD: &str = "content-digest";
/// The algorithms that are active in the registry of RFC 9530.
const ALGORITHMS: [(&str, &Algorithm); 2] = [("sha-256", &SHA256), ("sha-512", &SHA512)];

/// The digests that the content of a message must have.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentDigest {
    all: Vec<(&'static str, Vec<u8>)>,
}

impl std::fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|(name, _)| name)).finish()
    }
}

impl ContentDigest {
    /// Reads the field of a message. Digests of algorithms that are not known are left out; one that is known must be
    /// there.
    pub fn of(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let field = dictionary(headers, FIELD)?.ok_or(SignatureError::NoKnownDigest)?;
        let mut all = Vec::new();
        for (name, _) in ALGORITHMS {
            match field.get(name) {
                None => {}
                Some(ListEntry::Item(item)) => match &item.bare_item {
                    BareItem::ByteSequence(bytes) => all.push((name, bytes.clone())),
                    _ => return Err(SignatureError::Malformed(FIELD)),
                },
                Some(ListEntry::InnerList(_)) => return Err(SignatureError::Malformed(FIELD)),
            }
        }
        if all.is_empty() { Err(SignatureError::NoKnownDigest) } else { Ok(Self { all }) }
    }

    /// Whether content has every one of these digests; the error is the algorithm of one that it has not.
    pub fn fits(&self, content: &[u8]) -> Result<(), &'static str> {
        for (name, expected) in &self.all {
            let algorithm = ALGORITHMS.iter().find(|(known, _)| known == name);
            let found = algorithm.map(|(_, algorithm)| digest(algorithm, content));
            let same = found.is_some_and(|found| verify_slices_are_equal(found.as_ref(), expected).is_ok());
            if !same {
                return Err(name);
            }
        }
        Ok(())
    }
}

/// The value of `Content-Digest` with the SHA-256 of some content, for callers of ours.
pub fn digest_field(content: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, content).as_ref()))
}
