//! Under which keys the tokens of the namespace's own services are revoked.

use idm_store::Key;

/// The key of one token of an issuer, by its `jti`.
pub fn token_key(issuer: &str, jti: &str) -> Key {
    Key::of(&["revoked token", issuer, jti])
}

/// The key of all tokens of one sign-in, by the family that their `jti` begins with (`FAMILY.…`).
pub fn family_key(issuer: &str, family: &str) -> Key {
    Key::of(&["revoked family", issuer, family])
}

/// The family of a `jti`, if it has one.
pub fn family_of(jti: &str) -> Option<&str> {
    jti.split_once('.').map(|(family, _)| family)
}
