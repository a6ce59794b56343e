//! Under which keys the tokens of the namespace's own services are revoked.

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

/// Whether a token was revoked, by itself or with its sign-in. What is known to be revoked stays so, also when nobody
/// knows the rest.
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

/// Whether one of these keys is revoked. The first that nobody can tell of decides, as the first that is revoked does.
pub(crate) fn is_any_revoked(store: &Store, keys: &[Key], now: Timestamp) -> Result<bool, Stale> {
    for key in keys {
        if store.is_revoked(key, now)? {
            return Ok(true);
        }
    }
    Ok(false)
}
