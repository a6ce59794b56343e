//! One key of a Secret: the only place where `compile` reads one.

use idm_types::Redacted;

use crate::{Cause, World};

/// The value of a key of a Secret. The error is for the user, and names the expected content.
pub(crate) fn value<'w>(world: &'w World, name: &str, key: &str) -> Result<&'w Redacted<Vec<u8>>, (Cause, String)> {
    let secret = world.secrets.get(name);
    let secret = secret.ok_or_else(|| (Cause::RefNotFound, format!("Secret '{name}' must exist in this namespace")))?;
    secret.get(key).ok_or_else(|| (Cause::InvalidRef, format!("Secret '{name}' must have the key '{key}'")))
}
