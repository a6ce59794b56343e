//! AES key wrap (RFC 3394) for 128, 192 and 256 bits, on the crypto library's block cipher: its own
//! key wrap has no 192 bits.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};

use crate::JweError;

const INITIAL: [u8; 8] = [0xa6; 8];

fn cipher(kek: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm: &'static Algorithm = match kek.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return None,
    };
    UnboundCipherKey::new(algorithm, kek).ok()
}

/// Wraps a key of a multiple of 8 bytes, at least 16 (RFC 3394 §2.2.1).
pub(crate) fn wrap(kek: &[u8], key: &[u8]) -> Result<Vec<u8>, JweError> {
    let cipher = cipher(kek).and_then(|cipher| EncryptingKey::ecb(cipher).ok()).ok_or(JweError::CannotEncrypt)?;
    if key.len() < 16 || !key.len().is_multiple_of(8) {
        return Err(JweError::CannotEncrypt);
    }
    let mut a = INITIAL;
    let mut blocks: Vec<[u8; 8]> = key.chunks_exact(8).map(|c| c.try_into().unwrap_or_default()).collect();
    let mut t = 0u64;
    for _ in 0..6 {
        for block in &mut blocks {
            t += 1;
            let mut b = [a, *block].concat();
            cipher.encrypt(&mut b).map_err(|_| JweError::CannotEncrypt)?;
            let (high, low) = b.split_at(8);
            a = (u64::from_be_bytes(high.try_into().unwrap_or_default()) ^ t).to_be_bytes();
            *block = low.try_into().unwrap_or_default();
        }
    }
    Ok([&a[..], blocks.as_flattened()].concat())
}

/// Unwraps, and refuses what was not wrapped with this key (RFC 3394 §2.2.2).
pub(crate) fn unwrap(kek: &[u8], wrapped: &[u8]) -> Result<Vec<u8>, JweError> {
    let cipher = cipher(kek).and_then(|cipher| DecryptingKey::ecb(cipher).ok()).ok_or(JweError::CannotDecrypt)?;
    if wrapped.len() < 24 || !wrapped.len().is_multiple_of(8) {
        return Err(JweError::CannotDecrypt);
    }
    let (first, rest) = wrapped.split_at(8);
    let mut a: [u8; 8] = first.try_into().unwrap_or_default();
    let mut blocks: Vec<[u8; 8]> = rest.chunks_exact(8).map(|c| c.try_into().unwrap_or_default()).collect();
    let mut t = 6 * blocks.len() as u64;
    for _ in 0..6 {
        for block in blocks.iter_mut().rev() {
            let high = (u64::from_be_bytes(a) ^ t).to_be_bytes();
            t -= 1;
            let mut b = [high, *block].concat();
            cipher.decrypt(&mut b, DecryptionContext::None).map_err(|_| JweError::CannotDecrypt)?;
            let (high, low) = b.split_at(8);
            a = high.try_into().unwrap_or_default();
            *block = low.try_into().unwrap_or_default();
        }
    }
    aws_lc_rs::constant_time::verify_slices_are_equal(&a, &INITIAL).map_err(|_| JweError::CannotDecrypt)?;
    Ok(blocks.as_flattened().to_vec())
}
