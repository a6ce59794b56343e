//! Data keys, and the authenticated encryption under them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_types::Redacted;

/// The bytes of every key.
pub(crate) const KEY_BYTES: usize = 32;
/// The bytes of a nonce of AES-GCM.
pub(crate) const NONCE_BYTES: usize = 12;

/// A key of 256 bits. Printed as `[redacted]`.
#[derive(Clone, Debug)]
pub struct DataKey(Redacted<[u8; KEY_BYTES]>);

impl DataKey {
    /// A new one; `None` where the system gives no random bits.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self::of(bytes))
    }

    /// A key with these bytes.
    pub(crate) fn of(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Redacted::new(bytes))
    }

    /// A key with these bytes; `None` for any other number of them.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::of)
    }

    /// Its bytes, for those who wrap it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.reveal()
    }

    /// Compares in constant time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.bytes(), other.bytes()).is_ok()
    }

    /// A key for one purpose. Each list of parts has its own.
    pub(crate) fn derive(&self, parts: &[&[u8]]) -> Self {
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(self.mac(parts).as_ref());
        Self::of(bytes)
    }

    fn mac(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, self.bytes()));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.derive(&[b"encrypt"]).bytes()).ok().map(LessSafeKey::new)
    }

    /// Encrypts; what belongs to it is authenticated and not stored. The nonce follows from all of it, so the same
    /// bytes in the same place are sealed into the same bytes, and no nonce serves two values.
    pub(crate) fn encrypt(&self, belongs_to: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        let tag = self.derive(&[b"nonce"]).mac(&[belongs_to, plain]);
        nonce.copy_from_slice(tag.as_ref().get(..NONCE_BYTES)?);
        let mut bytes = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.cipher()?.seal_in_place_append_tag(unique, Aad::from(belongs_to), &mut bytes).ok()?;
        Some([&nonce[..], &bytes].concat())
    }

    /// Decrypts what [`Self::encrypt`] made with the same data that belongs to it; `None` for all others.
    pub(crate) fn decrypt(&self, belongs_to: &[u8], encrypted: &[u8]) -> Option<Redacted<Vec<u8>>> {
        let (nonce, bytes) = encrypted.split_first_chunk::<NONCE_BYTES>()?;
        let mut bytes = bytes.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.cipher()?.open_in_place(nonce, Aad::from(belongs_to), &mut bytes).ok()?.len();
        bytes.truncate(opened);
        Some(Redacted::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_in_the_same_place_is_the_same_and_nothing_else_is() {
        let key = DataKey::random().unwrap();
        let sealed = key.encrypt(b"a", b"hello").unwrap();
        assert_eq!(key.encrypt(b"a", b"hello").unwrap(), sealed);
        for (place, value) in [(&b"b"[..], &b"hello"[..]), (b"a", b"hellp"), (b"ah", b"ello")] {
            let other = key.encrypt(place, value).unwrap();
            assert_ne!(other[..NONCE_BYTES], sealed[..NONCE_BYTES]);
        }
        assert_eq!(key.decrypt(b"a", &sealed).unwrap().reveal(), b"hello");
        assert!(key.decrypt(b"b", &sealed).is_none());
        assert!(DataKey::random().unwrap().decrypt(b"a", &sealed).is_none());
        assert_eq!(format!("{key:?}"), "DataKey([redacted])");
    }
}
