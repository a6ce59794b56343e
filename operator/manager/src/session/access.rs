//! The token that a person of a cluster acts with, and how it rests between their requests.
//!
//! A session keeps it sealed under a key that is made of the session's cookie, and knows the cookie by its hash only:
//! who reads the memory of a Manager at rest has no token.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use idm_types::Redacted;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The label of the sealing key, so that nothing else is ever made of a cookie in the same way.
const LABEL: &[u8] = b"idm-manager token of a session";

/// A bearer token of the API server, while a request of its person is under way.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) token: Redacted<String>,
    /// The name of the token in caches; nobody learns the token by it.
    pub(crate) id: TokenId,
    /// The namespaces that the person named at the sign-in.
    pub(crate) namespaces: Vec<String>,
}

/// A token by its digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenId([u8; 32]);

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenId")
    }
}

impl Access {
    pub(crate) fn new(token: Redacted<String>, namespaces: Vec<String>) -> Self {
        let id = TokenId(Sha256::digest(token.reveal()).into());
        Self { token, id, namespaces }
    }
}

/// The same at rest.
pub(crate) struct SealedAccess {
    sealed: Vec<u8>,
    nonce: [u8; 12],
    namespaces: Vec<String>,
}

fn key_of(cookie: &Redacted<String>) -> Option<RandomizedNonceKey> {
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, cookie.reveal().as_bytes()), LABEL);
    RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).ok()
}

impl SealedAccess {
    /// `None` where the system has no random bits.
    pub(crate) fn seal(access: &Access, cookie: &Redacted<String>) -> Option<Self> {
        let mut sealed = access.token.reveal().clone().into_bytes();
        let nonce = key_of(cookie)?.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        Some(Self { sealed, nonce: *nonce.as_ref(), namespaces: access.namespaces.clone() })
    }

    /// `None` under another cookie.
    pub(crate) fn open(&self, cookie: &Redacted<String>) -> Option<Access> {
        let mut bytes = Zeroizing::new(self.sealed.clone());
        let opened = key_of(cookie)?.open_in_place(Nonce::from(&self.nonce), Aad::empty(), &mut bytes).ok()?;
        let token = std::str::from_utf8(opened).ok()?.to_owned();
        Some(Access::new(Redacted::new(token), self.namespaces.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_at_rest_is_opened_by_its_cookie_alone() {
        let cookie = |text: &str| Redacted::new(text.to_owned());
        let access = Access::new(Redacted::new("eyJ.canary.sig".into()), vec!["shop".into()]);
        let sealed = SealedAccess::seal(&access, &cookie("one")).expect("random bits");
        assert!(!sealed.sealed.windows(6).any(|part| part == b"canary"));
        let opened = sealed.open(&cookie("one")).expect("it is its cookie");
        assert_eq!((opened.token.reveal().as_str(), opened.id), ("eyJ.canary.sig", access.id));
        assert_eq!(opened.namespaces, ["shop"]);
        assert!(sealed.open(&cookie("two")).is_none());
        let shown = format!("{access:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
