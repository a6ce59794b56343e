//! Secrets that browsers keep, and the values that are sealed under them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_types::Redacted;

const NONCE_BYTES: usize = 12;
const SECRET_BYTES: usize = 32;

/// Random bytes in base64url; `None` where the system gives none.
pub(crate) fn random_text<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// 256 random bits that the browser holds, and the gateway does not store.
#[derive(Clone, Debug)]
pub(crate) struct Secret(Redacted<String>);

impl Secret {
    pub(crate) fn new() -> Option<Self> {
        random_text::<SECRET_BYTES>().map(|text| Self(Redacted::new(text)))
    }

    /// Reads the output of [`Self::text`]; any other text is not a secret of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == SECRET_BYTES).then(|| Self(Redacted::new(text.to_owned())))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.reveal()
    }

    /// A value that only a holder of the secret can compute; each purpose has its own.
    pub(crate) fn derive(&self, purpose: &str, of: &str) -> [u8; 32] {
        let key = hmac::Key::new(HMAC_SHA256, self.text().as_bytes());
        let mut context = hmac::Context::with_key(&key);
        for part in [purpose, of] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    fn key(&self, purpose: &str) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.derive("seal", purpose)).ok().map(LessSafeKey::new)
    }

    /// Seals bytes for a purpose; the associated data is authenticated and not stored.
    pub(crate) fn seal(&self, purpose: &str, belongs_to: &str, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let key = self.key(purpose)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(belongs_to), &mut bytes).ok()?;
        Some([&nonce[..], &bytes].concat())
    }

    /// Opens bytes that were sealed for this purpose with this associated data; `None` for all others.
    pub(crate) fn open(&self, purpose: &str, belongs_to: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut bytes = sealed.to_vec();
        let opened = self
            .key(purpose)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(belongs_to), &mut bytes)
            .ok()?
            .len();
        bytes.truncate(opened);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_opens_and_only_for_its_purpose() {
        let (secret, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        let sealed = secret.seal("session", "a", b"hello".to_vec()).unwrap();
        assert_eq!(secret.open("session", "a", &sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(secret.open("session", "b", &sealed), None);
        assert_eq!(secret.open("login", "a", &sealed), None);
        assert_eq!(other.open("session", "a", &sealed), None);
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(secret.open("session", "a", &changed), None, "byte {i}");
        }
        assert_eq!(secret.open("session", "a", &sealed[..11]), None);
    }

    #[test]
    fn a_secret_reads_back_and_nothing_else_is_one() {
        let secret = Secret::new().unwrap();
        assert_eq!(Secret::parse(secret.text()).unwrap().text(), secret.text());
        for wrong in ["", "abc", &"A".repeat(42), &"A".repeat(44), &format!("{}=", secret.text()), "\u{e9}"] {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
    }
}
