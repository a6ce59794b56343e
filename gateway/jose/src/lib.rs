//! JOSE as the gateway needs it: reads key sets, verifies signed tokens, mints tokens for demos and tests.
//!
//! In: bytes, keys and `now`. Out: [`Verified`] claims or a [`TokenError`]. Pure: no IO and no clock.
//! A key is bound to its algorithms when it is loaded ([`KeySet::parse`]); a token's header only selects
//! among bound keys. `none`, HMAC, and keys carried by the token (`jwk`, `jku`, `x5u`, `x5c`) cannot be
//! expressed here. Start at [`Unverified::parse`], then [`Unverified::verify`].

mod claims;
mod jwk;
mod sign;
mod strict;
mod token;

pub use claims::Claims;
pub use jwk::{KeySet, KeySetError, MAX_JWKS_BYTES};
pub use sign::{SigningError, SigningKey};
pub use strict::parse_strict;
pub use token::{Expectations, Jws, MAX_TOKEN_BYTES, TokenError, Unverified, Verified, VerifiedJws};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Base64url without padding (RFC 7515 §2); anything else, non-zero trailing bits included, is refused.
pub(crate) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(crate) fn to_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
