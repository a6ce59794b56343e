//! The content of a JWE: authenticated encryption (RFC 7518 §5).

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::hmac;
use idm_types::ContentEncryption;

use crate::JweError;

/// Bytes of every GCM tag here.
pub(crate) const GCM_TAG: usize = 16;

type Sealed = (Vec<u8>, Vec<u8>);

/// Encrypts and returns ciphertext and tag.
pub(crate) fn seal(
    enc: ContentEncryption,
    cek: &[u8],
    iv: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Sealed, JweError> {
    if is_gcm(enc) { gcm_seal(cek, iv, aad, plaintext) } else { cbc_seal(cek, iv, aad, plaintext) }
}

/// Decrypts. Every failure is the same failure: what exactly was wrong helps only attackers.
pub(crate) fn open(
    enc: ContentEncryption,
    cek: &[u8],
    iv: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> Result<Vec<u8>, JweError> {
    if cek.len() != enc.key_bytes() || iv.len() != enc.iv_bytes() {
        return Err(JweError::CannotDecrypt);
    }
    if is_gcm(enc) { gcm_open(cek, iv, aad, ciphertext, tag) } else { cbc_open(cek, iv, aad, ciphertext, tag) }
}

fn is_gcm(enc: ContentEncryption) -> bool {
    matches!(enc, ContentEncryption::A128Gcm | ContentEncryption::A192Gcm | ContentEncryption::A256Gcm)
}

fn gcm_key(key: &[u8]) -> Result<LessSafeKey, JweError> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(JweError::CannotDecrypt),
    };
    UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(|_| JweError::CannotDecrypt)
}

pub(crate) fn gcm_seal(key: &[u8], iv: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Sealed, JweError> {
    let nonce = Nonce::try_assume_unique_for_key(iv).map_err(|_| JweError::CannotEncrypt)?;
    let mut data = plaintext.to_vec();
    let tag = gcm_key(key)?
        .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut data)
        .map_err(|_| JweError::CannotEncrypt)?;
    Ok((data, tag.as_ref().to_vec()))
}

pub(crate) fn gcm_open(key: &[u8], iv: &[u8], aad: &[u8], ciphertext: &[u8], tag: &[u8]) -> Result<Vec<u8>, JweError> {
    if tag.len() != GCM_TAG {
        return Err(JweError::CannotDecrypt);
    }
    let nonce = Nonce::try_assume_unique_for_key(iv).map_err(|_| JweError::CannotDecrypt)?;
    let mut data = [ciphertext, tag].concat();
    let opened =
        gcm_key(key)?.open_in_place(nonce, Aad::from(aad), &mut data).map_err(|_| JweError::CannotDecrypt)?.len();
    data.truncate(opened);
    Ok(data)
}

/// AES-CBC with HMAC (RFC 7518 §5.2): the first half of the key authenticates, the second encrypts.
fn halves(cek: &[u8]) -> Option<(hmac::Key, UnboundCipherKey)> {
    let (hash, cipher) = match cek.len() {
        32 => (hmac::HMAC_SHA256, &AES_128),
        48 => (hmac::HMAC_SHA384, &AES_192),
        64 => (hmac::HMAC_SHA512, &AES_256),
        _ => return None,
    };
    let (mac, encrypt) = cek.split_at(cek.len() / 2);
    Some((hmac::Key::new(hash, mac), UnboundCipherKey::new(cipher, encrypt).ok()?))
}

/// Half of the HMAC over what RFC 7518 §5.2.2.1 lists.
fn cbc_tag(mac: &hmac::Key, iv: &[u8], aad: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(mac);
    for part in [aad, iv, ciphertext, &(aad.len() as u64 * 8).to_be_bytes()] {
        context.update(part);
    }
    let mut tag = context.sign().as_ref().to_vec();
    tag.truncate(tag.len() / 2);
    tag
}

fn cbc_seal(cek: &[u8], iv: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Sealed, JweError> {
    let (mac, cipher) = halves(cek).ok_or(JweError::CannotEncrypt)?;
    let iv16: [u8; 16] = iv.try_into().map_err(|_| JweError::CannotEncrypt)?;
    let mut data = plaintext.to_vec();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(cipher).map_err(|_| JweError::CannotEncrypt)?;
    key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(iv16.into())).map_err(|_| JweError::CannotEncrypt)?;
    let tag = cbc_tag(&mac, iv, aad, &data);
    Ok((data, tag))
}

fn cbc_open(cek: &[u8], iv: &[u8], aad: &[u8], ciphertext: &[u8], tag: &[u8]) -> Result<Vec<u8>, JweError> {
    let (mac, cipher) = halves(cek).ok_or(JweError::CannotDecrypt)?;
    let expected = cbc_tag(&mac, iv, aad, ciphertext);
    // Before anything is decrypted, so that padding is never an oracle.
    aws_lc_rs::constant_time::verify_slices_are_equal(&expected, tag).map_err(|_| JweError::CannotDecrypt)?;
    let iv16: [u8; 16] = iv.try_into().map_err(|_| JweError::CannotDecrypt)?;
    let mut data = ciphertext.to_vec();
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(cipher).map_err(|_| JweError::CannotDecrypt)?;
    let opened =
        key.decrypt(&mut data, DecryptionContext::Iv128(iv16.into())).map_err(|_| JweError::CannotDecrypt)?.len();
    data.truncate(opened);
    Ok(data)
}
