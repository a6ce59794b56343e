use std::collections::BTreeMap;
use std::sync::Arc;

use idm_api::v1alpha1::{CredentialSpec, PersonCredential};
use idm_plan::{Access, Credential, Credentials, EndedKey, ObjectKey, Proof, Secrets, UsagePlan};
use idm_types::{Redacted, Timestamp};

use super::Notes;
use super::held_keys::lower_keys;
use super::limits::{lower_limits, lower_usage_plans};
use super::password::{Stored, stored};
use super::restrictions::lower_access;
use super::token_service::{StoredSecret, lower_client, stored_secret};
use crate::{Cause, Condition, Object, ObjectId, Report, World};

/// All usable Credentials. If two have the same key or user name, the younger one is refused.
pub(crate) fn lower_credentials(world: &World, previous: &[UsagePlan], report: &mut Report) -> Credentials {
    let mut secrets = Secrets::default();
    // The names of Credentials by what no two may have.
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let (mut all, mut ended): (Vec<Arc<Credential>>, Vec<EndedKey>) = (vec![], vec![]);
    let mut objects: Vec<_> = world.credentials.iter().collect();
    objects.sort_by_key(|object| (object.meta.created.clone(), object.meta.name.clone()));
    for object in objects {
        let mut notes = Notes::new(report, ObjectId::new("Credential", &world.namespace, &object.meta.name));
        let Some(credential) = lower(world, object, &mut secrets, &mut ended, &mut notes) else { continue };
        let (id, path, what) = match &credential.proof {
            Proof::ApiKey { .. } => (String::new(), "spec.secretRef", "key: give each its own Secret"),
            // RFC 9068 §5: both become the `sub` of tokens, so no client may be taken for a user.
            Proof::Password { username, .. } => {
                (format!("name:{username}"), "spec.password.username", "user name or client id")
            }
            Proof::Person { user, federation } => {
                (format!("person:{}:{user}", federation.as_deref().unwrap_or_default()), "spec.person.user", "person")
            }
            Proof::Client(client) => {
                (format!("name:{}", client.client_id), "spec.oauthClient.clientId", "user name or client id")
            }
        };
        let ids = match &credential.proof {
            Proof::ApiKey { keys, .. } => keys.all().map(|(sha256, _)| format!("key:{sha256}")).collect(),
            _ => vec![id],
        };
        match ids.iter().find_map(|id| known.get(id)) {
            Some(first) => {
                let message = format!("Credential '{first}' already has the same {what}");
                notes.fail::<()>(path, Cause::Conflicted, message);
            }
            None => {
                known.extend(ids.into_iter().map(|id| (id, credential.key.name.clone())));
                all.push(Arc::new(credential));
            }
        }
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let ended = all_ended(world, &all, ended);
    Credentials { all, secrets, usage_plans: lower_usage_plans(world, previous, report), ended }
}

/// The keys that are refused for good: those of the register, and those of the objects themselves. A key that works
/// until its end is none of them.
fn all_ended(world: &World, all: &[Arc<Credential>], of_objects: Vec<EndedKey>) -> Vec<EndedKey> {
    let of_register = world.register.ended().map(|(sha256, ended)| EndedKey {
        sha256: sha256.to_owned(),
        credential: ObjectKey::new(&world.namespace, &ended.credential),
        end: ended.end,
    });
    let mut ended: BTreeMap<String, EndedKey> = BTreeMap::new();
    for key in of_register.chain(of_objects) {
        ended.insert(key.sha256.clone(), key);
    }
    for credential in all {
        if let Proof::ApiKey { keys, .. } = &credential.proof {
            keys.all().for_each(|(sha256, _)| drop(ended.remove(sha256)));
        }
    }
    ended.into_values().collect()
}

fn lower(
    world: &World,
    object: &Object<CredentialSpec>,
    secrets: &mut Secrets,
    ended: &mut Vec<EndedKey>,
    notes: &mut Notes<'_>,
) -> Option<Credential> {
    let CredentialSpec {
        owner,
        api_key,
        password,
        oauth_client,
        person,
        // Each proof reads its own.
        secret_ref: _,
        roles,
        attributes,
        access,
        limits,
        expire_time,
        suspend,
        rotation,
        revoked_keys,
    } = &object.spec;
    if api_key.is_none() && (rotation.is_some() || revoked_keys.is_some()) {
        let message = "`rotation` and `revokedKeys` must be used with an `apiKey`";
        return notes.fail("spec", Cause::Invalid, message);
    }
    let owner = match owner.as_ref().map(|owner| (&owner.user, &owner.application)) {
        None => None,
        Some((Some(user), None)) => Some(format!("user:{user}")),
        Some((None, Some(application))) => Some(format!("application:{application}")),
        Some(_) => {
            return notes.fail("spec.owner", Cause::Invalid, "owner must have exactly one of `user` and `application`");
        }
    };
    let expires = match expire_time.as_deref().map(|text| (text, Timestamp::parse_rfc3339(text))) {
        None => None,
        Some((_, Some(time))) => Some(time),
        Some((text, None)) => {
            return notes.fail(
                "spec.expireTime",
                Cause::Invalid,
                format!("'{text}' must be a time in UTC such as 2027-01-01T00:00:00Z"),
            );
        }
    };
    let proof = match (api_key, password, oauth_client, person) {
        (Some(api_key), None, None, None) => {
            let (keys, over) = lower_keys(world, object, api_key, notes)?;
            ended.extend(over);
            Proof::ApiKey { keys, any_form: api_key.sha256.is_some() }
        }
        (None, Some(_), None, None) => lower_password(world, object, notes)?,
        (None, None, None, Some(person)) => lower_person(world, person, notes)?,
        (None, None, Some(client), None) => {
            Proof::Client(Box::new(lower_client(world, object, client, secrets, notes)?))
        }
        _ => {
            return notes.fail(
                "spec",
                Cause::Invalid,
                "credential must have exactly one of `apiKey`, `password`, `oauthClient`, `person`",
            );
        }
    };
    let before = notes.failed;
    let access = access.as_ref().map_or_else(Access::default, |access| lower_access("spec.access", access, notes));
    let limits = lower_limits("spec.limits", limits.as_deref(), notes);
    if notes.failed && !before {
        return None;
    }
    Some(Credential {
        key: ObjectKey::new(&world.namespace, &object.meta.name),
        labels: object.meta.labels.clone(),
        proof,
        owner,
        roles: roles.clone().unwrap_or_default(),
        attributes: attributes.iter().flatten().map(|a| (a.name.clone(), a.value.clone())).collect(),
        access,
        limits,
        expires,
        suspended: suspend.unwrap_or(false),
    })
}

/// The password of a Credential whose Secret holds it in clear text.
pub(crate) fn clear_password(world: &World, object: &Object<CredentialSpec>) -> Option<Redacted<String>> {
    if object.spec.password.is_some() {
        return match stored(world, object) {
            Ok((_, Stored::Clear(password))) => Some(password),
            _ => None,
        };
    }
    object.spec.oauth_client.as_ref()?.client_secret.as_ref()?;
    match stored_secret(world, object) {
        Ok(StoredSecret::Clear(secret)) => Some(secret),
        _ => None,
    }
}

fn lower_person(world: &World, person: &PersonCredential, notes: &mut Notes<'_>) -> Option<Proof> {
    let PersonCredential { user, federation_ref } = person;
    let federation = match federation_ref {
        None => None,
        Some(reference) => match world.federations.iter().find(|federation| federation.meta.name == reference.name) {
            Some(found) => Some(found.meta.uid.clone()),
            None => {
                return notes.fail(
                    "spec.person.federationRef",
                    Cause::RefNotFound,
                    format!("Federation '{}' must exist in this namespace", reference.name),
                );
            }
        },
    };
    Some(Proof::Person { user: user.clone(), federation })
}

fn lower_password(world: &World, object: &Object<CredentialSpec>, notes: &mut Notes<'_>) -> Option<Proof> {
    let (username, stored) = match stored(world, object) {
        Ok(found) => found,
        Err((cause, message)) => return notes.fail("spec.secretRef", cause, message),
    };
    let phc = match stored {
        Stored::Hash(phc) => {
            if phc.starts_with("{SHA}") {
                let message = "`{SHA}` has no salt and costs nothing: whoever reads the hash finds most passwords";
                let object = notes.object.clone();
                let (condition, cause) = (Condition::ResolvedRefs, Cause::DangerousOption);
                notes.report.push(&object, "spec.secretRef", condition, cause, message);
            }
            Some(phc)
        }
        Stored::Clear(_) => world.password_hashes.get(&object.meta.name).cloned(),
    };
    match phc {
        Some(phc) => Some(Proof::Password { username, phc }),
        None => notes.fail("spec.secretRef", Cause::InvalidRef, "the password cannot be hashed"),
    }
}
