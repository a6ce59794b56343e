//! The store's keys for revoked tokens of the namespace's own token services.

use idm_store::{Key, Stale, Store};
use idm_types::Timestamp;

/// The key of one token of an issuer, by its `jti`.
pub fn token_key(issuer: &str, jti: &str) -> Key {
    Key::of(&["revoked token", issuer, jti])
}

/// The key of all tokens of one sign-in, by the family that their `jti` begins with (`FAMILY.…`).
pub fn family_key(issuer: &str, family: &str) -> Key {
    Key::of(&["revoked family", issuer, family])
}

/// Whether a token was revoked, by itself or with its sign-in. A known revocation counts also while the store cannot
/// tell about others.
pub fn is_revoked(store: &Store, issuer: &str, jti: &str, now: Timestamp) -> Result<bool, Stale> {
    let token = store.is_revoked(&token_key(issuer, jti), now);
    let family =
        jti.split_once('.').map_or(Ok(false), |(family, _)| store.is_revoked(&family_key(issuer, family), now));
    match (token, family) {
        (Ok(true), _) | (_, Ok(true)) => Ok(true),
        (Err(stale), _) | (_, Err(stale)) => Err(stale),
        (Ok(false), Ok(false)) => Ok(false),
    }
}

/// Whether one of these keys is revoked. The first key decides that is revoked, or that the store cannot tell about.
pub(crate) fn is_any_revoked(store: &Store, keys: &[Key], now: Timestamp) -> Result<bool, Stale> {
    for key in keys {
        if store.is_revoked(key, now)? {
            return Ok(true);
        }
    }
    Ok(false)
}
