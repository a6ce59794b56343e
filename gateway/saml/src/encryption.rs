//! Encrypted assertions (XML Encryption): a key wrapped with RSA-OAEP, content with AES.
//!
//! Whatever goes wrong inside is one error: what differs would tell an attacker about the plaintext.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use roxmltree::Node;

use crate::SamlError;
use crate::key::{OwnKey, from_base64};
use crate::xml::{DSIG, XENC, XENC11, attribute, child, children, text, wanted};

const OAEP: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
const OAEP11: &str = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
const SHA1: &str = "http://www.w3.org/2000/09/xmldsig#sha1";
const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
const MGF_SHA1: &str = "http://www.w3.org/2009/xmlenc11#mgf1sha1";
const MGF_SHA256: &str = "http://www.w3.org/2009/xmlenc11#mgf1sha256";

#[derive(Clone, Copy)]
enum Content {
    Gcm(usize),
    Cbc(usize),
}

impl Content {
    fn from_uri(uri: &str) -> Result<Self, SamlError> {
        match uri {
            "http://www.w3.org/2009/xmlenc11#aes128-gcm" => Ok(Content::Gcm(16)),
            "http://www.w3.org/2009/xmlenc11#aes256-gcm" => Ok(Content::Gcm(32)),
            "http://www.w3.org/2001/04/xmlenc#aes128-cbc" => Ok(Content::Cbc(16)),
            "http://www.w3.org/2001/04/xmlenc#aes256-cbc" => Ok(Content::Cbc(32)),
            other => Err(SamlError::algorithm(other)),
        }
    }
}

/// Opens an `EncryptedAssertion`; the text inside is XML that nobody has believed yet.
pub(crate) fn open(encrypted: Node<'_, '_>, key: &OwnKey) -> Result<String, SamlError> {
    let data = wanted(encrypted, XENC, "EncryptedData")?;
    let content =
        Content::from_uri(attribute(wanted(data, XENC, "EncryptionMethod")?, "Algorithm").unwrap_or_default())?;
    // The wrapped key stands in the data's KeyInfo, or beside the data.
    let info = child(data, DSIG, "KeyInfo")?;
    let inside = info.into_iter().flat_map(|info| children(info, XENC, "EncryptedKey"));
    let wrapped: Vec<Node<'_, '_>> = inside.chain(children(encrypted, XENC, "EncryptedKey")).collect();
    if wrapped.is_empty() || wrapped.len() > 8 {
        return Err(SamlError::Missing("EncryptedKey"));
    }
    // Several recipients: one of the keys is ours.
    let mut opened = None;
    for wrapped in wrapped {
        let sha256 = wrapping(wanted(wrapped, XENC, "EncryptionMethod")?)?;
        opened = opened.or(key.open(&cipher(wrapped)?, sha256));
    }
    let plain =
        opened.and_then(|secret| decrypt(content, &secret, &cipher(data).ok()?)).ok_or(SamlError::CannotDecrypt)?;
    String::from_utf8(plain).map_err(|_| SamlError::CannotDecrypt)
}

/// Whether the wrapping hashes with SHA-256 throughout.
fn wrapping(method: Node<'_, '_>) -> Result<bool, SamlError> {
    let named = attribute(method, "Algorithm").unwrap_or_default();
    let of = |namespace: &'static str, name: &'static str| {
        Ok::<_, SamlError>(child(method, namespace, name)?.and_then(|node| attribute(node, "Algorithm")))
    };
    let (hash, mask) = (of(DSIG, "DigestMethod")?.unwrap_or(SHA1), of(XENC11, "MGF")?.unwrap_or(MGF_SHA1));
    match (named, hash, mask) {
        (OAEP | OAEP11, SHA1, MGF_SHA1) => Ok(false),
        (OAEP11, SHA256, MGF_SHA256) => Ok(true),
        (OAEP | OAEP11, hash, mask) => Err(SamlError::algorithm(&format!("{named} with {hash} and {mask}"))),
        (other, ..) => Err(SamlError::algorithm(other)),
    }
}

fn cipher(node: Node<'_, '_>) -> Result<Vec<u8>, SamlError> {
    from_base64(&text(wanted(wanted(node, XENC, "CipherData")?, XENC, "CipherValue")?)?)
}

fn decrypt(content: Content, secret: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    match content {
        Content::Gcm(size) if secret.len() == size => {
            let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
            let algorithm = if size == 16 { &AES_128_GCM } else { &AES_256_GCM };
            let key = LessSafeKey::new(UnboundKey::new(algorithm, secret).ok()?);
            let mut bytes = sealed.to_vec();
            let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut bytes).ok()?.len();
            bytes.truncate(opened);
            Some(bytes)
        }
        Content::Cbc(size) if secret.len() == size => {
            let (iv, sealed) = sealed.split_first_chunk::<16>()?;
            let algorithm = if size == 16 { &AES_128 } else { &AES_256 };
            let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, secret).ok()?).ok()?;
            let mut bytes = sealed.to_vec();
            let opened = key.decrypt(&mut bytes, DecryptionContext::Iv128(iv.into())).ok()?.len();
            bytes.truncate(opened);
            // XML Encryption §5.2: the last byte says how many were added; the others may be anything.
            let added = usize::from(*bytes.last()?);
            let length = bytes.len().checked_sub(added).filter(|_| (1..=16).contains(&added))?;
            bytes.truncate(length);
            Some(bytes)
        }
        Content::Gcm(_) | Content::Cbc(_) => None,
    }
}
