//! API keys of the namespace's Credentials.

use idm_types::{ApiKey, Reason};
use sha2::{Digest, Sha256};

use crate::chain::Attempt;
use crate::credential::{Through, admit};

/// Verifies an API key. A key whose Credential the method's selector does not pick is unknown here.
pub(crate) fn attempt(through: Through<'_>, key: &str, only: Option<&[String]>) -> Attempt {
    if !key.starts_with("idm_") {
        return Attempt::NotMine(through.denied(Reason::UnknownApiKey, "the key does not start with `idm_`"));
    }
    if !ApiKey::is_well_formed(key) {
        return Attempt::Rejected(through.denied(Reason::MalformedApiKey, "the checksum of the key does not match"));
    }
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    match through.table.by_hash(&hash, only) {
        Some(credential) => admit(through, credential),
        None => Attempt::Rejected(through.denied(
            Reason::UnknownApiKey,
            "the key is well formed, and no Credential that this method accepts has it",
        )),
    }
}
