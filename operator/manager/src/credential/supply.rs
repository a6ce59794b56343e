//! Secrets that are not known where objects are only read.

use std::collections::BTreeMap;

use idm_compile::{SIGNING_SECRET, World, missing_secrets, rotated, signing_secret};
use idm_envelope::is_sealed;
use idm_types::{Redacted, Timestamp};

use super::{CredentialError, new_api_key};

/// Takes signing keys out that are sealed, because nobody but the operator and gateways opens them: [`supply_secrets`]
/// makes others up. Returns whether there were any.
pub fn leave_out_sealed(world: &mut World) -> bool {
    let signing = world.secrets.get(SIGNING_SECRET);
    let found = signing.is_some_and(|fields| fields.values().any(|value| is_sealed(value.reveal())));
    if found {
        world.secrets.remove(SIGNING_SECRET);
    }
    found
}

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

#[cfg(test)]
mod tests {
    use idm_compile::Settings;

    use super::*;

    #[test]
    fn sealed_signing_keys_are_left_out_and_others_stay() {
        let mut world = World::new("shop", Settings::default());
        let with = |value: &[u8]| BTreeMap::from([("p".to_owned(), Redacted::new(value.to_vec()))]);
        world.secrets.insert("other".into(), with(b"\0idm-sealed of another kind"));
        assert!(!leave_out_sealed(&mut world), "there are no keys");
        world.secrets.insert(SIGNING_SECRET.into(), with(b"{\"keys\":[]}"));
        assert!(!leave_out_sealed(&mut world));
        assert!(world.secrets.contains_key(SIGNING_SECRET));
        world.secrets.insert(SIGNING_SECRET.into(), with(b"\0idm-sealed and more"));
        assert!(leave_out_sealed(&mut world));
        assert_eq!(world.secrets.keys().collect::<Vec<_>>(), ["other"]);
    }
}
