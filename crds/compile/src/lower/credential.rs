use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use idm_api::v1alpha1::{CredentialSpec, Owner, PersonCredential};
use idm_plan::{Access, CallerKey, Credential, Credentials, EndedKey, ObjectKey, Proof, Secrets, UsagePlan};
use idm_types::{Redacted, Timestamp};

use super::Notes;
use super::held_keys::lower_keys;
use super::hmac_jwt::lower_hmac_keys;
use super::limits::{lower_limits, lower_usage_plans};
use super::password::{Stored, stored};
use super::restrictions::lower_access;
use super::signature::lower_signature_keys;
use super::token_service::{StoredSecret, lower_client, stored_secret};
use crate::lowered::Lowering;
use crate::{Cause, Condition, Object, ObjectId, Report, World};

/// All usable Credentials. If two have the same key or user name, the younger one is refused.
pub(crate) fn lower_credentials(world: &World, previous: &[UsagePlan], report: &mut Report) -> Credentials {
    let (all, secrets, ended) = lower_each(world, report);
    let ended = all_ended(world, &all, ended);
    Credentials { all, secrets, usage_plans: lower_usage_plans(world, previous, report), ended }
}

/// A change of Credentials alone: the UsagePlans stay.
pub(crate) fn lower_credentials_alone(world: &World, report: &mut Report) -> Credentials {
    let (all, secrets, ended) = lower_each(world, report);
    let ended = all_ended(world, &all, ended);
    Credentials { all, secrets, ended, usage_plans: vec![] }
}

type Each = (Vec<Arc<Credential>>, Secrets, Vec<EndedKey>);

fn lower_each(world: &World, report: &mut Report) -> Each {
    let (mut secrets, mut ended) = (Secrets::default(), Vec::new());
    let mut lowered: Vec<(&Arc<Object<CredentialSpec>>, Arc<Credential>)> = Vec::with_capacity(world.credentials.len());
    let mut lowering = Lowering::begin(world);
    for object in &world.credentials {
        if let Some(known) = lowering.known(object) {
            lowered.push((object, known));
            continue;
        }
        let before = (report.findings().len(), ended.len(), secrets.len());
        let mut notes = Notes::new(report, ObjectId::new("Credential", &world.namespace, &object.meta.name));
        let Some(credential) = lower(world, object, &mut secrets, &mut ended, &mut notes) else { continue };
        let credential = Arc::new(credential);
        if before == (report.findings().len(), ended.len(), secrets.len()) {
            lowering.keep(object, &credential);
        }
        lowered.push((object, credential));
    }
    lowering.end();
    if have_conflicts(&lowered) {
        settle_conflicts(world, &mut lowered, report);
    }
    let mut all: Vec<Arc<Credential>> = lowered.into_iter().map(|(_, credential)| credential).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    (all, secrets, ended)
}

/// A value that no two Credentials may have: a kind, and two texts.
type Own<'c> = (u8, &'c str, &'c str);

fn own(credential: &Credential) -> impl Iterator<Item = Own<'_>> {
    let none: &[CallerKey] = &[];
    let (keys, signing, one) = match &credential.proof {
        Proof::ApiKey { keys, .. } => (Some(keys), none, None),
        // RFC 9068 §5: both become the `sub` of tokens, so no client may be taken for a user.
        Proof::Password { username, .. } => (None, none, Some((1, username.as_str(), ""))),
        Proof::Client(client) => (None, none, Some((1, client.client_id.as_str(), ""))),
        Proof::Person { user, federation } => {
            (None, none, Some((2, user.as_str(), federation.as_deref().unwrap_or_default())))
        }
        Proof::Signature { keys } => (None, keys.as_slice(), None),
        Proof::HmacJwt { issuer, keys } => (None, keys.as_slice(), issuer.as_deref().map(|issuer| (4, issuer, ""))),
    };
    let kind = if matches!(credential.proof, Proof::Signature { .. }) { 3 } else { 4 };
    let keys = keys.into_iter().flat_map(|keys| keys.all()).map(|(sha256, _)| (0, sha256, ""));
    keys.chain(signing.iter().map(move |key| (kind, key.id.as_str(), ""))).chain(one)
}

fn have_conflicts(all: &[(&Arc<Object<CredentialSpec>>, Arc<Credential>)]) -> bool {
    let mut known: HashSet<Own<'_>> = HashSet::with_capacity(all.len());
    !all.iter().flat_map(|(_, credential)| own(credential)).all(|own| known.insert(own))
}

/// The younger of two is refused.
fn settle_conflicts(
    world: &World,
    all: &mut Vec<(&Arc<Object<CredentialSpec>>, Arc<Credential>)>,
    report: &mut Report,
) {
    let mut by_age: Vec<_> = std::mem::take(all);
    by_age.sort_by(|(a, _), (b, _)| (&a.meta.created, &a.meta.name).cmp(&(&b.meta.created, &b.meta.name)));
    // The names of Credentials by what no two may have.
    let mut known: HashMap<(u8, String, String), String> = HashMap::new();
    for (object, credential) in by_age {
        let ids: Vec<_> = own(&credential).map(|(kind, a, b)| (kind, a.to_owned(), b.to_owned())).collect();
        let Some(first) = ids.iter().find_map(|id| known.get(id)) else {
            known.extend(ids.into_iter().map(|id| (id, credential.key.name.clone())));
            all.push((object, credential));
            continue;
        };
        let (path, what) = match &credential.proof {
            Proof::ApiKey { .. } => ("spec.secretRef", "key: give each its own Secret"),
            Proof::Password { .. } => ("spec.password.username", "user name or client id"),
            Proof::Person { .. } => ("spec.person.user", "person"),
            Proof::Client(_) => ("spec.oauthClient.clientId", "user name or client id"),
            Proof::Signature { .. } => ("spec.signature.keys", "name of a key"),
            Proof::HmacJwt { .. } => ("spec.hmacJwt", "name of a key or issuer"),
        };
        let message = format!("Credential '{first}' already has the same {what}");
        let mut notes = Notes::new(report, ObjectId::new("Credential", &world.namespace, &object.meta.name));
        notes.fail::<()>(path, Cause::Conflicted, message);
    }
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
    if ended.is_empty() {
        return vec![];
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
        signature,
        hmac_jwt,
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
    let owner = match owner {
        Some(owner) => Some(lower_owner(owner, notes)?),
        None => None,
    };
    let expires = match expire_time {
        Some(text) => Some(lower_end("spec.expireTime", text, notes)?),
        None => None,
    };
    let proof = match (api_key, password, oauth_client, person, signature, hmac_jwt) {
        (Some(api_key), None, None, None, None, None) => {
            let (keys, over) = lower_keys(world, object, api_key, notes)?;
            ended.extend(over);
            Proof::ApiKey { keys, any_form: api_key.sha256.is_some() }
        }
        (None, Some(_), None, None, None, None) => lower_password(world, object, notes)?,
        (None, None, None, Some(person), None, None) => lower_person(world, person, notes)?,
        (None, None, Some(client), None, None, None) => {
            Proof::Client(Box::new(lower_client(world, object, client, secrets, notes)?))
        }
        (None, None, None, None, Some(signature), None) => {
            Proof::Signature { keys: lower_signature_keys(world, signature, secrets, notes)? }
        }
        (None, None, None, None, None, Some(jwt)) => lower_hmac_keys(world, jwt, secrets, notes)?,
        _ => {
            let message = "credential must have exactly one of `apiKey`, `password`, `oauthClient`, `person`, \
                           `signature`, `hmacJwt`";
            return notes.fail("spec", Cause::Invalid, message);
        }
    };
    let before = notes.failed;
    let access = access.as_ref().map(|access| lower_access("spec.access", access, notes));
    let access = access.filter(|access| !Access::is_open(access)).map(Box::new);
    let limits = lower_limits("spec.limits", limits.as_deref(), notes);
    if notes.failed && !before {
        return None;
    }
    Some(Credential {
        key: ObjectKey::new(&world.namespace, &object.meta.name),
        labels: object.meta.labels.clone().into(),
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

pub(super) fn lower_end(path: &str, text: &str, notes: &mut Notes<'_>) -> Option<Timestamp> {
    let wrong = || format!("'{text}' must be a time in UTC such as 2027-01-01T00:00:00Z");
    Timestamp::parse_rfc3339(text).or_else(|| notes.fail(path, Cause::Invalid, wrong()))
}

fn lower_owner(owner: &Owner, notes: &mut Notes<'_>) -> Option<String> {
    match (&owner.user, &owner.application) {
        (Some(user), None) => Some(format!("user:{user}")),
        (None, Some(application)) => Some(format!("application:{application}")),
        _ => notes.fail("spec.owner", Cause::Invalid, "owner must have exactly one of `user` and `application`"),
    }
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
