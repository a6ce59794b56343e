//! Keys, passwords and secrets for Credentials that have none yet, and the signing keys of token services.

use std::collections::BTreeMap;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_compile::{SIGNING_SECRET, Supply, World, missing_secrets, rotated, signing_secret};
use idm_types::{ApiKey, Redacted, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::MANAGER;
use crate::sealing::{Sealing, opened};

/// Secrets that one reconcile makes.
pub(crate) const MOST_MADE: usize = 250;
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Names the Credential whose key a Secret of the operator's holds.
pub(crate) const CREDENTIAL_LABEL: &str = "identity-manager.io/credential";

pub(crate) fn labels(more: (&str, &str)) -> BTreeMap<String, String> {
    [(MANAGED_BY, MANAGER), ("app.kubernetes.io/part-of", "idm"), more]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Makes a key or password and its Secret for each Credential whose Secret does not exist. An existing Secret is not
/// changed here, whoever wrote it; `keys.rs` replaces the key in one that was made here.
///
/// Returns the names of the Secrets that were made. There may be more to make: a reconcile makes some.
pub(crate) async fn supply(world: &mut World, client: &Client) -> Result<Vec<String>, kube::Error> {
    let mut made = Vec::new();
    let api: Api<Secret> = Api::namespaced(client.clone(), &world.namespace);
    for missing in missing_secrets(world).into_iter().take(MOST_MADE) {
        let mut random = [0; 32];
        if SystemRandom::new().fill(&mut random).is_err() {
            tracing::error!("the system gave no random bits; no key is made");
            return Ok(made);
        }
        let value = missing.value(&ApiKey::from_random(random));
        let Supply { credential, secret: name, field, .. } = missing;
        let owner = world
            .credentials
            .iter()
            .find(|known| known.meta.name == credential)
            .map(|known| crate::gateway::owner("Credential", &known.meta));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels((CREDENTIAL_LABEL, &credential))),
                // Kubernetes deletes the key with its Credential.
                owner_references: Some(owner.into_iter().collect()),
                ..ObjectMeta::default()
            },
            string_data: Some([(field.clone(), value.clone())].into()),
            ..Secret::default()
        };
        match api.create(&PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }, &secret).await {
            Ok(_) => {
                made.push(name.clone());
                world.secrets.insert(name, [(field, Redacted::new(value.into_bytes()))].into());
            }
            // Another writer made it in the meantime: that Secret is read in the next reconcile.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Makes and replaces the signing keys of token services, as their policies say, in the one Secret of the namespace
/// that is there for it. Keys that others supplied are only read. The write carries the version that was read, so that
/// two writers cannot lose each other's keys.
///
/// Returns whether the Secret was written.
pub(crate) async fn rotate(
    world: &mut World,
    client: &Client,
    sealing: Option<&Sealing>,
    now: Timestamp,
) -> anyhow::Result<bool> {
    let ours: Vec<_> = world
        .policies
        .iter()
        .filter_map(|policy| Some((policy, signing_secret(policy)?)))
        .filter(|(_, (name, _))| name == SIGNING_SECRET)
        .collect();
    if ours.is_empty() {
        return Ok(false);
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &world.namespace);
    let current = api.get_opt(SIGNING_SECRET).await?;
    if current.as_ref().is_some_and(|secret| secret.labels().get(MANAGED_BY).is_none_or(|by| by != MANAGER)) {
        return Ok(false);
    }
    let before: BTreeMap<String, ByteString> =
        current.as_ref().and_then(|secret| secret.data.clone()).unwrap_or_default();
    // The keys, and the bytes that are stored of them.
    let (mut keys, mut data) = (BTreeMap::new(), BTreeMap::new());
    for (policy, (_, field)) in &ours {
        let stored = before.get(field);
        let known = match stored {
            Some(stored) => Some(opened(sealing, &world.namespace, SIGNING_SECRET, field, &stored.0).await?),
            None => None,
        };
        let known = known.as_ref().map(|known| known.reveal().clone());
        let new = rotated(policy, known.as_deref(), now).map(String::into_bytes);
        if new.is_some() {
            tracing::info!(namespace = world.namespace, policy = policy.meta.name, "signing keys replaced");
        }
        let Some(value) = new.or(known).map(Redacted::new) else { continue };
        let bytes = match sealing {
            Some(sealing) => sealing.seal(&world.namespace, SIGNING_SECRET, field, value.reveal(), stored).await?,
            None => ByteString(value.reveal().clone()),
        };
        data.insert(field.clone(), bytes);
        keys.insert(field.clone(), value);
    }
    if data == before {
        return Ok(false);
    }
    // Without their policies the keys are not needed; tokens that are still in use end with them.
    let owners = ours.iter().map(|(policy, _)| crate::gateway::owner("IdentityPolicy", &policy.meta)).collect();
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let written = match current {
        None => {
            let labels = labels(("app.kubernetes.io/component", "signing-keys"));
            let metadata = ObjectMeta {
                name: Some(SIGNING_SECRET.into()),
                labels: Some(labels),
                owner_references: Some(owners),
                ..ObjectMeta::default()
            };
            api.create(&params, &Secret { metadata, data: Some(data), ..Secret::default() }).await
        }
        Some(mut secret) => {
            secret.metadata.owner_references = Some(owners);
            secret.metadata.managed_fields = None;
            api.replace(SIGNING_SECRET, &params, &Secret { data: Some(data), ..secret }).await
        }
    };
    match written {
        Ok(_) => {
            world.secrets.insert(SIGNING_SECRET.into(), keys);
            Ok(true)
        }
        // Another writer changed it in the meantime: that version is read in the next reconcile.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(true),
        Err(error) => Err(error.into()),
    }
}
