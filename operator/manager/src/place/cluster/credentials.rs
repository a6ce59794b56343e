//! Keys of Credentials. The operator makes and revokes them; the person asks it by annotations, and who asked is on
//! record. A new key is in its Secret, and never here.

use std::time::Duration;

use idm_permission::{Kind, Verb};
use idm_types::Timestamp;
use kube::Client;
use serde_json::Value;

use super::reach;
use crate::credential::{ClusterCredentials, CredentialError};
use crate::failure::{Code, Failure};
use crate::manager::new_id;
use crate::place::draft::{credential_spec, failed};
use crate::wire::{MadeKey, NewCredential, OldKey, Revoked};

/// The operator is waited for so long.
const PATIENCE: Duration = Duration::from_secs(45);

/// A failure, with the permission where that is what is missing.
fn refused(error: CredentialError, verb: Verb, namespace: &str) -> Failure {
    refused_of(error, (verb, Kind::Credential), namespace)
}

/// The same for a kind.
pub(super) fn refused_of(error: CredentialError, (verb, kind): (Verb, Kind), namespace: &str) -> Failure {
    let told = |message: &str| idm_types::visible(message).into_owned();
    match &error {
        CredentialError::Api { code: 401, .. } => super::request::ended(),
        CredentialError::Api { code: 403, message, .. } => {
            let missing = reach::missing(verb, kind, namespace).as_guard_says(message);
            let told = told(message);
            // The guard says itself who may.
            match told.contains("who may: ") {
                true => Failure { missing: Some(Box::new(missing)), ..Failure::new(Code::Forbidden, told) },
                false => reach::forbidden(&told, missing),
            }
        }
        CredentialError::Api { code: 404, .. } => Failure::new(Code::NotFound, error.to_string()),
        CredentialError::Api { code: 409, .. } => Failure::new(Code::Conflict, error.to_string()),
        CredentialError::Api { code: 400 | 422, message, .. } => Failure::new(Code::Refused, told(message)),
        // A rotation that is under way is no failure of the request's words.
        _ => failed(error),
    }
}

/// A Credential, for which the operator makes a key in a Secret.
pub(super) async fn create(client: &Client, namespace: &str, new: NewCredential) -> Result<MadeKey, Failure> {
    let (name, spec) = credential_spec(new)?;
    let secret = spec["secretRef"]["name"].as_str().map(str::to_owned);
    let all = ClusterCredentials::with(client.clone(), namespace);
    all.create(&name, spec).await.map_err(|error| refused(error, Verb::Create, namespace))?;
    Ok(MadeKey { name, key: None, secret, id: None, old: None })
}

/// The next key.
pub(super) async fn rotate(
    client: &Client,
    namespace: &str,
    name: &str,
    overlap_seconds: u64,
) -> Result<MadeKey, Failure> {
    let all = ClusterCredentials::with(client.clone(), namespace);
    let request = new_id(Timestamp::now());
    let overlap = if overlap_seconds == 0 { "0".to_owned() } else { format!("{overlap_seconds}s") };
    let told = all.rotate(name, &request, &overlap, PATIENCE).await;
    let told = told.map_err(|error| refused(error, Verb::Rotate, namespace))?;
    let of = |state: &str| told.keys.iter().find(|key| key["state"] == state);
    let field = |key: &Value, name: &str| key[name].as_str().unwrap_or_default().to_owned();
    Ok(MadeKey {
        name: told.name.clone(),
        key: None,
        secret: told.secret.clone(),
        id: of("Active").map(|key| field(key, "id")),
        old: of("Overlapping").map(|key| OldKey { id: field(key, "id"), until_time: field(key, "untilTime") }),
    })
}

/// Refuses keys for good.
pub(super) async fn revoke(
    client: &Client,
    namespace: &str,
    name: &str,
    key: Option<&str>,
) -> Result<Revoked, Failure> {
    let all = ClusterCredentials::with(client.clone(), namespace);
    let revoked = all.revoke(name, key, PATIENCE).await;
    Ok(Revoked { revoked: revoked.map_err(|error| refused(error, Verb::Revoke, namespace))? })
}
