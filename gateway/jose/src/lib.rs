//! JOSE: keys, signatures, encryption and tokens, for the gateway and for the command line.
//!
//! In: bytes, keys and `now`. Out: [`Verified`] claims, a [`VerifiedJws`], a [`Decrypted`] payload, or the
//! error that says why not. Pure: no IO and no clock; randomness comes from the crypto library or as an argument.
//! A key is bound to its algorithms when it is loaded ([`KeySet`], [`DecryptionKeys`], [`SigningKey`],
//! [`EncryptionKey`]); a message's header only selects among bound keys. `none`, `RSA1_5`, HMAC with a public
//! key, and keys that a message brings along (`jwk`, `jku`, `x5u`) cannot be expressed here. Start at
//! [`Unverified::parse`], then [`Unverified::verify`]; for encryption at [`Jwe::parse`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod agree;
mod claims;
mod content;
mod convert;
mod decoded;
mod dpop;
mod encrypt;
mod generate;
mod jwe;
mod jwk;
mod jws;
mod key_set;
mod numbers;
mod sign;
mod strict;
mod token;
mod token_check;
mod wrap;
mod x5c;

pub use claims::{Claims, DateError, exact_integer, seconds, subject};
pub use convert::{PrivateKeyForm, jwk_of_pkcs8, jwk_of_spki, pem_block, pkcs8_of_jwk, private_key};
pub use decoded::{DecodeError, Decoded};
pub use dpop::{PROOF_ALGORITHMS, Proof};
pub use encrypt::{Encrypted, EncryptionKey, Entropy, system_entropy};
pub use generate::{generate_ec, generate_ed25519, generate_octets, generate_rsa, generate_x25519};
pub use jwe::{Decrypted, DecryptionKeys, Jwe, JweError, JweExpectations, MAX_JWE_BYTES};
pub use jwk::{Jwk, JwkError};
pub use jws::{Jws, JwsForm, MAX_TOKEN_BYTES, TokenError, VerifiedJws};
pub use key_set::{KeySet, KeySetError, LeftOut, MAX_JWKS_BYTES, VerifyingKey};
pub use sign::{Signed, SigningError, SigningKey};
pub use strict::{parse_document, parse_strict};
pub use token::{Expectations, OwnExpectations, Unverified, Verified};
pub use token_check::TokenCheck;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Base64url without padding (RFC 7515 §2); anything else, non-zero trailing bits included, is refused.
pub fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Base64url without padding.
pub fn to_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
