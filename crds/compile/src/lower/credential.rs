use std::collections::BTreeMap;

use idm_api::v1alpha1::{ApiKeyCredential, CredentialSpec, KeyReference, PersonCredential};
use idm_plan::{Access, Credential, Credentials, ObjectKey, Proof, Secrets, UsagePlan};
use idm_types::{ApiKey, Redacted, Timestamp, hex};
use sha2::{Digest, Sha256};

use super::limits::{lower_limits, lower_usage_plans};
use super::password::{NO_SECRET, Stored, stored};
use super::restrictions::lower_access;
use super::token_service::{StoredSecret, lower_client, stored_secret};
use super::{Notes, secret};
use crate::{Cause, Object, ObjectId, Report, World};

/// All usable Credentials. If two have the same key or user name, the younger one is refused.
pub(crate) fn lower_credentials(world: &World, previous: &[UsagePlan], report: &mut Report) -> Credentials {
    let mut secrets = Secrets::default();
    let mut known: BTreeMap<String, Credential> = BTreeMap::new();
    let mut objects: Vec<_> = world.credentials.iter().collect();
    objects.sort_by_key(|object| (object.meta.created.clone(), object.meta.name.clone()));
    for object in objects {
        let mut notes = Notes::new(report, ObjectId::new("Credential", &world.namespace, &object.meta.name));
        let Some(credential) = lower(world, object, &mut secrets, &mut notes) else { continue };
        let (id, path, what) = match &credential.proof {
            Proof::ApiKey { sha256 } => (format!("key:{sha256}"), "spec.secretRef", "key: give each its own Secret"),
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
        match known.get(&id) {
            Some(first) => {
                let message = format!("Credential '{}' already has the same {what}", first.key.name);
                notes.fail::<()>(path, Cause::Conflicted, message);
            }
            None => drop(known.insert(id, credential)),
        }
    }
    let mut all: Vec<Credential> = known.into_values().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    Credentials { all, secrets, usage_plans: lower_usage_plans(world, previous, report) }
}

fn lower(
    world: &World,
    object: &Object<CredentialSpec>,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Credential> {
    let CredentialSpec {
        owner,
        api_key,
        password,
        oauth_client,
        person,
        secret_ref,
        roles,
        attributes,
        access,
        limits,
        expire_time,
        suspend,
    } = &object.spec;
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
        (Some(ApiKeyCredential {}), None, None, None) => match secret_ref {
            Some(reference) => lower_key(world, reference, notes)?,
            None => return notes.fail("spec.secretRef", Cause::Invalid, NO_SECRET),
        },
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
        Stored::Hash(phc) => Some(phc),
        Stored::Clear(_) => world.password_hashes.get(&object.meta.name).cloned(),
    };
    match phc {
        Some(phc) => Some(Proof::Password { username, phc }),
        None => notes.fail("spec.secretRef", Cause::InvalidRef, "the password cannot be hashed"),
    }
}

fn lower_key(world: &World, secret_ref: &KeyReference, notes: &mut Notes<'_>) -> Option<Proof> {
    let field = secret_ref.key.as_deref().unwrap_or("key");
    let value = match secret::value(world, &secret_ref.name, field) {
        Ok(value) => value,
        Err((cause, why)) => return notes.fail("spec.secretRef", cause, why),
    };
    // The value itself must not get into the message.
    let text = std::str::from_utf8(value.reveal()).map(str::trim_end).unwrap_or_default();
    if !ApiKey::is_well_formed(text) {
        let message = format!(
            "Secret '{}', key '{field}', must hold an API key made by `idm credential new` (idm_ and a checksum)",
            secret_ref.name
        );
        return notes.fail("spec.secretRef", Cause::InvalidRef, message);
    }
    Some(Proof::ApiKey { sha256: hex(&Sha256::digest(text.as_bytes())) })
}
