//! Secrets that are not known where objects are only read.

use std::collections::BTreeMap;

use idm_compile::{World, missing_secrets, rotated, signing_secret};
use idm_types::{Redacted, Timestamp};

use super::{CredentialError, new_api_key};

/// Makes up the Secrets of Credentials and of token services that are missing, with values that nobody knows. Returns
/// the names of those of Credentials, which callers cannot have.
///
/// # Errors
/// The system gave no random bits, or no signing key can be made.
pub fn supply_secrets(world: &mut World) -> Result<Vec<String>, CredentialError> {
    let mut unread = Vec::new();
    for missing in missing_secrets(world) {
        let value = Redacted::new(missing.value(&new_api_key()?).into_bytes());
        world.secrets.insert(missing.secret.clone(), BTreeMap::from([(missing.field.clone(), value)]));
        unread.push(missing.secret);
    }
    let signing: Vec<_> =
        world.policies.iter().filter_map(|policy| Some((policy.clone(), signing_secret(policy)?))).collect();
    for (policy, (name, field)) in signing {
        if world.secrets.contains_key(&name) {
            continue;
        }
        let keys = rotated(&policy, None, Timestamp::now());
        let keys = keys.ok_or_else(|| CredentialError::Refused("no signing key can be made".to_owned()))?;
        world.secrets.insert(name, BTreeMap::from([(field, Redacted::new(keys.into_bytes()))]));
    }
    Ok(unread)
}
